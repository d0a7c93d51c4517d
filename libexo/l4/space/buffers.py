"""Addresses for Python's own memory, so that string items can name it.

A buffer (bytes, bytearray, memoryview) is at an address in the upper half of the address space, which
is kept free for them. It is always present, so it never faults. It is not an extent, so it can never be mapped to
others. An address is never given out twice: one that was forgotten names nothing.

A memoryview is forgotten when the last reference to it goes: keep one as long as it must be found.
Python cannot tell when bytes and bytearrays go, so they stay until `Buffers.forget`.
"""

import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from libexo.errors import ExoError
from libexo.l4.space.regions import END

Buffer = bytes | bytearray | memoryview

BUFFERS = END >> 1
"""The first address of a buffer; no extent is mapped from here on."""
_LINE = 64
"""Buffers begin at multiples, with at least one between any two: a run past the end of one meets no other."""


class BadAddress(ExoError):
    """An access that no page fault can mend."""


class _Entry(NamedTuple):
    name: int
    """The `id` of the buffer."""
    get: Callable[[], Buffer | None]


class Buffers:
    """The buffers of one address space."""

    def __init__(self) -> None:
        """Start with none."""
        self._next = BUFFERS
        self._bases: list[int] = []
        self._entries: dict[int, _Entry] = {}
        self._known: dict[int, int] = {}
        """Addresses of buffers, by `id`."""
        self._gone: deque[int] = deque()
        """Addresses of buffers that have gone since the last look; the collector adds to it at any moment."""

    def put(self, buffer: Buffer) -> int:
        """Return the address of *buffer*, the same at each call. Raises ValueError.

        It must be one run of bytes in memory, at least one.
        """
        self._sweep()
        if (known := self._known.get(id(buffer))) is not None:
            return known
        with memoryview(buffer) as view:
            size = view.nbytes
            if not view.c_contiguous or not size:
                raise ValueError(f"{buffer!r} is not one run of bytes, at least one, and has no address")
        base = self._next
        self._next += (size + 2 * _LINE - 1) // _LINE * _LINE
        self._bases.append(base)
        self._entries[base] = _Entry(id(buffer), self._reference(buffer, base))
        self._known[id(buffer)] = base
        return base

    def _reference(self, buffer: Buffer, base: int) -> Callable[[], Buffer | None]:
        if not isinstance(buffer, memoryview):
            return lambda: buffer
        gone = self._gone
        return weakref.ref(buffer, lambda _: gone.append(base))

    def forget(self, address: int) -> None:
        """Give up *address*, which `put` returned. Raises BadAddress if there is no buffer."""
        self._sweep()
        if address not in self._entries:
            raise BadAddress(f"no buffer begins at {address:#x}")
        self._remove(address)

    def piece(self, address: int, end: int, *, writable: bool) -> memoryview:
        """Return the bytes from *address* on, up to *end* or the end of the buffer. Raises BadAddress."""
        self._sweep()
        index = bisect_right(self._bases, address) - 1
        base = self._bases[index] if index >= 0 else END
        buffer = self._entries[base].get() if base != END else None
        view = memoryview(b"") if buffer is None else memoryview(buffer).cast("B")
        piece = view[address - base : end - base]
        if not piece:
            raise BadAddress(f"there is no buffer at {address:#x}")
        if writable and piece.readonly:
            raise BadAddress(f"the buffer at {address:#x} is read-only")
        return piece if writable else piece.toreadonly()

    def _sweep(self) -> None:
        while self._gone:
            base = self._gone.popleft()
            if base in self._entries:
                self._remove(base)

    def _remove(self, base: int) -> None:
        entry = self._entries.pop(base)
        del self._bases[bisect_right(self._bases, base) - 1]
        if self._known.get(entry.name) == base:
            del self._known[entry.name]
