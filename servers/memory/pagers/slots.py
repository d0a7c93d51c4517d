"""Slots of the store: each holds a page. An object has a run of them, one for each of its pages.

So page and slot differ by a constant: which slot a page is in need not be written down, pages that lie side by side
are read and written at once, and a store that has taken an object never runs out while it is used.
"""

from bisect import insort

from servers.memory.policy import MemoryRefused


class StoreFull(MemoryRefused):
    """The swap file has no room for so many pages."""


class Slots:
    """Runs of slots that are taken."""

    def __init__(self, total: int) -> None:
        """Begin with *total* free slots."""
        self.total = total
        self.free = total
        self._taken: list[tuple[int, int]] = []
        """First and length, in order."""

    def take(self, count: int) -> int:
        """Return the first of *count* slots in a row: of the first gap that is large enough. Raises StoreFull."""
        first = 0
        for start, length in self._taken:
            if start - first >= count:
                break
            first = start + length
        if self.total - first < count:
            raise StoreFull(
                f"{count} pages in a row asked for, {self.free} of {self.total} are free: "
                "raise swap_size in [machine], or release some"
            )
        self.mark(first, count)
        return first

    def mark(self, first: int, count: int) -> None:
        """Take these, which a predecessor had taken."""
        insort(self._taken, (first, count))
        self.free -= count

    def give(self, first: int, count: int) -> None:
        """Give back what was taken."""
        self._taken.remove((first, count))
        self.free += count
