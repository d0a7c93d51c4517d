"""Reserved addresses of a real process: nothing lies there but what is put there."""

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

from libexo.host.memory import protect, reserve, unmap


class RealReserved:
    """Reserved addresses. Implements `libexo.host.base.Reserved`."""

    def __init__(self, size: int) -> None:
        """Reserve *size* bytes. Raises OSError."""
        self.address = reserve(size)
        weakref.finalize(self, unmap, self.address, size).atexit = False

    def view(self, offset: int, size: int, mapped: Sequence[memoryview]) -> memoryview:
        """Return *size* bytes from *offset*, in which *mapped* lie: they stay as long as anything refers to it."""
        kind: Any = type("Span", (ctypes.c_ubyte * size,), {})  # with attributes, unlike a bare array
        memory = kind.from_address(self.address + offset)
        memory.keeps = (self, *(view.obj for view in mapped))
        return memoryview(memory).cast("B")

    def protect(self, view: memoryview, offset: int, size: int, *, writable: bool) -> None:
        """Have a write to *size* bytes of a mapping, from its *offset* on, end the program, or not."""
        memory = view.obj
        assert isinstance(memory, ctypes.Array)
        protect(ctypes.addressof(memory), ctypes.sizeof(memory), offset, size, writable=writable)

    def give_back(self, address: int, size: int) -> None:
        """Let nothing lie there any more, for a mapping that is gone."""
        reserve(size, address)
