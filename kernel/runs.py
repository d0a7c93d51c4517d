"""Free runs of numbered frames that never touch: where each ends, and which have a size. Pure bookkeeping.

The smallest run with room is found at once, however many there are: few sizes differ, for their sum is all of RAM.
"""

from bisect import bisect_left, insort

_LOOKED = 1 << 16
"""Frames looked at in one step."""


class FreeRuns:
    """Which of the frames 0..count-1 are free."""

    def __init__(self, count: int) -> None:
        """Start with all *count* frames free."""
        self.free = count
        self._taken = bytearray(count)
        self._ends: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        self._sizes: list[int] = []
        self._of_size: dict[int, dict[int, None]] = {}
        self._add(0, count)

    def find(self, count: int, low: int, high: int) -> tuple[int | None, int]:
        """Return where *count* free frames begin in low..high-1, or None; and where to go on, *high* at the end.

        Where the smallest run with room is not inside, some frames are looked at, the lowest first.
        """
        index = bisect_left(self._sizes, count)
        if index == len(self._sizes):
            return None, high
        runs = self._of_size[self._sizes[index]]
        start, _ = runs.popitem()  # which, unlike to look at the last, takes no longer when many were removed
        runs[start] = None
        if not low <= start <= high - count:
            start = self._taken.find(bytes(count), low, min(low + _LOOKED + count - 1, high))
        return (start, start) if start >= 0 else (None, min(low + _LOOKED, high))

    def covers(self, first: int, count: int) -> bool:
        """Say whether all of *count* frames from *first* are free."""
        return first + count <= len(self._taken) and self._taken.find(1, first, first + count) < 0

    def take(self, first: int, count: int) -> None:
        """Make frames that are all free (see `covers`) taken."""
        start = first if first in self._ends else self._taken.rfind(1, 0, first) + 1
        end = self._remove(start)
        self._taken[first : first + count] = b"\1" * count
        self._add(start, first)
        self._add(first + count, end)
        self.free -= count

    def give(self, first: int, count: int) -> None:
        """Make taken frames free, and join the run with its neighbours."""
        self._taken[first : first + count] = bytes(count)
        start, end = self._starts.get(first, first), first + count
        if start < first:
            self._remove(start)
        self._add(start, self._remove(end) if end in self._ends else end)
        self.free += count

    def _add(self, start: int, end: int) -> None:
        if start < end:
            self._ends[start], self._starts[end] = end, start
            if end - start not in self._of_size:
                insort(self._sizes, end - start)
            self._of_size.setdefault(end - start, {})[start] = None

    def _remove(self, start: int) -> int:
        end = self._ends.pop(start)
        del self._starts[end], self._of_size[end - start][start]
        if not self._of_size[end - start]:
            del self._of_size[end - start], self._sizes[bisect_left(self._sizes, end - start)]
        return end
