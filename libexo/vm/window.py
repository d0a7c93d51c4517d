"""A window: reserved addresses, in which extents are mapped where their program wants them.

    window = vm.reserve(env, pages=1 << 20)           # 4 GiB of addresses, and nothing there
    window.map(extent, at=16)                         # its memory, from page 16 on
    window.map(other, at=16 + extent.pages)           # beside it
    array = numpy.frombuffer(window.view(16, 2 * extent.pages), "f8")
    window.protect(16, 1)                             # a write there ends the program
    window.advise(vm.Advice.WILL_NEED, 16, 4)
    window.unmap(16)

What lies where is in a page table of the program's choice (`libexo.vm.tables`); the host's MMU has its own. An
access where nothing is mapped ends the program (SIGSEGV), and so does a write to what is protected. Of a region
(`libexo.regions`) its pager decides: it is asked when protected pages are written, and takes advice.

On the simulated machine mappings lie where the machine puts them: `view` is of one mapping, and only views that are
made after `protect` hold to it.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol, cast

from kernel.abi.limits import FRAME_SIZE
from libexo.errors import ExoError
from libexo.extent import Extent
from libexo.vm.tables import Linear, PageTable

if TYPE_CHECKING:
    from libexo.attachment import Attachment


class Advice(IntEnum):
    """What a program will do with pages."""

    WILL_NEED = 1
    """It will touch them: they are there from now on."""
    DONT_NEED = 2
    """It needs nothing of what they hold. Of a region, their next touch finds what a new one has there."""


class Backing(Protocol):
    """Memory of which a pager of the program's decides (`libexo.regions.Region`)."""

    extent: Extent

    def protect(self, first: int = 0, count: int = 0) -> None:
        """Have the pager asked of writes."""

    def unprotect(self, first: int = 0, count: int = 0) -> None:
        """Do not, any more."""

    def advise(self, advice: Advice, first: int = 0, count: int = 0) -> None:
        """Tell the pager what will be done with pages."""


class Placed:
    """One mapping in a window."""

    def __init__(self, extent: Extent, first: int, view: memoryview, backing: Backing | None) -> None:
        """Be that of *extent* from page *first* of the window on; a pager decides of what has a *backing*."""
        self.extent = extent
        self.backing = backing
        self.first = first
        self.view = view
        """All of it."""
        self.protected: set[int] = set()
        """Pages of it that are."""


class Window:
    """Reserved addresses."""

    def __init__(
        self, environment: "Attachment", pages: int, table: Callable[[int], object] = Linear
    ) -> None:
        """Reserve *pages*; a *table* for so many says what lies where. Raises OSError."""
        self.pages = pages
        self.table = cast("PageTable[Placed]", table(pages))
        self._environment = environment
        self._reserved = environment.host.reserve(pages * FRAME_SIZE)

    def map(self, what: Extent | Backing, at: int | None = None) -> memoryview:
        """Map an extent or a region from page *at* on, or where there is room first; return its memory.

        Raises ValueError where something else lies, or the window ends; TrapRefused, OSError; OverflowError when
        its table is full.
        """
        backing, extent = (None, what) if isinstance(what, Extent) else (what, what.extent)
        at = self._room(extent.pages) if at is None else at
        if at < 0 or at + extent.pages > self.pages:
            raise ValueError(f"pages {at}+{extent.pages} of a window of {self.pages}")
        if (page := self._taken(at, extent.pages)) >= 0:
            raise ValueError(f"page {page} is mapped already: unmap it, or choose another place")
        view = self._environment.views.map(extent.handle, (self._reserved, at * FRAME_SIZE))
        placed, pages = Placed(extent, at, view, backing), range(at, at + extent.pages)
        try:
            for page in pages:
                self.table.enter(page, placed)
        except BaseException:
            for page in pages:
                self.table.remove(page)
            self._environment.views.unmap(view)
            raise
        return view

    def unmap(self, at: int) -> None:
        """End the mapping that lies at page *at*, whole; what refers to it must not be used again.

        Raises LookupError where nothing is mapped, BufferError while an array of another library refers to it.
        """
        placed = self.find(at)
        self._environment.views.unmap(placed.view)
        for page in range(placed.first, placed.first + placed.extent.pages):
            self.table.remove(page)

    def find(self, page: int) -> Placed:
        """Return what is mapped at *page*. Raises LookupError."""
        placed = self.table.find(page)
        if placed is None:
            raise LookupError(f"nothing is mapped at page {page}")
        return placed

    def protect(self, first: int, count: int) -> None:
        """Have a write to *count* pages from *first* end the program; of a region, its pager is asked.

        Raises LookupError where nothing is mapped; RemoteError.
        """
        self._protect(first, count, writable=False)

    def unprotect(self, first: int, count: int) -> None:
        """Let them be written again, if their extent may be."""
        self._protect(first, count, writable=True)

    def advise(self, advice: Advice, first: int, count: int) -> None:
        """Say what will be done with *count* pages from *first*. Raises LookupError, RemoteError."""
        for placed, start, length in self._parts(first, count):
            if placed.backing is not None:
                placed.backing.advise(advice, start, length)
            elif advice == Advice.WILL_NEED:
                self._environment.host.touch(
                    placed.view, start * FRAME_SIZE, length * FRAME_SIZE, write=False
                )

    def view(self, first: int, count: int) -> memoryview:
        """Return *count* pages from *first*, of one mapping or several that lie side by side.

        It can be written if all of it may be. Raises LookupError where nothing is mapped.
        """
        parts = self._parts(first, count)
        if len(parts) == 1:
            placed, start, length = parts[0]
            view = placed.view[start * FRAME_SIZE : (start + length) * FRAME_SIZE]
        else:
            views = [placed.view for placed, _, _ in parts]
            view = self._reserved.view(first * FRAME_SIZE, count * FRAME_SIZE, views)
        for placed, start, length in parts:
            if placed.view.readonly or not placed.protected.isdisjoint(range(start, start + length)):
                return view.toreadonly()
        return view

    def close(self) -> None:
        """End all its mappings; the addresses go when nothing refers to them any more."""
        for page in list(self.table):
            if self.table.find(page) is not None:
                self.unmap(page)

    # ------------------------------------------------------------------------------------------------- details

    def _protect(self, first: int, count: int, *, writable: bool) -> None:
        parts = self._parts(first, count)
        if writable and any(placed.view.readonly for placed, _, _ in parts):
            raise ExoError(f"pages {first}+{count}: an extent there may only be read")
        for placed, start, length in parts:
            if placed.backing is not None:
                (placed.backing.unprotect if writable else placed.backing.protect)(start, length)
                continue
            pages = range(start, start + length)
            self._reserved.protect(placed.view, start * FRAME_SIZE, length * FRAME_SIZE, writable=writable)
            (placed.protected.difference_update if writable else placed.protected.update)(pages)

    def _parts(self, first: int, count: int) -> list[tuple[Placed, int, int]]:
        """Return the mappings of these pages: each with where the part begins in it, and how long it is."""
        parts: list[tuple[Placed, int, int]] = []
        page, stop = first, first + max(count, 1)
        while page < stop:
            placed = self.find(page)
            start = page - placed.first
            length = min(placed.extent.pages - start, stop - page)
            parts.append((placed, start, length))
            page += length
        return parts

    def _taken(self, first: int, count: int) -> int:
        """Return the first page of these where something is mapped, or -1."""
        return next((page for page in range(first, first + count) if self.table.find(page) is not None), -1)

    def _room(self, count: int) -> int:
        """Return where there is room for *count* pages first. Raises ValueError."""
        at = 0
        for page in self.table:
            if page - at >= count:
                return at
            at = page + 1
        if self.pages - at < count:
            raise ValueError(f"no {count} pages in a row are free in a window of {self.pages}")
        return at


def reserve(environment: "Attachment", pages: int, table: Callable[[int], object] = Linear) -> Window:
    """Reserve addresses for *pages*, in which a *table* for so many says what lies where. Raises OSError."""
    return Window(environment, pages, table)


def map_file(environment: "Attachment", path: str, *, writable: bool = False) -> memoryview:
    """Map a file of the host, whole: one that its program may open so, by its uid and its directories.

    What others write to the file is seen, and what is stored in a *writable* view is in the file at once, for all
    that read it; `sync` has it on the device. Where the file was cut off, an access ends the program (SIGBUS); so
    does a store for which the host has no room: of a file with holes there is no writable view.
    Its memory is the host's cache, of which no frame is counted. Raises OSError; ExoError on the simulated machine.
    """
    return environment.host.map_file(path, writable=writable)


def sync(environment: "Attachment", view: memoryview, offset: int = 0, size: int = 0) -> None:
    """Have what was stored in *size* bytes of a file's *view*, from *offset* on, be on its device; 0: all the rest.

    What is not synchronised the host writes in its own time, also when the view or its program is gone; of an error
    nobody hears then. Raises OSError (EIO, ENOSPC): some of it is not written; ValueError for no view of a mapping.
    """
    size = size or len(view) - offset
    if offset < 0 or size < 0 or offset + size > len(view):
        raise ValueError(f"{size} bytes from {offset} of a view of {len(view)}")
    if size:
        environment.host.sync(view, offset, size)
