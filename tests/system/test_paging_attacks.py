"""What hostile mappers and pagers do to paged memory, on real processes: they are ended, and nobody else waits."""

import os
import signal
from dataclasses import dataclass

import pytest

from exo.uninvited import surplus
from kernel.abi.errors import Fault
from tests.system.booted import System
from tests.system.programs import PRELUDE
from tests.system.test_attacks import matches

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


@dataclass(frozen=True)
class Row:
    """What a hostile pager, or a hostile mapper, does, and what comes of it."""

    name: str
    does: str
    says: str = ""
    status: int = 0
    fault: int = 0
    text: str = ""
    """What the record of the program's end names."""


BUS, KILLED = -signal.SIGBUS, -signal.SIGKILL
PAGERS = (
    Row("dies", "os.kill(os.getpid(), signal.SIGKILL)", status=BUS, fault=Fault.NO_PAGE, text="hostile"),
    Row("exits", "os._exit(0)", status=BUS, fault=Fault.NO_PAGE, text="hostile"),
    Row("stops", "os.kill(os.getpid(), signal.SIGSTOP)", status=BUS, fault=Fault.NO_PAGE, text="hostile"),
    Row("never_answers", "pass", status=BUS, fault=Fault.NO_PAGE, text="did not supply it in 300 ms"),
    Row("raises", "1 / 0", status=BUS, fault=Fault.NO_PAGE, text="hostile"),
    Row("waits_for_its_victim", "env.thread.call(fault.thread, ipc.Message(1), 9)", status=BUS, fault=Fault.NO_PAGE,
        text="hostile"),
    Row("supplies_another", "store.supply(fault.page + 1, b'x')", status=BUS, fault=Fault.NO_PAGE, text="hostile"),
    Row("supplies_nothing", "env.sys.supply(store.extent.handle, fault.page)", status=BUS, fault=Fault.NO_PAGE,
        text="nothing is mapped"),
    Row("gives_up", "store.close()", status=BUS, fault=Fault.NO_PAGE, text="hostile"),
    Row("takes_back", "env.sys.revoke(store.extent.handle)", status=BUS, fault=Fault.NO_PAGE, text="hostile"),
    Row("evicts_some_time", "store.supply(fault.page, b'x'); len(told) > 20 or store.evict(fault.page)", "x"),
    Row("guards_for_ever", "fault.write or store.supply(fault.page, b'x'); store.guard(fault.page)",
        "x", KILLED, Fault.NO_PAGE, "hostile"),
    Row("supplies_twice", "store.supply(fault.page, b'x'); store.supply(fault.page, b'y')", "{x,y}"),
    Row("supplies_all", "store.supply(0, b'x' * 4096 * 8, 8)", "x"),
    Row("supplies_too_many", "store.supply(0, b'x' * 4096 * 9, 9)",
        status=BUS, fault=Fault.NO_PAGE, text="hostile"),
)  # fmt: skip
HOSTILE = (
    PRELUDE
    + LARGE.replace("65536, 256", "16, 8").replace('"large"', '"hostile"')
    + """
told = []
def fill(store, fault):
    told.append(fault)
    exec(sys.argv[1], globals(), {"store": store, "fault": fault})

class Server(Large):
    def __init__(self):
        memory = Memory.connect(env)
        memory.promise(FRAMES)
        self.paged = pager.PagedObject(env, memory.ram(), PAGES, FRAMES, fill, patience=0.3)
    def open(self): return self.paged.extent

server = Server()
print("serves", flush=True)
serve(server, name="hostile")
"""
)
VICTIM = (
    PRELUDE
    + LARGE.replace("65536, 256", "16, 8").replace('"large"', '"hostile"')
    + """
hostile = Large.connect(env)
view = vm.map(env, hostile.open())
vm.touch(env, view, 3 * FRAME, 1)
print(chr(view[3 * FRAME]), flush=True)
hostile.open()  # so that it is through with the fault
if view[3 * FRAME] == 120: view[3 * FRAME] = 121
"""
)


@pytest.mark.parametrize("row", PAGERS, ids=lambda row: row.name)
def test_a_hostile_pager(booted: System, row: Row) -> None:
    """Its victim finds the page, or a bus error whose record names the pager: it never waits for ever."""
    with booted.start(HOSTILE, row.does, name="hostile") as pager:
        pager.line()
        ended = booted.run(VICTIM, paged=True)
        pager.signal(signal.SIGKILL)
        pager.finish()

    assert (ended.status, ended.fault) == (row.status, row.fault), ended
    assert matches(ended.out, row.says)
    assert row.text in ended.text


MAPPERS = (
    Row("unmaps_what_a_thread_waits_for",
        "wait(5); called('munmap', ctypes.c_void_p(at), ctypes.c_size_t(PAGES * FRAME)); print('gone')", "gone"),
    Row("maps_over_what_a_thread_waits_for",
        "wait(5); libc.mmap(ctypes.c_void_p(at), ctypes.c_size_t(PAGES * FRAME), 3, 0x32, -1, ctypes.c_long(0)); "
        "print(ctypes.string_at(at, 1))", "b'\\x00'"),
    Row("ends_the_window_a_thread_waits_in", "wait(5); env.sys.window(handle, at); print('ended')", "ended"),
    Row("gives_up_what_a_thread_waits_for", "wait(5); env.sys.drop(handle); time.sleep(9)", status=BUS,
        fault=Fault.NO_PAGE, text="no right any more"),
    Row("forgets_pages",
        "wait(0); print(ctypes.string_at(at, 6)); "
        "called('madvise', ctypes.c_void_p(at), ctypes.c_size_t(FRAME), 4); print(ctypes.string_at(at, 6))",
        "b'page 0' b'page 0'"),
    Row("moves_its_view",
        "wait(0); libc.mremap.restype = ctypes.c_void_p; size = ctypes.c_size_t(PAGES * FRAME)\n"
        "there = libc.mremap(ctypes.c_void_p(at), size, size, 1)\n"
        "print(errno.errorcode[ctypes.get_errno()] if there == 2**64 - 1 else ctypes.string_at(there, 6))",
        "b'page 0'"),
    Row("punches", "show(lambda: called('madvise', ctypes.c_void_p(at), ctypes.c_size_t(FRAME), 9))", "EPERM"),
    Row("makes_faults_of_its_own", "show(lambda: called('syscall', 323, 1), "
        "lambda: os.open('/dev/userfaultfd', os.O_RDWR), os.fork)", "EPERM {EACCES,ENOENT} EPERM"),
    Row("opens_windows_anywhere",
        "show(*[lambda a=a: env.sys.window(handle, a, 0, 1) for a in (0, FRAME, 1, at + 1, 1 << 46, 1 << 47)],"
        " lambda: env.sys.window(handle, 1 << 63, 0, 1), lambda: env.sys.window(handle, at, PAGES, 1))",
        "BAD_ARGUMENT " * 8),
    Row("is_no_pager",
        "show(*[lambda c=c: c(handle, 0) for c in (env.sys.supply, env.sys.evict, env.sys.protect)])",
        "MISSING_RIGHT " * 3),
    Row("waits_for_too_many",
        "for page in range(200): wait(page, False)\ntime.sleep(9)", status=BUS, fault=Fault.NO_PAGE,
        text="waits for 128 pages"),
)  # fmt: skip
"""What a program does to a window of its own onto the pages of `LAZY`, which supplies page 0 and no other."""
LAZY = PAGER.replace("def fill(store, fault): ", "def fill(store, fault): fault.page or ")
MAPPER = (
    USER
    + """
import time
extent = large.open(); handle = extent.handle
_, descriptor = env.sys.map_extent(handle)
at = libc.mmap(None, ctypes.c_size_t(PAGES * FRAME), 3, 1, descriptor, ctypes.c_long(0))
env.sys.window(handle, at, 0, PAGES)
from libexo.host.memory import touch
def wait(page, there=True):
    threading.Thread(target=lambda: touch(at + page * FRAME, write=False), daemon=True).start()
    if there: large.evict(1000)
exec(sys.argv[1])
sys.stdout.flush()
os._exit(0)
"""
)
WELL = """
view = vm.map(env, large.open())
print(text(view, 0))
"""


@pytest.mark.parametrize("row", MAPPERS, ids=lambda row: row.name)
def test_a_hostile_mapper(booted: System, row: Row) -> None:
    """What it does concerns nobody else: its pager serves others, and the books balance when it is gone."""
    with booted.start(LAZY, name="large") as pager:
        pager.line()
        ended = booted.run(MAPPER, row.does, paged=True)
        after = booted.run(USER + WELL, paged=True)

    assert (ended.status, ended.fault) == (row.status, row.fault), ended
    assert matches(ended.out, row.says)
    assert row.text in ended.text
    assert (after.out, after.err) == ("page 0\n", "")
