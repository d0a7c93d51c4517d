"""A page fault served by another process in Python, nothing in between: it reads, stores a page, and continues."""

import ctypes
import fcntl
import mmap
import os
import platform
import select
import struct
from collections.abc import Callable
from time import monotonic_ns

from bench.worker import Sampler, peer, work

PAGE = 4096
PAGES = 512
AROUND = 16
CONTENT = b"\x07" * PAGE
NUMBER = {"x86_64": 323, "aarch64": 282}.get(platform.machine(), -1)
FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | 1
FEATURES = 1 << 0 | 1 << 5 | 1 << 10 | 1 << 12
API, REGISTER, CONTINUE = 0xC018AA3F, 0xC020AA00, 0xC020AA07
MODES = 1 | 2 | 4
PUNCH = 3
FAULT, FOUR, THREE = struct.Struct("<16xQ8x"), struct.Struct("<QQQq"), struct.Struct("<QQQ")


class Memory:
    """Shared memory whose faults come to a descriptor."""

    def __init__(self) -> None:
        """Make and register it."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
        self._file = os.memfd_create("faults")
        os.ftruncate(self._file, PAGES * PAGE)
        self.view = mmap.mmap(self._file, PAGES * PAGE)
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self.view))
        self._faults = self._libc.syscall(NUMBER, FLAGS)
        fcntl.ioctl(self._faults, API, bytearray(THREE.pack(0xAA, FEATURES, 0)))
        fcntl.ioctl(self._faults, REGISTER, bytearray(FOUR.pack(self._start, PAGES * PAGE, MODES, 0)))

    def serve(self) -> None:
        """Answer the faults of who forked us; what is stored here goes through a mapping nobody watches."""
        view, poll = mmap.mmap(self._file, PAGES * PAGE), select.poll()
        poll.register(self._faults, select.POLLIN)
        while True:
            poll.poll()
            (address,) = FAULT.unpack(os.read(self._faults, FAULT.size))
            at = (address - self._start) // PAGE * PAGE
            view[at : at + PAGE] = CONTENT
            fcntl.ioctl(self._faults, CONTINUE, bytearray(FOUR.pack(self._start + at, PAGE, 0, 0)))

    def clear(self) -> None:
        """Make all pages absent."""
        self._libc.fallocate(self._file, PUNCH, 0, PAGES * PAGE)


def touches(view: "mmap.mmap | memoryview", clear: Callable[[], object], around: int = 1) -> Sampler:
    """Return a sampler of how long a page takes, of *around* that are touched in a row, all absent before."""

    def sample(count: int) -> list[int]:
        samples = []
        for number in range(count):
            at = number * around % PAGES
            if not at:
                clear()
            start = monotonic_ns()
            for page in range(at, at + around):
                view[page * PAGE]
            samples.append((monotonic_ns() - start) // around)
        return samples

    return sample


def main() -> None:
    """Measure until stdin ends."""
    memory = Memory()
    with peer(memory.serve, own_session=True):
        work({"fault": lambda: touches(memory.view, memory.clear)})


if __name__ == "__main__":
    main()
