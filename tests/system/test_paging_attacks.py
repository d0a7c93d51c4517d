"""What hostile mappers and pagers do to paged memory, on real processes: they are ended, and nobody else waits."""

import os

import pytest

from exo.uninvited import surplus
from kernel.abi.errors import Fault
from tests.system.booted import System
from tests.system.programs import PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

LARGE = """
from libexo import pager
PAGES, FRAMES, FRAME = 65536, 256, 4096

class Large(Interface, label=0x65, name="large"):
    @operation(1)
    def open(self) -> Extent: ...
    @operation(2)
    def evict(self, page: int) -> int: ...
    @operation(3)
    def sweep(self) -> None: ...
"""
PAGER = (
    PRELUDE
    + LARGE
    + """
def fill(store, fault): store.supply(fault.page, b"page %d" % fault.page)

class Server(Large):
    def __init__(self):
        memory = Memory.connect(env)
        memory.promise(FRAMES)
        self.paged = pager.PagedObject(env, memory.ram(), PAGES, FRAMES, fill, patience=60)
    def open(self): return self.paged.extent
    def evict(self, page):
        self.paged.guard(page)
        return self.paged.evict(page)
    def sweep(self): self.paged.sweep()

server = Server()
print("serves", flush=True)
serve(server, name="large")
"""
)
USER = (
    PRELUDE
    + LARGE
    + """
large = Large.connect(env)
def text(view, page): return bytes(view[page * FRAME:page * FRAME + 32]).rstrip(b"\\0").decode()
"""
)

WRITES = """
_, descriptor = env.sys.map_extent(large.open().handle)
data = mmap.mmap(-1, PAGES * FRAME, prot=mmap.PROT_READ)
def write():
    while True: os.pwrite(descriptor, data, 0)
for _ in range(127): threading.Thread(target=write, daemon=True).start()
print("writes", flush=True)
write()
"""
"""Holds the lock of the file, which an eviction needs, for as long as its threads write, one after another."""

LOCKS = """
extent, size = large.open(), 4 << 30
base = libc.mmap(None, ctypes.c_size_t(size), 1, 0x4022, -1, ctypes.c_long(0))
print(libc.madvise(ctypes.c_void_p(base), ctypes.c_size_t(size), 22))
_, descriptor = env.sys.map_extent(extent.handle)
libc.mmap(ctypes.c_void_p(base), ctypes.c_size_t(PAGES * FRAME), 3, 0x11, descriptor, ctypes.c_long(0))
env.sys.window(extent.handle, base, 0, PAGES)
begin = threading.Event()
def lock():
    begin.wait()
    while True:
        for rights in (1, 3): libc.mprotect(ctypes.c_void_p(base), ctypes.c_size_t(size), rights)
for _ in range(64): threading.Thread(target=lock, daemon=True).start()
print("locks", flush=True)
begin.set()
while True: env.sys.window(extent.handle, base, 0, PAGES)
"""
"""Holds the lock of its own memory, which all that is done about its faults needs."""
WORKS = """
view = vm.map(env, large.open())
print([text(view, page) for page in (7, 8)], large.evict(7), text(view, 7))
"""


def test_a_writer_that_keeps_a_file_busy(booted: System) -> None:
    """It is ended when it kept an eviction waiting too long, which is done then; its record says why."""
    with booted.start(PAGER, name="large") as pager:
        pager.line()
        with booted.start(USER + WRITES, name="writes") as hostile:
            hostile.line()
            finished = booted.run(USER + WORKS, paged=True)
            ended = hostile.finish()

    assert (finished.out, finished.err) == ("['page 7', 'page 8'] 1 page 7\n", "")
    assert ended.fault == Fault.HINDERS


def test_a_mapper_that_keeps_its_memory_locked(booted: System) -> None:
    """It is ended when it kept the answer to its own fault waiting too long; others have theirs meanwhile."""
    with booted.start(PAGER, name="large") as pager:
        pager.line()
        with booted.start(USER + LOCKS, name="locks", paged=True) as hostile:
            assert hostile.line() == "0"
            hostile.line()
            finished = booted.run(USER + WORKS, paged=True)
            ended = hostile.finish()

    assert (finished.out, finished.err) == ("['page 7', 'page 8'] 1 page 7\n", "")
    assert ended.fault == Fault.HINDERS


STRANGER = """
_, descriptor = env.sys.map_extent(large.open().handle)
place = libc.mmap(None, ctypes.c_size_t(PAGES * FRAME), 1, 1, descriptor, ctypes.c_long(0))
for page in range(1000): ctypes.string_at(place + page * FRAME, 1)
print("made", flush=True)
input()
large.sweep()
"""
"""Makes pages by reading, which nobody supplied."""


def test_pages_that_nobody_supplied(booted: System) -> None:
    """They take memory beyond the object's frames; `exo doctor` counts them, and a sweep takes them away."""
    run = str(booted.run_directory)
    with booted.start(PAGER, name="large") as pager:
        pager.line()
        with booted.start(USER + STRANGER, name="stranger") as stranger:
            stranger.line()
            with pytest.raises(OSError, match="744 pages beyond the frames of 1 objects"):
                surplus(run)
            stranger.tell("")
            stranger.finish()
            assert surplus(run) == "no object has more pages than frames"
