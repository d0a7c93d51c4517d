"""2Q, in full: pages that are used once leave early, those that come back stay (T. Johnson, D. Shasha, 1994).

New pages wait in a first queue. A page that falls out of it is remembered, as a number only; if it is touched again
while it is, it goes to the main queue, which is LRU. So a scan of more pages than there are frames leaves the main
queue alone. The sizes are those the paper recommends: a quarter of the frames, and numbers for a half of them.
"""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain
from typing import ClassVar

from servers.memory.policies.policy import Policy

_FIRST, _REMEMBERED = 4, 2
"""Divisors of the frames (the paper's Kin and Kout)."""


class TwoQueue(Policy):
    """The queues A1in, A1out (numbers of pages that went) and Am of the paper."""

    name: ClassVar[str] = "2q"

    def __init__(self, frames: int) -> None:
        """Begin with no page."""
        super().__init__(frames)
        self._first: OrderedDict[int, None] = OrderedDict()
        self._remembered: OrderedDict[int, None] = OrderedDict()
        self._main: OrderedDict[int, None] = OrderedDict()
        self._most_first, self._most_remembered = max(1, frames // _FIRST), max(1, frames // _REMEMBERED)

    def inserted(self, page: int) -> None:
        """Put it into the main queue, if it went a short while ago, else into the first."""
        if page in self._remembered:
            del self._remembered[page]
            self._main[page] = None
        else:
            self._first[page] = None

    def referenced(self, page: int) -> None:
        """Put it last in the main queue; uses that follow its coming are of the same business, and say nothing."""
        if page in self._main:
            self._main.move_to_end(page)

    def victims(self) -> Iterator[int]:
        """Yield from the first queue, if that is longer than it should be, then from the main one."""
        if len(self._first) > self._most_first or not self._main:
            return chain(self._first, self._main)
        return chain(self._main, self._first)

    def __contains__(self, page: int) -> bool:
        """Say whether it is in a queue."""
        return page in self._first or page in self._main

    def removed(self, page: int) -> None:
        """Remember its number, if it was in the first queue."""
        if page in self._main:
            del self._main[page]
            return
        del self._first[page]
        self._remembered[page] = None
        if len(self._remembered) > self._most_remembered:
            self._remembered.popitem(last=False)
