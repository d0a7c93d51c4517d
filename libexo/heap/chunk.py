"""Chunks, the extents a heap carves, and spans, the runs of their pages that are cut into blocks of one size.

A chunk gives out runs of a power of two of pages, each at a multiple of its length, and joins a returned run with
its other half (a buddy system). A span has a list of its free places, and the last that was freed is
given next. Pure bookkeeping: the caller excludes other callers.
"""

from typing import TYPE_CHECKING, Final

from kernel.abi.limits import FRAME_SIZE

if TYPE_CHECKING:
    from libexo.extent import Extent

LEAST: Final = 16
"""Bytes of the smallest block; every block begins at a multiple of them."""
STEPS: Final = 4
"""Sizes of blocks between a power of two and the next."""
PLACES: Final = 8
"""Blocks of a span, if a quarter of a chunk is enough for them."""
_SMALL = 1024
"""Up to here the size of a block is looked up in a table."""


def _rounded(size: int) -> int:
    shift = max((size - 1).bit_length() - STEPS.bit_length(), LEAST.bit_length() - 1)
    return ((size - 1 >> shift) + 1) << shift


_TABLE: Final = tuple(_rounded(max(LEAST, at * LEAST)) for at in range(_SMALL // LEAST + 1))


def rounded(size: int) -> int:
    """Return the block size for *size* bytes: at most a quarter more, from 64 bytes on."""
    return _TABLE[(size + LEAST - 1) // LEAST] if size <= _SMALL else _rounded(size)


def pages_of(size: int) -> int:
    """Return how many pages *size* bytes take: a power of two."""
    return 1 << (-(-size // FRAME_SIZE) - 1).bit_length()


class Chunk:
    """An extent, mapped, with its free pages."""

    __slots__ = ("_free", "extent", "is_lost", "live", "pages", "spans", "view")

    def __init__(self, extent: "Extent", view: memoryview, *, apart: bool = False) -> None:
        """Start with all of *extent* free, of 2**n pages; its memory is *view*. One *apart* is a block, in use."""
        self.extent = extent
        self.view = view
        self.pages = extent.pages
        self.live = int(apart)
        """Blocks in use."""
        self.is_lost = False
        """The memory was taken by force."""
        self.spans: set[Span] = set()
        self._free: list[set[int]] = [set() for _ in range(self.pages.bit_length())]
        """First pages of the free runs, by the logarithm of their length."""
        if not apart:
            self._free[-1].add(0)

    def take(self, size: int, wanted: int) -> "Span | None":
        """Return a new span of *wanted* pages (or of fewer, if that is all) for blocks of *size*; None: no room."""
        order = min(wanted, self.pages).bit_length() - 1
        if pages_of(size) > self.pages:
            return None
        found = next((at for at in range(order, len(self._free)) if self._free[at]), None)
        if found is None:
            return None
        first = self._free[found].pop()
        for half in range(order, found):
            self._free[half].add(first + (1 << half))
        span = Span(self, size, first, 1 << order)
        self.spans.add(span)
        return span

    def give(self, span: "Span") -> None:
        """Take the pages of *span*, which is unused, back."""
        self.spans.remove(span)
        first, order = span.first, span.pages.bit_length() - 1
        while (other := first ^ (1 << order)) in self._free[order] and order < len(self._free) - 1:
            self._free[order].remove(other)
            first, order = min(first, other), order + 1
        self._free[order].add(first)


class Span:
    """Pages that are cut into blocks of one size."""

    __slots__ = ("chunk", "count", "first", "free", "pages", "size")

    def __init__(self, chunk: Chunk, size: int, first: int, pages: int) -> None:
        """Cut *pages* of *chunk* from *first* into blocks of *size*."""
        self.chunk = chunk
        self.size = size
        self.first = first
        self.pages = pages
        begin, self.count = first * FRAME_SIZE, pages * FRAME_SIZE // size
        self.free = [begin + at * size for at in reversed(range(self.count))]
        """Free places in the chunk."""

    def __repr__(self) -> str:
        """Show its use."""
        used = self.count - len(self.free)
        return (
            f"<Span {used}/{self.count} of {self.size} at {self.first}+{self.pages} of {self.chunk.extent!r}>"
        )
