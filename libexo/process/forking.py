"""Forks in a library: a program that begins at a function, with copies of its parent's regions."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from libexo.process.starting import Budget, Child, Passed, begin, kill_on_error, reference, spawn

if TYPE_CHECKING:
    from libexo.environment import Environment


@runtime_checkable
class Copied(Protocol):
    """What is copied for a child (`libexo.regions.Region`)."""

    def given(self, thread: int) -> Passed:
        """Return a copy of it as it is now, for the program of *thread*."""


def fork(
    environment: "Environment",
    function: Callable[..., object],
    *arguments: object,
    name: str = "",
    budget: Budget | None = None,
) -> Child:
    """Start a program that calls *function* with its environment and *arguments*; of regions it has copies.

    Each is of one moment of this call, and the child's own, to be written, copied and forked again. All else is as
    of `process.start`. Raises ValueError, RemoteError, TrapRefused, NoPartner.
    """
    reference(function)
    thread = spawn(environment, function, name=name, paged=True, budget=budget)
    with kill_on_error(environment, thread):
        given = [each.given(thread) if isinstance(each, Copied) else each for each in arguments]
        begin(environment, thread, function, *given)
    return Child(environment, thread)
