"""Page tables: what lies at each page of a window, in three structures to choose from.

A table maps page numbers to entries, which are whatever its owner wants. All three do the same; they differ in what
they cost, in words of memory and in steps of a lookup (docs/pagers.md has the figures):

- `Linear`: one word for each page of the window. One step. For windows that are small, or full.
- `Hierarchical`: a tree of tables, of which those exist that have an entry. As many steps as levels. For large
  windows in which what is mapped lies together.
- `Inverted`: one slot for each entry, found by a hash of the page. It is as large as the most it holds, however
  large the window is. For large windows in which pages lie anywhere.

Source: Huck and Hays, Architectural Support for Translation Table Management in Large Address Space Machines
(1993), for the inverted table with its anchors.
"""

from array import array
from collections.abc import Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")
_NONE = -1


class PageTable(Protocol[T]):
    """Entries by page number. Pages are from 0 to below `pages`; anything else raises IndexError."""

    pages: int

    def find(self, page: int) -> T | None:
        """Return the entry of *page*; None: there is none."""

    def enter(self, page: int, entry: T) -> None:
        """Let *entry* be that of *page*."""

    def remove(self, page: int) -> None:
        """Let *page* have none. Twice is harmless."""

    def __len__(self) -> int:
        """Return how many entries there are."""

    def __iter__(self) -> Iterator[int]:
        """Yield the pages that have an entry, in order."""

    def steps(self, page: int) -> int:
        """Return how many places a lookup of *page* looks at."""

    @property
    def words(self) -> int:
        """How many words of memory it takes."""


class Linear:
    """A word for each page."""

    def __init__(self, pages: int) -> None:
        """Start with no entry."""
        self.pages = pages
        self._entries: list[object] = [None] * pages
        self._count = 0

    def find(self, page: int) -> object:
        """Return the entry of *page*; None: there is none."""
        return self._entries[_checked(page, self.pages)]

    def enter(self, page: int, entry: object) -> None:
        """Let *entry* be that of *page*."""
        self._count += self._entries[_checked(page, self.pages)] is None
        self._entries[page] = entry

    def remove(self, page: int) -> None:
        """Let *page* have none."""
        self._count -= self._entries[_checked(page, self.pages)] is not None
        self._entries[page] = None

    def __len__(self) -> int:
        """Return how many entries there are."""
        return self._count

    def __iter__(self) -> Iterator[int]:
        """Yield the pages that have an entry, in order."""
        return (page for page, entry in enumerate(self._entries) if entry is not None)

    def steps(self, page: int) -> int:
        """Return 1."""
        _checked(page, self.pages)
        return 1

    @property
    def words(self) -> int:
        """One a page."""
        return self.pages


class _Node:
    """One table of a tree: tables of the level below, or entries."""

    __slots__ = ("slots", "used")

    def __init__(self, size: int) -> None:
        self.slots: list[object] = [None] * size
        self.used = 0


class Hierarchical:
    """A tree of tables of 2**bits words; a table without an entry is given up."""

    def __init__(self, pages: int, bits: int = 9) -> None:
        """Start with the root alone."""
        self.pages = pages
        self.levels = 1
        while 1 << bits * self.levels < pages:
            self.levels += 1
        self._bits, self._mask = bits, (1 << bits) - 1
        self._root = _Node(1 << bits)
        self._tables, self._count = 1, 0

    def find(self, page: int) -> object:
        """Return the entry of *page*; None: there is none."""
        path = self._path(page)
        return path[-1].slots[page & self._mask] if len(path) == self.levels else None

    def enter(self, page: int, entry: object) -> None:
        """Let *entry* be that of *page*; tables that are missing on the way are made."""
        path = self._path(page)
        for level in range(len(path), self.levels):
            made = _Node(self._mask + 1)
            self._put(path[-1], self._index(page, level - 1), made)
            path.append(made)
            self._tables += 1
        before = self._put(path[-1], page & self._mask, entry)
        self._count += before is None

    def remove(self, page: int) -> None:
        """Let *page* have none; tables that are empty then are given up."""
        path = self._path(page)
        if len(path) < self.levels or path[-1].slots[page & self._mask] is None:
            return
        self._count -= 1
        for level in range(self.levels - 1, -1, -1):
            self._put(path[level], self._index(page, level), None)
            if path[level].used or not level:
                break
            self._tables -= 1

    def __len__(self) -> int:
        """Return how many entries there are."""
        return self._count

    def __iter__(self) -> Iterator[int]:
        """Yield the pages that have an entry, in order."""
        return self._pages(self._root, 0, 0)

    def steps(self, page: int) -> int:
        """Return how many tables are looked into."""
        return len(self._path(page))

    @property
    def words(self) -> int:
        """Those of the tables there are."""
        return self._tables * (self._mask + 1)

    def _index(self, page: int, level: int) -> int:
        return page >> self._bits * (self.levels - 1 - level) & self._mask

    def _path(self, page: int) -> list[_Node]:
        """Return the tables from the root to *page*, as far as there are."""
        _checked(page, self.pages)
        path = [self._root]
        for level in range(self.levels - 1):
            below = path[-1].slots[self._index(page, level)]
            if not isinstance(below, _Node):
                break
            path.append(below)
        return path

    def _put(self, node: _Node, index: int, what: object) -> object:
        before, node.slots[index] = node.slots[index], what
        node.used += (before is None) - (what is None)
        return before

    def _pages(self, node: _Node, level: int, base: int) -> Iterator[int]:
        for index, slot in enumerate(node.slots):
            page = base << self._bits | index
            if slot is not None and level == self.levels - 1:
                yield page
            elif isinstance(slot, _Node):
                yield from self._pages(slot, level + 1, page)


class Inverted:
    """A slot for each entry, in chains that begin at the anchor of the page's hash."""

    def __init__(self, pages: int, entries: int = 4096) -> None:
        """Make room for *entries*."""
        self.pages = pages
        size = 1
        while size < entries:
            size *= 2
        self._anchors = array("q", [_NONE]) * size
        self._page, self._next = array("q", [_NONE]) * entries, array("q", range(1, entries + 1))
        self._next[entries - 1] = _NONE
        self._entries: list[object] = [None] * entries
        self._free = 0
        """The first free slot; the others follow it."""
        self._count = 0

    def find(self, page: int) -> object:
        """Return the entry of *page*; None: there is none."""
        slot = self._slot(page)[0]
        return self._entries[slot] if slot != _NONE else None

    def enter(self, page: int, entry: object) -> None:
        """Let *entry* be that of *page*. Raises OverflowError: all slots are taken."""
        slot = self._slot(page)[0]
        if slot == _NONE:
            slot = self._free
            if slot == _NONE:
                raise OverflowError(
                    f"the inverted table has {len(self._entries)} slots, all taken: make it larger"
                )
            anchor = self._anchor(page)
            self._free, self._next[slot] = self._next[slot], self._anchors[anchor]
            self._anchors[anchor] = slot
            self._page[slot] = page
            self._count += 1
        self._entries[slot] = entry

    def remove(self, page: int) -> None:
        """Let *page* have none; its slot is free."""
        slot, before, _ = self._slot(page)
        if slot == _NONE:
            return
        if before == _NONE:
            self._anchors[self._anchor(page)] = self._next[slot]
        else:
            self._next[before] = self._next[slot]
        self._page[slot], self._next[slot], self._free = _NONE, self._free, slot
        self._entries[slot] = None
        self._count -= 1

    def __len__(self) -> int:
        """Return how many entries there are."""
        return self._count

    def __iter__(self) -> Iterator[int]:
        """Yield the pages that have an entry, in order."""
        return iter(sorted(page for page in self._page if page != _NONE))

    def steps(self, page: int) -> int:
        """Return how many slots are looked at, and the anchor."""
        return 1 + self._slot(page)[2]

    @property
    def words(self) -> int:
        """An anchor for each slot, or somewhat more; and page, link and entry of each slot."""
        return len(self._anchors) + 3 * len(self._entries)

    def _anchor(self, page: int) -> int:
        return (page * 0x9E37_79B9_7F4A_7C15 >> 32) & (len(self._anchors) - 1)

    def _slot(self, page: int) -> tuple[int, int, int]:
        """Return the slot of *page*, the one before it in its chain, and how many were looked at."""
        _checked(page, self.pages)
        before, slot, looks = _NONE, self._anchors[self._anchor(page)], 0
        while slot != _NONE:
            looks += 1
            if self._page[slot] == page:
                break
            before, slot = slot, self._next[slot]
        return slot, before, looks


def _checked(page: int, pages: int) -> int:
    if not 0 <= page < pages:
        raise IndexError(f"page {page} of a window of {pages}")
    return page
