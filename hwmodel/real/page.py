"""Memory of the kernel that programs may map: the KIP, the event ring, environment pages."""

import contextlib
import fcntl
import mmap
import os

from hwmodel.real.descriptor import RealDescriptor, own_copy
from hwmodel.real.errors import lending
from hwmodel.real.libc import address_of, map_over
from hwmodel.real.memory import copy_data, memory_file

SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
"""The kernel writes to it: a holder that could cut it short would make the kernel die of a bus error."""


class RealPage:
    """Pages the kernel has mapped for writing; see `hwmodel.machine.Page`."""

    @lending
    def __init__(self, name: str, size: int) -> None:
        self._size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._number = memory_file(f"exo-{name}", self._size, SEALS, lent=False)
        try:
            self._map = mmap.mmap(self._number, self._size)
        except OSError:
            os.close(self._number)
            raise
        self._buffer = memoryview(self._map)[:size]
        self._path = ""

    @property
    def buffer(self) -> memoryview:
        """The bytes, writable."""
        return self._buffer

    def descriptor(self, *, writable: bool) -> RealDescriptor:
        """Return a descriptor by which to map it; without *writable* it cannot be mapped for writing."""
        if writable and self._path:
            raise ValueError(f"{self._path} is readable by all, and writable by the kernel only")
        return own_copy(self._number, writable=writable)

    def publish(self, path: str) -> None:
        """Become the file *path*, which every user may read; comes before any descriptor is handed out.

        A memory file cannot be given a path, so the pages move into an ordinary one, beneath the buffer that
        the kernel holds. Its blocks are allocated at once: a full file system is then an error at boot, and
        not a bus error later.
        """
        partial = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        number = os.open(partial, flags, 0o600)
        try:
            os.posix_fallocate(number, 0, self._size)
            for _ in copy_data(
                self._number, number, self._size
            ):  # what was never written to is zeros there, too
                pass
            os.fchmod(number, 0o644)
            map_over(address_of(self._map), self._size, number)
            os.rename(partial, path)
        except BaseException:
            os.close(number)
            raise
        os.close(self._number)
        self._number, self._path = number, path

    def close(self) -> None:
        """Free it, and remove its path. Twice is harmless."""
        if self._number < 0:
            return
        self._buffer.release()
        # A part of the buffer may still be held elsewhere: the mapping then goes with that.
        with contextlib.suppress(BufferError):
            self._map.close()
        os.close(self._number)
        self._number = -1
        if self._path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
