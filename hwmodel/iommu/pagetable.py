"""Page tables that software builds in memory: a tree of 4 KiB tables, with the entries of an architecture.

Tables that become empty are taken out of the tree, and returned: hardware may still use them from a cache, so they
are given back only after a flush.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from hwmodel.iommu.layout import PAGE
from hwmodel.iommu.memory import Memory
from hwmodel.iommu.translation import ENTRY, INDEX_BITS, level_shift

ENTRIES = 1 << INDEX_BITS


@dataclass(frozen=True)
class Form:
    """How an architecture writes entries; levels count from 1, that of pages."""

    levels: int
    """Of the whole tree."""
    leaves: Sequence[int]
    """Those on which an entry may map memory, the highest first."""
    table: Callable[[int, int], int]
    """The entry of a level that points to a table at an address."""
    leaf: Callable[[int, int, bool, bool], int]
    """The entry of a level that maps an address, for reading, for writing."""
    points: Callable[[int, int], int | None]
    """The table's address that an entry of a level points to; None for one that maps memory."""
    roots: int = 1
    """How many tables lie side by side at the root."""


class PageTable:
    """The tree of one address space."""

    def __init__(self, memory: Memory, form: Form, allocate: Callable[[int], int]) -> None:
        """Make it, empty.

        *allocate* returns the address of that many frames in a row, at a multiple of their size; what it raises
        when there are none is raised here, and by `map`, which changes nothing then.
        """
        self._memory = memory
        self._form = form
        self._allocate = allocate
        self._spare: list[int] = []
        """Frames for tables that were never in the tree."""
        self.root = allocate(form.roots)
        memory.write(self.root, bytes(form.roots * PAGE))
        self._tables = {(form.levels, 0): self.root}
        """Where the tables are, by level and by number of those before on it."""
        self._used = Counter[int]()
        """How many entries of each are in use."""

    @property
    def span(self) -> int:
        """The bytes of the address space."""
        return self._form.roots << level_shift(self._form.levels + 1)

    def map(self, first: int, target: int, size: int, *, read: bool, write: bool) -> None:
        """Map *size* bytes at *first* to *target*, in the largest blocks that fit.

        Raises ValueError, and changes nothing, for what is not whole pages, without any right, outside the space,
        or mapped already in part.
        """
        self._check(first, size)
        if target % PAGE or not (read or write):
            raise ValueError(f"a mapping leads to a page, and may be read or written: {target:#x}")
        if next(self._leaves(first, size), None):
            raise ValueError(f"{first:#x} to {first + size:#x} is mapped already, in part or as a whole")
        blocks = list(self._blocks(first, target, size))
        self._stock({key for level, done in blocks for key in self._missing(level, first + done)})
        for level, done in blocks:
            self._store(level, first + done, self._form.leaf(level, target + done, read, write))

    def unmap(self, first: int, size: int) -> list[int]:
        """Unmap what is mapped in *size* bytes at *first*; return the tables that are out of the tree by that.

        Raises ValueError, and changes nothing, for a range that has a part of a larger block.
        """
        self._check(first, size)
        leaves = list(self._leaves(first, size))
        for level, at in leaves:
            block = 1 << level_shift(level)
            if at < first or at + block > first + size:
                raise ValueError(
                    f"{first:#x} to {first + size:#x} cuts the block of {block:#x} bytes at {at:#x}"
                )
        freed: list[int] = []
        for level, at in leaves:
            self._clear(level, at, freed)
        return freed

    def _check(self, first: int, size: int) -> None:
        if first % PAGE or size % PAGE or size <= 0:
            raise ValueError(f"address and size are whole pages, one at least: {first:#x}, {size:#x}")
        if first < 0 or first + size > self.span:
            raise ValueError(
                f"{first:#x} to {first + size:#x} is not within the {self.span:#x} bytes there are"
            )

    def _blocks(self, first: int, target: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield level and offset of the blocks that the range is cut into."""
        done = 0
        while done < size:
            for level in self._form.leaves:
                block = 1 << level_shift(level)
                if not (first + done | target + done) % block and block <= size - done:
                    break
            else:
                raise AssertionError("pages fit everywhere")
            yield level, done
            done += block

    def _missing(self, level: int, at: int) -> Iterator[tuple[int, int]]:
        """Yield the keys of the tables that an entry of *level* for *at* needs, and that there are not."""
        for above in range(level, self._form.levels):
            if (key := self._key(above, at)) not in self._tables:
                yield key

    def _stock(self, missing: AbstractSet[tuple[int, int]]) -> None:
        """Have frames for the *missing* tables, so that nothing fails half-way."""
        while len(self._spare) < len(missing):
            self._spare.append(self._allocate(1))

    def _key(self, level: int, at: int) -> tuple[int, int]:
        return level, 0 if level == self._form.levels else at >> level_shift(level + 1)

    def _where(self, level: int, at: int) -> tuple[int, int]:
        """Return the table with the entry of *level* for *at*, made if there is none, and where the entry is."""
        key = self._key(level, at)
        if key not in self._tables:
            table = self._tables[key] = self._spare.pop()
            self._memory.write(table, bytes(PAGE))
            self._store(level + 1, at, self._form.table(level + 1, table))
        index = at >> level_shift(level)
        if level < self._form.levels:
            index %= ENTRIES
        return self._tables[key], self._tables[key] + index * ENTRY

    def _store(self, level: int, at: int, entry: int) -> None:
        table, where = self._where(level, at)
        self._used[table] += 1
        self._memory.write(where, entry.to_bytes(ENTRY, "little"))

    def _clear(self, level: int, at: int, freed: list[int]) -> None:
        """Clear the entry, and those above that lead to nothing then."""
        table, where = self._where(level, at)
        self._memory.write(where, bytes(ENTRY))
        self._used[table] -= 1
        if not self._used[table] and table != self.root:
            del self._used[table], self._tables[self._key(level, at)]
            freed.append(table)
            self._clear(level + 1, at, freed)

    def _leaves(self, first: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield level and address of the blocks that are mapped in the range, in part or as a whole."""
        yield from self._leaves_below(self._form.levels, self.root, 0, range(first, first + size))

    def _leaves_below(self, level: int, table: int, base: int, wanted: range) -> Iterator[tuple[int, int]]:
        shift = level_shift(level)
        entries = ENTRIES * (self._form.roots if level == self._form.levels else 1)
        start = max(wanted.start - base, 0) >> shift
        stop = min(entries, (wanted.stop - base - 1 >> shift) + 1)
        for index in range(start, stop):
            data = self._memory.read(table + index * ENTRY, ENTRY)
            entry, at = int.from_bytes(data, "little"), base + (index << shift)
            if not entry:
                continue
            below = self._form.points(level, entry)
            if below is None:
                yield level, at
            else:
                yield from self._leaves_below(level - 1, below, at, wanted)
