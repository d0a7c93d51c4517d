"""The table of an address space: the extents that its addresses show.

Memory is held in extents, each by one capability, but addresses are given up piece by piece: a mapping over
the middle of an extent leaves its two ends where they were. So a *region* shows a run of one *holding*'s bytes,
and the holding is given up with its last region. Regions never overlap and never join.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from kernel.abi.limits import FRAME_SIZE
from libexo.l4.format.words import WORD_BITS

END = 1 << WORD_BITS
"""The first number beyond all addresses."""


class Holding:
    """One extent, with its holder's knowledge of it. Not compared by value."""

    __slots__ = (
        "accessed", "given", "handle", "leaving", "part_of", "parts", "rights", "shown", "size", "view",
    )  # fmt: skip

    def __init__(self, handle: int, size: int, rights: int) -> None:
        """Hold the *size* bytes of *handle* with *rights* (`kernel.abi.rights.Rights`)."""
        self.handle = handle
        self.size = size
        self.rights = rights
        self.view: memoryview | None = None
        """The mapping, after the first access."""
        self.accessed = 0
        """Accesses since the last look at its status, as rights of an fpage."""
        self.given = 0
        """The rights others were given since it was last taken back."""
        self.leaving = False
        """It is in a message that grants it."""
        self.shown = 0
        """The number of its bytes that are at some address."""
        self.part_of: tuple[Holding, int] | None = None
        """Of which holding it was derived, as a part, and where it begins there."""
        self.parts: list[Holding] = []
        """Those derived of it so, which go with it."""

    def __repr__(self) -> str:
        """Show the handle and the size."""
        return f"<Holding {self.handle:#x} of {self.size:#x} bytes>"


class Region(NamedTuple):
    """A run of addresses that shows part of a holding."""

    base: int
    size: int
    offset: int
    """Offset in the holding."""
    holding: Holding

    @property
    def end(self) -> int:
        """The address behind it."""
        return self.base + self.size

    @property
    def whole(self) -> bool:
        """Whether it shows all of the holding."""
        return self.size == self.holding.size

    def before(self, other: "Region") -> bool:
        """Say whether *other* shows what follows in the same holding, at the addresses that follow."""
        follows = self.end, self.offset + self.size
        return self.holding is other.holding and follows == (other.base, other.offset)

    def part(self, first: int, end: int) -> "Region":
        """Return the part of it from *first* up to *end*, both inside."""
        return Region(first, end - first, self.offset + first - self.base, self.holding)


def all_of(holding: Holding, base: int) -> Region:
    """Return the region that shows all of *holding* from *base* on."""
    return Region(base, holding.size, 0, holding)


class Regions:
    """The regions of one space, in order of their addresses."""

    def __init__(self) -> None:
        """Start with none."""
        self._bases: list[int] = []
        self._regions: list[Region] = []

    def __iter__(self) -> Iterator[Region]:
        return iter(self._regions)

    def at(self, address: int) -> Region | None:
        """Return the region that shows *address*."""
        index = bisect_right(self._bases, address) - 1
        if index < 0 or address >= self._regions[index].end:
            return None
        return self._regions[index]

    def shows(self, region: Region) -> bool:
        """Say whether the addresses of *region* show what it says."""
        found = self.at(region.base)
        return found is not None and region.end <= found.end and found.part(region.base, region.end) == region

    def overlapping(self, first: int, end: int) -> list[Region]:
        """Return the regions of which any part is between *first* and *end*, in order."""
        return self._regions[self._slice(first, end)]

    def enter(self, region: Region) -> list[Holding]:
        """Show what *region* says; return the holdings that are no longer shown anywhere."""
        gone = self.cut(region.base, region.end)
        self._insert(region)
        return gone

    def cut(self, first: int, end: int) -> list[Holding]:
        """Show nothing from *first* up to *end*; return the holdings that are no longer shown anywhere."""
        cut = self._slice(first, end)
        found = self._regions[cut]
        del self._regions[cut], self._bases[cut]
        for region in found:
            region.holding.shown -= region.size
        for region in found:
            if region.base < first:
                self._insert(region.part(region.base, first))
            if region.end > end:
                self._insert(region.part(end, region.end))
        return [holding for holding in holdings(found) if not holding.shown]

    def remove(self, holding: Holding) -> None:
        """Show nothing of *holding* any more."""
        self._regions = [region for region in self._regions if region.holding is not holding]
        self._bases = [region.base for region in self._regions]
        holding.shown = 0

    def merge(self, part: Holding) -> None:
        """Show what was shown of *part* as that of which it is part, side by side in one region."""
        assert part.part_of is not None
        whole, offset = part.part_of
        whole.shown, part.shown = whole.shown + part.shown, 0
        whole.accessed |= part.accessed
        joined: list[Region] = []
        for each in self._regions:
            region = (
                Region(each.base, each.size, each.offset + offset, whole) if each.holding is part else each
            )
            last = joined[-1] if joined else None
            if last is not None and region.holding is whole and last.before(region):
                joined[-1] = Region(last.base, last.size + region.size, last.offset, whole)
            else:
                joined.append(region)
        self._regions, self._bases = joined, [region.base for region in joined]

    def _insert(self, region: Region) -> None:
        index = bisect_right(self._bases, region.base)
        self._bases.insert(index, region.base)
        self._regions.insert(index, region)
        region.holding.shown += region.size

    def _slice(self, first: int, end: int) -> slice:
        if first >= end:
            return slice(0, 0)
        start = bisect_right(self._bases, first)
        if start and self._regions[start - 1].end > first:
            start -= 1
        stop = bisect_right(self._bases, end - 1)
        return slice(start, stop)


def holdings(regions: list[Region]) -> list[Holding]:
    """Return the holdings that *regions* show, each once, in order."""
    return list(dict.fromkeys(region.holding for region in regions))


def check_range(address: int, size: int) -> None:
    """Raise ValueError unless *size* bytes from *address* are whole pages of the address space, at least one."""
    if address % FRAME_SIZE or size % FRAME_SIZE or size <= 0:
        raise ValueError(f"{size:#x} bytes at {address:#x} are not whole pages")
    if not 0 <= address <= END - size:
        raise ValueError(f"{size:#x} bytes at {address:#x} are not all in 0..2**{WORD_BITS}-1")
