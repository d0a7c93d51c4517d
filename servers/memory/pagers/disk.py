"""The queue of the disk: each family that waits has as much of it as any other, however many objects it has.

It is start-time fair queueing (P. Goyal et al., 1996) with a store that has few transfers at a time (W. Jin et al.,
2004), enough that it need not wait for the next one. A transfer is tagged, as it is asked for, with the time at
which it would begin if its family had a disk of its own, and all are begun in the order of their tags.

An object has one transfer at a time, of at most as many pages as come for a fault: so what a family has waiting is
bounded by its objects, and what it takes at a time by that.
"""

from collections import deque
from collections.abc import Callable
from functools import partial

from libexo.host.base import Backing, Done

DEPTH = 2
"""Transfers that the store has at a time: one under way, and the next."""
_EACH = 16 * 4096
"""Bytes that take about as long as to begin a transfer."""

_Begin = Callable[[Done], object]
"""Begins a transfer, and has what it is given called with its outcome."""


class Disk:
    """A store, and the transfers that wait for it."""

    def __init__(self, backing: Backing) -> None:
        """Transfer to and from *backing*."""
        self._backing = backing
        self._waiting: dict[int, deque[tuple[int, _Begin, Done]]] = {}
        """Of each family that waits, tags and what they are of."""
        self._ends: dict[int, int] = {}
        """The time at which each would have had all it asked for, where that is still to come."""
        self._time = 0
        """The tag of what was begun last: bytes, of a disk of one's own."""
        self._under_way = 0
        self._begins = False

    def read(self, family: int, offset: int, view: memoryview, at: int, size: int, done: Done) -> None:
        """Read as `Backing.read` does: at once what needs no disk, else when it is the turn of *family*."""
        if self._backing.read_now(offset, view, at, size):
            done(0)
        else:
            self._ask(family, size, partial(self._backing.read, offset, view, at, size), done)

    def write(self, family: int, offset: int, view: memoryview, at: int, size: int, done: Done) -> None:
        """Write as `Backing.write` does, when it is the turn of *family*."""
        self._ask(family, size, partial(self._backing.write, offset, view, at, size), done)

    def _ask(self, family: int, size: int, begin: _Begin, done: Done) -> None:
        if family not in self._ends:
            self._ends = {each: end for each, end in self._ends.items() if end > self._time}
        start = max(self._time, self._ends.get(family, 0))
        self._ends[family] = start + _EACH + size
        self._waiting.setdefault(family, deque()).append((start, begin, done))
        self._go_on()

    def _go_on(self) -> None:
        """Begin what there is room for. What ends at once, since the host refuses it, makes room, too."""
        if self._begins:
            return
        self._begins = True
        try:
            while self._waiting and self._under_way < DEPTH:
                begin, done = self._next()
                self._under_way += 1
                begin(partial(self._ended, done))
        finally:
            self._begins = False

    def _next(self) -> tuple[_Begin, Done]:
        """Return what is to be begun, which does not wait any more."""
        family = min(self._waiting, key=self._first)
        self._time, begin, done = self._waiting[family].popleft()
        if not self._waiting[family]:
            del self._waiting[family]
        return begin, done

    def _first(self, family: int) -> int:
        """Return the tag of what *family* has waited for longest."""
        return self._waiting[family][0][0]

    def _ended(self, done: Done, outcome: int) -> None:
        self._under_way -= 1
        done(outcome)  # it may ask for more, whose turn it may be
        self._go_on()
