"""Mapped extents, by handle: mapped again when their memory moves, and spared when lenders take it back."""

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kernel.abi.limits import FRAME_SIZE, MAX_HANDLES
from kernel.abi.rights import Rights
from libexo.errors import MemoryTaken, TrapRefused
from libexo.extent import Extent, Ram
from libexo.host.base import Piece

if TYPE_CHECKING:
    from libexo.host.base import Host, MappedMemory, Opened, Place
    from libexo.sys import Sys
    from libexo.transport.base import Descriptor

_WRITE, _EXECUTE = int(Rights.WRITE), int(Rights.EXECUTE)  # operations on members of an enum take longer
_SWEEP = 64
"""Known handles at which those without a mapping are searched for."""


class Mapped(NamedTuple):
    """One mapping of an extent."""

    memory: "MappedMemory"
    size: int
    writable: bool
    opened: "Opened | None"
    """What has the kernel page it, if somebody else is its pager."""


class Views:
    """The mapped extents of one environment, by handle."""

    def __init__(self, host: "Host", sys: "Sys") -> None:
        """Start with none, on *host*, by traps of *sys*."""
        self._host = host
        self._sys = sys
        self._mappings: dict[int, list[Mapped]] = {}
        """By handle: each mapping of it."""
        self._windows: dict[int, MappedMemory] = {}
        """By address: each mapping of memory that somebody else pages."""
        self._sweep_at = _SWEEP
        self._lent: set[int] = set()
        """Handles that came with the requests of others, which may take them back at any time."""
        self._taken: set[int] = set()
        """Those that were touched after they had been taken: zeros are there."""

    def map(self, handle: int, place: "Place | None" = None) -> memoryview:
        """Map the extent of *handle*, whole."""
        mapped, descriptor = self._sys.map_extent(handle)
        opened = self._opener(handle, mapped.count) if mapped.paged else None
        view = self._map(
            handle, descriptor, mapped.count, writable=mapped.writable, opened=opened, place=place
        )
        if mapped.pages < mapped.count:
            self._renew(handle, self._mappings[handle][-1], mapped.pages, mapped.count)
        return view

    def carve(self, ram: Ram, pages: int) -> tuple[Extent, memoryview]:
        """Carve an extent of *pages* frames from *ram*, and map it, whole."""
        carved, given = self._sys.carve_mapped(ram.handle, pages)
        handle, writable = carved.extent, bool(ram.rights & _WRITE)
        try:
            view = self._map(handle, given[0], pages, writable=writable) if given else self.map(handle)
        except BaseException:
            self._sys.drop(handle)
            raise
        return Extent(handle, pages, carved.first, ram.rights | _EXECUTE), view

    def _map(
        self,
        handle: int,
        descriptor: "Descriptor",
        pages: int,
        *,
        writable: bool,
        opened: "Opened | None" = None,
        place: "Place | None" = None,
    ) -> memoryview:
        host, size = self._host, pages * FRAME_SIZE
        view = host.map(descriptor, size, writable=writable, opened=opened, place=place)
        host.watch(view, lambda byte: self._piece(handle, byte), lambda: self._is_spared(handle), opened)
        used = [*self._used(handle), Mapped(host.mapping(view), size, writable, opened)]
        self._mappings[handle] = used
        if opened is not None:
            self._windows[host.address(view)] = used[-1].memory
        if len(self._mappings) > self._sweep_at:
            self._sweep()
        return view

    def unmap(self, view: memoryview) -> None:
        """End the mapping of *view*, and no other one of its handle. A released *view* is no error."""
        with suppress(ValueError):
            for handle, mappings in self._mappings.items():
                left = [known for known in mappings if not known.memory.covers(view)]
                if len(left) < len(mappings):
                    self._host.unmap(view)
                    self._close_windows(handle)
                    self._mappings[handle] = left
                    return
        self._host.unmap(view)

    def handle(self, view: memoryview) -> int:
        """Return the handle of the extent that *view* shows, all of it. Raises ValueError."""
        for handle, mappings in self._mappings.items():
            if any(known.memory.covers(view) and known.size == view.nbytes for known in mappings):
                return handle
        raise ValueError("this memory is no extent, mapped whole: a slice does not know where in it it lies")

    def lent(self, handles: Iterable[int]) -> None:
        """From now on, an access to memory of *handles* that was taken finds zeros, and `check` tells."""
        self._lent.update(handles)
        if len(self._lent) > 2 * MAX_HANDLES:
            self._lent.intersection_update(self._sys.inventory())
            self._taken &= self._lent

    def check(self, handles: Iterable[int]) -> None:
        """Raise MemoryTaken if memory of one of *handles* was touched after it was taken."""
        if self._taken and (found := self._taken.intersection(handles)):
            self._taken -= found
            raise MemoryTaken("memory that came with the request was taken back while it was used")

    def _is_spared(self, handle: int) -> bool:
        if handle not in self._lent:
            return False
        self._taken.add(handle)
        return True

    def moved(self, handle: int, first: int = 0, pages: int = 0) -> None:
        """Map the new memory of some pages of *handle*, 0: of all, where its mappings are."""
        for mapping in self._used(handle):
            self._renew(handle, mapping, first, first + pages if pages else None)

    def replaced(self, handle: int, descriptor: object) -> None:
        """Do the same, with the descriptor that came with the reply."""
        host, mappings = self._host, self._used(handle)
        if not mappings:
            host.close_descriptor(descriptor)
            return
        first, *others = mappings
        host.remap(first.memory, descriptor, writable=first.writable, opened=first.opened)
        for mapping in others:
            self._renew(handle, mapping)

    def forget(self, handle: int) -> None:
        """Forget *handle*, which is gone."""
        self._mappings.pop(handle, None)

    def _piece(self, handle: int, byte: int) -> Piece:
        """Return the memory of *handle* in which a byte of it lies. Raises TrapRefused."""
        mapped, descriptor = self._sys.map_extent(handle, byte // FRAME_SIZE)
        return Piece(descriptor, mapped.writable, (mapped.first * FRAME_SIZE, mapped.pages * FRAME_SIZE))

    def _renew(self, handle: int, mapping: Mapped, page: int = 0, stop: int | None = None) -> None:
        """Map memory of *handle* at *mapping*, piece by piece; if the handle went meanwhile, nothing is there.

        What is mapped is all from *page* on, or what lies before *stop*.
        """
        size = mapping.size if stop is None else stop * FRAME_SIZE
        at = page * FRAME_SIZE
        with suppress(TrapRefused):
            while at < size:
                descriptor, writable, part = self._piece(handle, at)
                self._host.remap(
                    mapping.memory, descriptor, writable=writable, opened=mapping.opened, part=part
                )
                at = sum(part)

    def _opener(self, handle: int, pages: int) -> "Opened":
        """Return what has the kernel page a mapping of *handle*."""
        self._close_windows(handle)
        return lambda address: self._sys.window(handle, address, 0, pages)

    def _close_windows(self, handle: int) -> None:
        """End the windows of mappings that are not there any more; any handle of what is paged does."""
        for address in [at for at, memory in self._windows.items() if not memory.used]:
            with suppress(TrapRefused):  # that handle is gone: the next one does
                self._sys.window(handle, address)
                del self._windows[address]

    def _used(self, handle: int) -> "list[Mapped]":
        return [known for known in self._mappings.get(handle, ()) if known.memory.used]

    def _sweep(self) -> None:
        """Forget the handles without a mapping."""
        self._mappings = {handle: used for handle in self._mappings if (used := self._used(handle))}
        self._sweep_at = max(_SWEEP, 2 * len(self._mappings))
