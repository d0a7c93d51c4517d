"""Slots of the store: each holds a page. An object has one for each of its pages, whether it is used or not.

So a store that has taken an object never runs out while that is used, whatever others do. They are a run where a
gap is large enough: which slot a page is in need not be written down then, and pages that lie side by side are read
and written at once. Where no gap is, they are several runs, from the largest gaps: a family that scatters
small objects over the store keeps no other from using what is left.

How much a family may have of the store is as with RAM: half of it, and near the end no more than it leaves.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from itertools import accumulate

from servers.memory.policy import ROOM_DIVISOR, MemoryRefused, QuotaExceeded, must_leave

Piece = tuple[int, int]
"""A first slot, and how many."""
MOST_PIECES = 2048
"""Runs there may be: a successor has to find them."""


class StoreFull(MemoryRefused):
    """The swap file has no room for so many pages."""


class Slots:
    """Runs of slots that are taken."""

    def __init__(self, total: int) -> None:
        """Begin with *total* free slots."""
        self.total = total
        self.free = total
        self._taken: list[Piece] = []
        """In order."""

    @property
    def pieces(self) -> int:
        """How many runs are taken."""
        return len(self._taken)

    def find(self, count: int) -> list[Piece]:
        """Return *count* slots that are free, in as few runs as there can be, and in order. Raises StoreFull."""
        if count > self.free:
            raise StoreFull(
                f"{count} pages asked for, {self.free} of {self.total} are free: "
                "raise swap_size in [machine], or release some"
            )
        gaps = sorted(self._gaps(), key=lambda gap: gap[1])
        for start, length in gaps:
            if length >= count:
                return [(start, count)]
        found: list[Piece] = []
        while count:
            start, length = gaps.pop()
            found.append((start, min(length, count)))
            count -= found[-1][1]
        return sorted(found)

    def _gaps(self) -> Iterator[Piece]:
        end = 0
        for start, length in [*self._taken, (self.total, 0)]:
            if start > end:
                yield end, start - end
            end = start + length

    def mark(self, pieces: Sequence[Piece]) -> None:
        """Take these."""
        for piece in pieces:
            insort(self._taken, piece)
            self.free -= piece[1]

    def give(self, pieces: Sequence[Piece]) -> None:
        """Give back what was taken."""
        for piece in pieces:
            self._taken.remove(piece)
            self.free += piece[1]


def check_quota(what: str, own: int, wanted: int, quota: int) -> None:
    """Raise QuotaExceeded unless a family with *own* may have *wanted* more of a *quota*."""
    if own + wanted > quota:
        raise QuotaExceeded(
            f"{own} of {quota} {what} are the caller's family's, {wanted} more asked for: release some first"
        )


def check_left(what: str, own: int, wanted: int, free: int, total: int) -> None:
    """Raise QuotaExceeded unless a family with *own* of *total* leaves enough of the *free* ones to others."""
    if must_leave(own + wanted, free - wanted, total // ROOM_DIVISOR):
        raise QuotaExceeded(
            f"{own} {what} are the caller's family's, {wanted} more asked for, {free} of {total} free: "
            "near the end it must leave as many to others as it has"
        )


class Place:
    """Where the pages of an object are in the store, and the marks of those slots."""

    def __init__(self, pieces: Sequence[Piece], marks: memoryview, pages: int) -> None:
        """Be in *pieces*, of which *marks* has a byte for each slot; no pieces: it needs none."""
        self.pages = pages
        self._pieces = pieces
        self._ends = list(accumulate(length for _, length in pieces))
        """The page behind each."""
        self.marks: memoryview | Scattered = memoryview(bytearray(0 if pieces else pages))
        if len(pieces) == 1:
            self.marks = marks[pieces[0][0] : sum(pieces[0])]
        elif pieces:
            self.marks = Scattered(self, marks)

    def slot(self, page: int) -> int:
        """Return the slot of *page*."""
        at = bisect_right(self._ends, page)
        start, length = self._pieces[at]
        return start + page - (self._ends[at] - length)

    def side_by_side(self, run: range) -> Iterator[range]:
        """Yield the parts of *run* whose slots lie side by side."""
        first = run.start
        while first < run.stop:
            end = min(self._ends[bisect_right(self._ends, first)], run.stop)
            yield range(first, end)
            first = end


class Scattered:
    """Marks of slots that are no single run, by page."""

    def __init__(self, place: Place, marks: memoryview) -> None:
        """Find them by *place*."""
        self._place, self._marks = place, marks

    def __getitem__(self, page: int) -> int:
        """Return that of *page*."""
        return self._marks[self._place.slot(page)]

    def __setitem__(self, page: int, mark: int) -> None:
        """Set that of *page*."""
        self._marks[self._place.slot(page)] = mark
