"""Whether a body wants its core, by the record of who came to the core and who left it. Pure."""

from collections.abc import Collection
from typing import NamedTuple, Protocol, TypeVar

B = TypeVar("B")


class Switches(Protocol[B]):
    """The record of who came to a core, and who left it."""

    def follow(self, body: B) -> None:
        """Look at *body*, which is on the core, and has started."""

    def leave(self, body: B) -> None:
        """Look at *body* no more. Harmless when it is not followed."""

    def read(self) -> Collection[B] | None:
        """Take in what happened since the last time; return who had the core. None: look at each yourself."""


class Absence(NamedTuple):
    """How a body leaves its core unused."""

    since: int
    """When the last thread of it that wanted the core left, in ns of the clock; 0: one wants it; -1: unknown."""
    slept: int
    """For how long none wanted it, while the body could run, since it is there, in ns."""


class Presence:
    """The threads of one body that have the core, or wait for it.

    Only those count that came or left since the body could run, or since the record is whole: until then nothing is
    known. One that wakes counts when it has the core.
    """

    __slots__ = ("_begins", "_held", "_known", "_left", "_slept", "_threads", "lent")

    def __init__(self, *, held: bool) -> None:
        """Know nothing yet; the body is stopped now if *held*."""
        self._threads: set[int] = set()
        self._known, self._held = False, held
        self._begins = self._left = self._slept = self.lent = 0
        """`lent`: how long the body's children had the core, stopped or not, in ns."""

    def came(self, thread: int, at: int) -> bool:
        """Note that *thread* has the core; return whether that counts."""
        if self._held or at < self._begins:
            return False
        if self._left:
            self._slept += at - self._left
            self._left = 0
        self._known = True
        self._threads.add(thread)
        return True

    def went(self, thread: int, at: int) -> None:
        """Note that *thread* has left the core, and waits for something else."""
        if self._held or at < self._begins:
            return
        self._known = True
        self._threads.discard(thread)
        if not self._threads and not self._left:
            self._left = at

    def hold(self, at: int) -> None:
        """Note that the body is stopped from now on: who leaves does not do so by itself."""
        self.lose(at)
        self._held = True

    def free(self, at: int) -> None:
        """Note that it runs again."""
        if self._held:
            self._held, self._begins = False, at

    def lose(self, at: int) -> None:
        """Note that the record has a gap, which ends now."""
        if self._left:
            self._slept += at - self._left
            self._left = 0
        self._threads.clear()
        self._known, self._begins = False, at

    def absence(self, now: int) -> Absence:
        """Return how it leaves the core unused at *now*."""
        since = self._left if self._known else -1
        return Absence(since, self._slept + (now - self._left if self._left else 0))
