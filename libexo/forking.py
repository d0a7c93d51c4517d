"""Forks: a child is no environment, though it has a copy of everything its parent was one by.

If it used that copy, it would speak for its parent over the same sockets and rings. So in the child every object
that stands for the environment refuses, and says so; nothing of it is closed in a way that the parent could notice.
The child may attach anew, as any other process.
"""

import os
from typing import Any, NoReturn, Protocol
from weakref import WeakSet

from libexo.errors import ForkedProcess


class Forks(Protocol):
    """Something that is to refuse in a child."""

    def forked(self) -> None:
        """The process was forked from the one that this stands for."""


_environments: WeakSet[Forks] = WeakSet()
_KEPT: list[object] = []
"""What the parent's copies held: kept for ever, for to end it could be felt by the parent."""
_watching: list[bool] = []


class Refusing:
    """What an object of the parent's is in the child: whatever is asked of it is refused."""

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse."""
        raise ForkedProcess(vars(self)["_refusal"])


def watch(environment: Forks) -> None:
    """Have *environment* refused in every process that is forked from this one."""
    _environments.add(environment)
    if not _watching:
        _watching.append(True)
        os.register_at_fork(after_in_child=_in_child)


def refuse(thing: object, why: str) -> None:
    """Make *thing* refuse; what it held is kept and not used."""
    held: dict[str, Any] = vars(thing)
    _KEPT.append(held.copy())
    held.clear()
    held["_refusal"] = why
    thing.__class__ = Refusing  # the object is known to many, so it must change itself


def _in_child() -> None:
    for environment in list(_environments):
        environment.forked()
    _environments.clear()
