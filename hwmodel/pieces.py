"""The memory of an extent in pieces, each memory of its own, so that a program can map some and not the others."""

from bisect import bisect_right
from collections.abc import Iterator

from hwmodel.machine import Backing, Deed


class Pieces:
    """Pieces of memory in a row, first all in one."""

    def __init__(self, backing: Backing, pages: int) -> None:
        """Start with the one piece *backing*, of *pages* pages."""
        self._starts = [0, pages]
        """The first page of each, and of what is behind the last."""
        self._backings = [backing]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._backings)

    def at(self, page: int) -> tuple[Backing, range]:
        """Return the piece that *page* is in, and its pages."""
        found = bisect_right(self._starts, page)
        return self._backings[found - 1], range(*self._starts[found - 1 : found + 1])

    def runs(self, pages: range) -> Iterator[tuple[Backing, range]]:
        """Yield the pieces that *pages* are in, and which of them are in each."""
        at = pages.start
        while at < pages.stop:
            backing, piece = self.at(at)
            yield backing, range(at, min(piece.stop, pages.stop))
            at = piece.stop

    def copy(self, pages: range) -> Deed:
        """Copy the contents of those in *pages*: as `Backing.copy`."""
        for backing, _ in self.runs(pages):
            yield from backing.copy()

    def uncopied(self, pages: range) -> list[range]:
        """Return those of *pages* of which there is no copy."""
        return [run for backing, run in self.runs(pages) if not backing.copied]

    def forget_copies(self) -> None:
        """Free the copies."""
        for backing in self._backings:
            backing.forget_copy()

    def replace(self, pages: range) -> Deed:
        """Let those in *pages* become their copies, or empty: as `Backing.replace`."""
        for backing, _ in self.runs(pages):
            yield from backing.replace()

    def punch(self, pages: range) -> tuple[range, Deed]:
        """Return those of *pages* that are in the piece of the first, and what takes them from all."""
        backing, piece = self.at(pages.start)
        run = range(pages.start, min(pages.stop, piece.stop))
        return run, backing.punch(run.start - piece.start, len(run))

    def release(self) -> Deed:
        """Take all from all, and free it."""
        for backing in self._backings:
            yield from backing.release()

    def cuts(self, page: int, least: int) -> list[int]:
        """Return at which pages to split for one to begin at *page*, the last first; none if one does, or all ends.

        What lies behind is moved by that, so it is split on, into ever larger ones from *least* pages on: parts
        that are made in order of their pages then move each a few times, and not all that follow each time.
        """
        found = bisect_right(self._starts, page)
        if self._starts[found - 1] == page:
            return []
        cuts = []
        while page < self._starts[found]:
            cuts.append(page)
            page, least = page + least, 2 * least
        return cuts[::-1]

    def split(self, page: int) -> tuple[range, Backing, Deed, Deed]:
        """Return the pages of a piece from *page* on, memory of their own, to `add`, and what moves them there.

        That is what copies them, and what takes them from all then. Raises Exhausted, as `Backing.split`.
        """
        backing, pages = self.at(page)
        return range(page, pages.stop), *backing.split(page - pages.start)

    def add(self, page: int, made: Backing) -> None:
        """Have that begin at *page*."""
        found = bisect_right(self._starts, page)
        self._starts.insert(found, page)
        self._backings.insert(found, made)
