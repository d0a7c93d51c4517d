"""The MMU of the simulated machine: mappings that can be taken away while programs hold them.

A program gets a plain memoryview, which it slices and casts as it likes. The real machine takes memory away
with `ftruncate`, and the next access is a SIGBUS; here the next access is a ValueError from Python,
"operation forbidden on released memoryview object" (`is_bus_error` knows it). `memoryview.release` cannot do
that: it spares the views derived from the one released, and it is final, while `remap` must revive a view. So
this module writes what CPython keeps in a memoryview (unchanged since 3.3; checked at import): the RELEASED
flag is the "present" bit, the buffer address is the frame. All views of one mapping share one managed buffer,
by which the collector finds them.

Copies that an array library made of a view (a NumPy array's pointer) are out of reach. They still show the old
bytes, which are junk by then and belong to nobody else: they can break only their own program.
"""

import ctypes
import gc
import sys
import weakref
from collections.abc import Iterable, Sequence
from typing import Protocol

from kernel.abi.limits import FRAME_SIZE

JUNK = 0xA5
"""The content of freed memory."""
_RELEASED = 1


class _View(ctypes.Structure):
    """CPython's PyMemoryViewObject, up to the fields used here."""

    _fields_ = (
        ("references", ctypes.c_ssize_t),
        ("type", ctypes.c_void_p),
        ("size", ctypes.c_ssize_t),
        ("managed", ctypes.c_void_p),
        ("hash", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("exports", ctypes.c_ssize_t),
        ("address", ctypes.c_void_p),
        ("object", ctypes.c_void_p),
        ("length", ctypes.c_ssize_t),
        ("item", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
    )


Part = tuple[int, int]
"""Of a mapping: where it begins, and how many bytes it has."""


class BusError(ValueError):
    """The memory was taken away. A ValueError, as the access through a released memoryview raises."""


def is_bus_error(error: BaseException) -> bool:
    """Say whether *error* stands for an access to memory that was taken away."""
    return isinstance(error, ValueError) and (isinstance(error, BusError) or "released memory" in str(error))


class Viewer(Protocol):
    """A page table."""

    def punched(self, region: "Region", pages: range) -> None:
        """*pages* were taken from everybody."""

    def sees(self, region: "Region", page: int) -> bool:
        """Say whether its program sees a page."""


class Region:
    """Memory that is mapped and taken away as a whole.

    Regions that were split from one another share their bytes: a view is of bytes in a row, and who may map all of
    them has one.
    """

    def __init__(self, size: int, fill: int = 0) -> None:
        """Make *size* bytes."""
        self.data = bytearray(size) if fill == 0 else bytearray([fill]) * size
        self.start, self.size = 0, size
        """Which of these bytes are its own."""
        self.revoked = False
        self.present: set[int] = set()
        """Pages that were touched, where somebody pages it: the others are holes."""
        self.viewers: dict[Viewer, None] = {}
        """The tables that have pages of it."""
        self._mappings: list[Mapping] = []

    def split(self, size: int) -> "Region":
        """Keep *size* bytes, and return the others as a region; they are taken from all."""
        other = self._beside(self.start + size, self.size - size)
        first = size // FRAME_SIZE
        other.present = {page - first for page in self.present if page >= first}
        self.present = {page for page in self.present if page < first}
        for viewer in self.viewers:
            viewer.punched(self, range(first, self.size // FRAME_SIZE))
        self.size = size
        revoke([mapping for mapping in self._mappings if not mapping.whole])
        return other

    def copy(self, *, empty: bool = False) -> "Region":
        """Return a region with the same bytes, or zeros; what was split from another stays where it is."""
        if self.size < len(self.data):
            other = self._beside(self.start, self.size)
            if empty:
                self._fill(0)
        else:
            other = Region(self.size)
            if not empty:
                other.data[:] = self.data
        if not empty:
            other.present |= self.present
        return other

    def _beside(self, start: int, size: int) -> "Region":
        other = Region(0)
        other.data, other.start, other.size = self.data, start, size
        return other

    def _fill(self, byte: int) -> None:
        self.data[self.start : self.start + self.size] = bytes([byte]) * self.size

    def punch(self, pages: range) -> None:
        """Take *pages* from everybody: they are holes again."""
        self.present.difference_update(pages)
        first = self.start + pages.start * FRAME_SIZE
        self.data[first : first + len(pages) * FRAME_SIZE] = bytes(len(pages) * FRAME_SIZE)
        for viewer in self.viewers:
            viewer.punched(self, pages)

    def map(self, size: int, *, writable: bool) -> "Mapping":
        """Map *size* bytes. Raises BusError when they are not there, though what was split off may be behind."""
        self.check(min(size, self.size) if self.size < len(self.data) - self.start else size)
        self._mappings = [mapping for mapping in self._mappings if mapping.used]
        mapping = Mapping(self, size, writable=writable)
        self._mappings.append(mapping)
        return mapping

    def check(self, size: int) -> None:
        """Raise BusError unless *size* bytes are there."""
        if self.revoked or size > self.size:
            raise BusError(f"{size} bytes mapped of {0 if self.revoked else self.size}")

    def adopt(self, mapping: "Mapping") -> None:
        """Take over a mapping that was moved here."""
        self._mappings.append(mapping)

    def revoke(self, *, stays: bool = False) -> None:
        """Take the memory from all who have it mapped, and fill it with junk, unless it stays where it is."""
        self.revoked = True
        revoke(self._mappings, self)
        self._mappings.clear()
        if not stays:
            self._fill(JUNK)


class Mapping:
    """One mapping of a region: the view handed out, and all views derived from it."""

    def __init__(self, region: Region, size: int, *, writable: bool) -> None:
        """Map; `view` hands out the one view of it."""
        self._region = region
        self._laid = {0: region}
        """What lies at which of its bytes."""
        self._size = size
        self._root = memoryview(region.data)[region.start : region.start + size]
        self._managed: object = gc.get_referents(self._root)[0]
        self._idle = sys.getrefcount(self._managed)
        self._revoked: list[weakref.ref[memoryview]] = []
        self._first = self._root[:] if writable else self._root.toreadonly()
        if not self.whole:
            revoke([self])

    @property
    def whole(self) -> bool:
        """Whether there is memory everywhere."""
        return sum(min(each.size, self._size - at) for at, each in self._laid.items()) == self._size

    def take(self) -> memoryview:
        """Hand the view out; the mapping keeps no reference to it."""
        view = self._first
        del self._first
        return view

    @property
    def region(self) -> Region:
        """What is mapped, from its first byte on."""
        return self._region

    def laid(self) -> list[tuple[int, Region]]:
        """Return what is mapped at which of its bytes."""
        return list(self._laid.items())

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    @property
    def used(self) -> bool:
        """Say whether any view of it is still held."""
        return sys.getrefcount(self._managed) > self._idle

    def covers(self, view: memoryview) -> bool:
        """Say whether *view* is one of its views, even if taken away."""
        return gc.get_referents(view)[0] is self._managed

    def find(self, offset: int) -> tuple[Region, int]:
        """Return the memory that lies at *offset*, and which byte of it does. Raises BusError."""
        at = max((at for at in self._laid if at <= offset), default=None)
        if at is None:
            raise BusError(f"byte {offset} mapped of 0")
        return self._laid[at], offset - at

    def lose(self, region: Region | None) -> None:
        """*region* lies nowhere in it any more."""
        self._laid = {at: each for at, each in self._laid.items() if each is not region}

    def release(self, views: list[memoryview]) -> None:
        """Every access to *views*, which are all of it that can be used, raises from now on."""
        for view in views:
            state = _View.from_address(id(view))
            state.flags |= _RELEASED
            if state.exports:  # an array was made of it: its pointer must stay valid
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._region.data))
        self._revoked += [weakref.ref(view) for view in views]

    def move(self, region: Region, part: Part | None = None, *, writable: bool) -> None:
        """Put *region* where the mapping is, or *part* of it.

        Its views, even those taken away, go on with that memory, when there is some everywhere.
        """
        offset, size = part or (0, self._size)
        region.check(size)
        base = _address(region.data) + region.start - offset
        distance = base - _View.from_address(id(self._root)).address
        here = range(offset, offset + size)
        self._laid = {at: each for at, each in self._laid.items() if at not in here and not distance}
        self._laid[offset] = region
        views = present([self])[0] + [view for known in self._revoked if (view := known()) is not None]
        released = 0 if self.whole else _RELEASED
        for view in [self._root, *views]:
            state = _View.from_address(id(view))
            state.flags = state.flags & ~_RELEASED | (released if view is not self._root else 0)
            state.address += distance
            state.readonly |= not writable and view is not self._root
        self._revoked = [weakref.ref(view) for view in views] if released else []
        self._region = self._laid.get(0, region)
        region.adopt(self)

    @property
    def managed(self) -> object:
        """What all views of it, and nothing else, refer to."""
        return self._managed

    def can_use(self, view: memoryview) -> bool:
        """Say whether *view*, of it, can be used: one that its program released itself stays released."""
        return view is not self._root and not _View.from_address(id(view)).flags & _RELEASED


def revoke(mappings: Iterable[Mapping], region: Region | None = None) -> None:
    """Take *mappings* away, or *region* from them: every view of them raises from now on."""
    used = []
    for mapping in dict.fromkeys(mappings):  # one that moved to a region again is among those of it twice
        mapping.lose(region)
        if mapping.used:
            used.append(mapping)
    for mapping, views in zip(used, present(used), strict=True):
        mapping.release(views)


def present(mappings: Sequence[Mapping]) -> list[list[memoryview]]:
    """Return of each of *mappings* the views that can be used. All objects that there are are looked at, once."""
    found: dict[int, list[memoryview]] = {id(mapping.managed): [] for mapping in mappings}
    for view in gc.get_referrers(*[mapping.managed for mapping in mappings]) if mappings else ():
        if type(view) is memoryview:
            found[id(gc.get_referents(view)[0])].append(view)
    return [[view for view in found[id(each.managed)] if each.can_use(view)] for each in mappings]


def whole_frames(size: int, there: int) -> int:
    """Return *size* rounded up to frames, as hosts map, but not past the end of the memory *there*."""
    return max(size, min(there, -(-size // FRAME_SIZE) * FRAME_SIZE))


def _address(data: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(data))


def _check_layout() -> None:
    """Check that this Python's memoryview is laid out as `_View` says."""
    data = bytearray(8)
    view = memoryview(data)[2:].toreadonly()
    state = _View.from_address(id(view))
    found = (state.managed, state.address, state.length, state.readonly, state.flags & _RELEASED)
    view.release()
    if found != (id(gc.get_referents(view)[0]), _address(data) + 2, 6, 1, 0) or not state.flags & _RELEASED:
        raise RuntimeError(f"{sys.version}: memoryview has another layout: teach it to this module")


_check_layout()
