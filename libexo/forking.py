"""Forks: a child is no environment, although it has a copy of all that makes its parent one.

If it used that copy, it would speak for its parent over the same sockets and rings. So in the child every object
that stands for the environment refuses, and says so; none is closed in a way that the parent could notice.
The child may attach again, like any other process.
"""

import os
from typing import Any, NoReturn, Protocol
from weakref import WeakSet

from libexo.errors import ForkedProcess


class Forks(Protocol):
    """An object that is to refuse in a child."""

    def forked(self) -> None:
        """Refuse: the process was forked from the one that this stands for."""


_environments: WeakSet[Forks] = WeakSet()
_KEPT: list[object] = []
"""The contents of the parent's objects: kept for ever, because ending them could affect the parent."""
_watching: list[bool] = []


class Refusing:
    """A parent's object in the child: it refuses every request."""

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse."""
        raise ForkedProcess(vars(self)["_refusal"])


def watch(environment: Forks) -> None:
    """Have *environment* refuse in every process that is forked from this one."""
    _environments.add(environment)
    if not _watching:
        _watching.append(True)
        os.register_at_fork(after_in_child=_in_child)


def refuse(thing: object, why: str) -> None:
    """Make *thing* refuse; its contents are kept and not used."""
    held: dict[str, Any] = vars(thing)
    _KEPT.append(held.copy())
    held.clear()
    held["_refusal"] = why
    thing.__class__ = Refusing  # others refer to the object, so it changes itself


def _in_child() -> None:
    for environment in list(_environments):
        environment.forked()
    _environments.clear()
