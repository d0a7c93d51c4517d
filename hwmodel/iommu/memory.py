"""The memory that a model reads its queues and tables from: addresses in bytes, as the bus sees them."""

from collections.abc import Sequence
from typing import Protocol

from hwmodel.iommu.layout import PAGE


class BusError(Exception):
    """No memory answers at an address."""


class Memory(Protocol):
    """What a bus offers."""

    def read(self, address: int, length: int) -> bytes:
        """Return *length* bytes from *address* on. Raises BusError if some of them are not there."""

    def write(self, address: int, data: bytes) -> None:
        """Store *data* from *address* on. Raises BusError, and stores nothing, if some of it has no place."""


class Image:
    """Memory in ranges of addresses, zero at first. What was never written takes no room."""

    def __init__(self, *ranges: range) -> None:
        """Have memory at *ranges*."""
        self._ranges: Sequence[range] = ranges
        self._pages: dict[int, bytearray] = {}

    def read(self, address: int, length: int) -> bytes:
        """Return *length* bytes from *address* on. Raises BusError if some of them are not there."""
        self._check(address, length)
        found = bytearray()
        for page, start, stop in _pieces(address, length):
            held = self._pages.get(page)
            found += held[start:stop] if held else bytes(stop - start)
        return bytes(found)

    def write(self, address: int, data: bytes) -> None:
        """Store *data* from *address* on. Raises BusError, and stores nothing, if some of it has no place."""
        self._check(address, len(data))
        done = 0
        for page, start, stop in _pieces(address, len(data)):
            held = self._pages.setdefault(page, bytearray(PAGE))
            held[start:stop] = data[done : done + stop - start]
            done += stop - start

    def _check(self, address: int, length: int) -> None:
        for there in self._ranges:
            if there.start <= address and address + length <= there.stop:
                return
        raise BusError(f"no memory answers at {address:#x}, {length} bytes")


def _pieces(address: int, length: int) -> Sequence[tuple[int, int, int]]:
    """Return the number of each page that the bytes are in, and from where to where in it."""
    return [
        (page, max(address - page * PAGE, 0), min(address + length - page * PAGE, PAGE))
        for page in range(address // PAGE, (address + length - 1) // PAGE + 1)
    ]
