"""Free runs of numbered frames: a sorted list of intervals that never touch. Pure bookkeeping."""

from bisect import bisect_left, bisect_right


class FreeRuns:
    """Which of the frames 0..count-1 are free."""

    def __init__(self, count: int) -> None:
        """Start with all *count* frames free."""
        self._starts = [0] if count else []
        self._ends = [count] if count else []
        self.free = count

    def find(self, count: int, low: int, high: int, most: int) -> tuple[int | None, int]:
        """Return the first frame of the lowest free run of *count* frames inside low..high-1, or None.

        At most *most* runs are examined; the second number is where to go on, *high* at the end.
        """
        index = max(0, bisect_right(self._starts, low) - 1)
        for each in range(index, min(index + most, len(self._starts))):
            start, end = max(self._starts[each], low), min(self._ends[each], high)
            if end - start >= count:
                return start, start
            if end >= high:
                return None, high
        index += most
        return None, self._starts[index] if index < len(self._starts) else high

    def covers(self, first: int, count: int) -> bool:
        """Say whether all of *count* frames from *first* are free."""
        index = bisect_right(self._starts, first) - 1
        return index >= 0 and first + count <= self._ends[index]

    def take(self, first: int, count: int) -> None:
        """Make frames that are all free (see `covers`) taken."""
        index = bisect_right(self._starts, first) - 1
        start, end, last = self._starts[index], self._ends[index], first + count
        rest = [(a, b) for a, b in ((start, first), (last, end)) if a < b]
        self._starts[index : index + 1] = [a for a, _ in rest]
        self._ends[index : index + 1] = [b for _, b in rest]
        self.free -= count

    def give(self, first: int, count: int) -> None:
        """Make taken frames free, and join the run with its neighbours."""
        index = bisect_left(self._starts, first)
        start, end, low, high = first, first + count, index, index
        if index > 0 and self._ends[index - 1] == first:
            low, start = index - 1, self._starts[index - 1]
        if index < len(self._starts) and self._starts[index] == end:
            high, end = index + 1, self._ends[index]
        self._starts[low:high] = [start]
        self._ends[low:high] = [end]
        self.free += count
