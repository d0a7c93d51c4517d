"""Mapped extents, by handle: put where they were when their memory moves, and spared where others take it back."""

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from kernel.abi.limits import FRAME_SIZE, MAX_HANDLES
from kernel.abi.rights import Rights
from libexo.errors import MemoryTaken, TrapRefused
from libexo.extent import Extent, Ram

if TYPE_CHECKING:
    from libexo.host.base import Host, MappedMemory
    from libexo.sys import Sys
    from libexo.transport.base import Descriptor

_WRITE, _EXECUTE = int(Rights.WRITE), int(Rights.EXECUTE)  # what is made of members of an enum takes longer
_SWEEP = 64
"""How many handles are known before those without a mapping are looked for."""


class Views:
    """The mapped extents of one environment, by handle."""

    def __init__(self, host: "Host", sys: "Sys") -> None:
        """Start with none, on *host*, by traps of *sys*."""
        self._host = host
        self._sys = sys
        self._mappings: dict[int, list[tuple[MappedMemory, bool]]] = {}
        """By handle: each mapping of it, and whether that is writable."""
        self._sweep_at = _SWEEP
        self._lent: set[int] = set()
        """Handles of what came with the requests of others, who may take it back at any time."""
        self._taken: set[int] = set()
        """Those of them that were touched when they had been: zeros are there."""

    def map(self, handle: int) -> memoryview:
        """Map the extent of *handle*, whole."""
        mapped, descriptor = self._sys.map_extent(handle)
        return self._map(handle, descriptor, mapped.count, writable=mapped.writable)

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

    def _map(self, handle: int, descriptor: "Descriptor", pages: int, *, writable: bool) -> memoryview:
        host = self._host
        view = host.map(descriptor, pages * FRAME_SIZE, writable=writable)
        host.watch(view, lambda: self._place(handle), lambda: self._is_spared(handle))
        used = [*self._used(handle), (host.mapping(view), writable)]
        self._mappings[handle] = used
        if len(self._mappings) > self._sweep_at:
            self._sweep()
        return view

    def unmap(self, view: memoryview) -> None:
        """End the mapping of *view*; no other mapping of its handle. One that was released already is no error."""
        with suppress(ValueError):
            for handle, mappings in self._mappings.items():
                left = [known for known in mappings if not known[0].covers(view)]
                if len(left) < len(mappings):
                    self._host.unmap(view)
                    self._mappings[handle] = left
                    return
        self._host.unmap(view)

    def lent(self, handles: Iterable[int]) -> None:
        """From now on, an access to the memory of *handles* finds zeros when that was taken, and `check` tells."""
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

    def moved(self, handle: int) -> None:
        """The memory of *handle* was replaced: put the new where its mappings are."""
        for mapping, _ in self._used(handle):
            self._renew(handle, mapping)

    def replaced(self, handle: int, descriptor: object) -> None:
        """The same, with the descriptor that came with the reply."""
        host, mappings = self._host, self._used(handle)
        if not mappings:
            host.close_descriptor(descriptor)
            return
        (first, writable), *others = mappings
        host.remap(first, descriptor, writable=writable)
        for mapping, _ in others:
            self._renew(handle, mapping)

    def forget(self, handle: int) -> None:
        """The handle is gone."""
        self._mappings.pop(handle, None)

    def _place(self, handle: int) -> "tuple[Descriptor, bool]":
        """Return what is to be mapped where the memory of *handle* is, and whether writable. Raises TrapRefused."""
        mapped, descriptor = self._sys.map_extent(handle)
        return descriptor, mapped.writable

    def _renew(self, handle: int, mapping: "MappedMemory") -> None:
        """Put the memory of *handle* where *mapping* is; where the handle went meanwhile, nothing is there."""
        with suppress(TrapRefused):
            descriptor, writable = self._place(handle)
            self._host.remap(mapping, descriptor, writable=writable)

    def _used(self, handle: int) -> "list[tuple[MappedMemory, bool]]":
        return [known for known in self._mappings.get(handle, ()) if known[0].used]

    def _sweep(self) -> None:
        """Forget the handles nothing is mapped of any more."""
        self._mappings = {handle: used for handle in self._mappings if (used := self._used(handle))}
        self._sweep_at = max(_SWEEP, 2 * len(self._mappings))
