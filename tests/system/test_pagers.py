"""Pages that appear when they are touched: real processes, real faults, a pager that is a process of its own."""

import contextlib
import os
import signal
from pathlib import Path

import pytest

from exo import holdings
from kernel.abi.errors import Fault
from kernel.abi.limits import FRAME_SIZE
from tests.system.booted import Finished, System, ended, wait_until
from tests.system.programs import PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

PAGES, FRAMES = 128, 8
STORE = f"""
from libexo import pager
PAGES, FRAMES, FRAME = {PAGES}, {FRAMES}, 4096

class Store(Interface, label=0x63, name="store"):
    @operation(1)
    def open(self, writable: bool) -> Extent: ...
    @operation(2)
    def faults(self) -> list[tuple[int, bool]]: ...
    @operation(3)
    def evict(self, page: int) -> int: ...
    @operation(4)
    def states(self) -> list[int]: ...
    @operation(5)
    def load(self, page: int) -> bytes: ...
    @operation(6)
    def store(self, page: int, data: bytes) -> None: ...
    @operation(7)
    def revoke(self) -> int: ...
"""
PAGER = (
    PRELUDE
    + STORE
    + """
patience, lazy = float(sys.argv[1]), sys.argv[2:]
told = []
def fill(store, fault):
    told.append((fault.page, fault.write))
    if not lazy:
        store.supply(fault.page, b"page %d, fault %d" % (fault.page, len(told)))

class Server(Store):
    def __init__(self):
        memory = Memory.connect(env)
        memory.promise(FRAMES)
        self.paged = pager.PagedObject(env, memory.ram(), PAGES, FRAMES, fill, patience=patience)
    def open(self, writable):
        return self.paged.extent if writable else self.paged.extent.read_only()
    def faults(self): return told
    def evict(self, page):
        self.paged.guard(page)
        return self.paged.evict(page)
    def states(self): return [int(state) for state in self.paged.states(0, FRAMES)]
    def load(self, page): return self.paged.load(page)
    def store(self, page, data): self.paged.store(page, data)
    def revoke(self): return env.sys.revoke(self.paged.extent.handle)[0]

server = Server()
print(os.getpid(), flush=True)
serve(server, name="store")
"""
)
"""Fills a page with its number and how many faults there were, if it is not lazy."""
USER = (
    PRELUDE
    + STORE
    + """
store = Store.connect(env)
def text(view, page): return bytes(view[page * FRAME:page * FRAME + 32]).rstrip(b"\\0").decode()
"""
)

TOUCHES = """
view = vm.map(env, store.open(True))
print(text(view, 3), text(view, 5))
view[5 * FRAME + 100] = 65
print(store.faults(), store.states())
print(store.evict(5), store.evict(3), store.states())
print(text(view, 5), view[5 * FRAME + 100])
"""


def test_first_touch_is_a_message(booted: System) -> None:
    """A touch of an absent page is told to its pager, whose supply lets it go on; evicted, it is one again."""
    with booted.start(PAGER, 10, name="store") as pager:
        pager.line()
        finished = booted.run(USER + TOUCHES, paged=True)

        assert (finished.out.splitlines(), finished.err) == (
            [
                "page 3, fault 1 page 5, fault 2",
                "[(3, False), (5, False)] [0, 0, 0, 1, 0, 3, 0, 0]",
                "1 1 [0, 0, 0, 0, 0, 0, 0, 0]",
                "page 5, fault 3 0",
            ],
            "",
        )


MANY = 2048
TALKS = """
kernel, server = int(sys.argv[1]), int(sys.argv[2])
before = os.sched_getaffinity(kernel)
view = vm.map(env, store.open(True))
for page in range(PAGES):
    view[page * FRAME]
    places = set().union(*map(os.sched_getaffinity, (kernel, server, 0)))
    if len(places) == 1:
        break
print(len(places))
while os.sched_getaffinity(kernel) != before: env.thread.sleep(0.01)
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core only: they are together")
def test_the_kernel_comes_to_those_who_talk_by_faults(booted: System) -> None:
    """While one fault follows another, it is on the core of program and pager, and free again when they cease."""
    size = f"PAGES, FRAMES, FRAME = {PAGES}, {FRAMES}", f"PAGES, FRAMES, FRAME = {MANY}, {MANY}"
    with booted.start(PAGER.replace(*size), 10, name="store") as pager:
        pid = pager.line()
        finished = booted.run((USER + TALKS).replace(*size), booted.pid, pid, paged=True)

        assert (finished.out, finished.err) == ("1\n", "")


SHARES = """
view, seen = vm.map(env, store.open(True)), vm.map(env, store.open(False))
print(view.readonly, seen.readonly, text(seen, 1), store.faults())
view[FRAME:FRAME + 6] = b"stored"
print(text(seen, 1), text(view, 1), store.faults())
print(libc.mprotect(ctypes.c_void_p(address(view)), ctypes.c_size_t(0), 0))
store.evict(1)
print(text(seen, 1))
print(seen[2 * FRAME], store.faults()[-1], store.states()[:3])
"""


def test_who_may_only_read(booted: System) -> None:
    """It sees what others store, and what is evicted is gone for it as well; its reads write nothing."""
    with booted.start(PAGER, 10, name="store") as pager:
        pager.line()
        finished = booted.run(USER + SHARES, paged=True)

        assert (finished.out.splitlines(), finished.err) == (
            [
                "False True page 1, fault 1 [(1, False)]",
                "stored, fault 1 stored, fault 1 [(1, False)]",
                "0",
                "page 1, fault 2",
                "112 (2, False) [0, 1, 1]",
            ],
            "",
        )


CALLS = """
view = vm.map(env, store.open(True))
reading, writing = os.pipe()
os.write(writing, b"new")
def read(): os.readv(reading, [view[4 * FRAME:4 * FRAME + 3]])
show(read)
vm.touch(env, view, 4 * FRAME, 3)
show(read)
vm.touch(env, view, 4 * FRAME, 3, write=True)
show(read)
print(text(view, 4), store.faults(), store.states()[4])
"""


def test_system_calls_do_not_wait(booted: System) -> None:
    """One that would write to a page that is absent or clean fails at once; touched first, it is done."""
    with booted.start(PAGER, 10, name="store") as pager:
        pager.line()
        finished = booted.run(USER + CALLS, paged=True)

        assert (finished.out, finished.err) == ("EFAULT\nEFAULT\ndone\nnewe 4, fault 1 [(4, False)] 3\n", "")


STRANGER = """
extent = store.open(True)
mapped, descriptor = env.sys.map_extent(extent.handle)
place = libc.mmap(None, ctypes.c_size_t(PAGES * FRAME), 3, 1, descriptor, ctypes.c_long(0))
print(ctypes.string_at(place, 8))
ctypes.memset(place + FRAME, 66, 8)
view = vm.map(env, extent)
print(text(view, 0), text(view, 1), store.faults())
"""


def test_a_mapper_that_tells_nobody(booted: System) -> None:
    """It finds zeros, and what it stores is in no page: who has a window finds what the pager supplied."""
    with booted.start(PAGER, 10, name="store") as pager:
        pager.line()
        finished = booted.run(USER + STRANGER, paged=True)

        assert (finished.out.splitlines(), finished.err) == (
            [
                r"b'\x00\x00\x00\x00\x00\x00\x00\x00'",
                "page 0, fault 1 page 1, fault 2 [(0, False), (1, False)]",
            ],
            "",
        )


CONFINED = """
links = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if number.isdecimal()
         and os.path.exists(f"/proc/self/fd/{number}")]
print(any("userfaultfd" in link for link in links))
show(os.fork, lambda: called("syscall", 323, 1), lambda: vm.map(env, store.open(True)))
"""


def test_what_a_program_keeps(booted: System) -> None:
    """It has no descriptor of its own faults, makes none, and makes no process; unpaged it has no window."""
    with booted.start(PAGER, 10, name="store") as pager:
        pager.line()
        for paged, last in ((True, "done"), (False, "NOT_PAGED")):
            finished = booted.run(USER + CONFINED, paged=paged)
            assert (finished.out, finished.err) == (f"False\nEPERM EPERM {last}\n", "")


STAYS = """
view = vm.map(env, store.open(True))
print(text(view, 7), os.getpid(), os.getuid(), flush=True)
sys.stdin.read()
"""


def test_a_pager_is_another_process(booted: System) -> None:
    """It has a pid and a uid of its own, and no hold on the faults it answers: kernel and nursery alone have."""
    with booted.start(PAGER, 10, name="store") as pager:
        pids = {"pager": int(pager.line()), "kernel": booted.pid, "nursery": booted.nursery}
        row = booted.row("store")
        with booted.start(USER + STAYS, paged=True) as user:
            *said, pid, uid = user.line().split()
            pids["user"] = int(pid)

            assert (" ".join(said), row is not None and row.uid != int(uid)) == ("page 7, fault 1", True)
            assert len(set(pids.values())) == len(pids)
            assert {name: faults_held(each) for name, each in pids.items()} == {
                "pager": 0, "kernel": 1, "nursery": 1, "user": 0,
            }  # fmt: skip


SHOWN = """
view = vm.map(env, store.open(False))
print(view[0], view[4096], address(view), flush=True)
sys.stdin.read()
"""


def test_what_is_shown_of_it(booted: System) -> None:
    """`exo mem` names pages, pager, rights, and where a program has it mapped, by the host's word."""
    with booted.start(PAGER, 10, name="store") as pager:
        pager.line()
        with booted.start(USER + SHOWN, name="user", paged=True) as user:
            at = int(user.line().split()[2])
            [held] = holdings.of("user", holdings.extents(booted.kip))
            maps = holdings.mappings((booted.row("user") or booted.server("memory")).pid) or {}

    assert (held.pages, held.frames, held.resident, held.pager, held.user) == (
        PAGES,
        FRAMES,
        2,
        "store",
        "store",
    )
    assert holdings.letters(held.holders["user"]) == "r----"
    assert [(place.address, place.size) for place in maps[held.first, held.frames]] == [
        (at, PAGES * FRAME_SIZE)
    ]


def faults_held(pid: int) -> int:
    """Return how many descriptors for the faults of programs a process has."""
    held = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held += "userfaultfd" in str(link.readlink())
    return held


def test_the_patience_of_a_fault(booted: System) -> None:
    """Who waits longer than the object allows is ended by SIGBUS, and the record names the pager."""
    with booted.start(PAGER, 0.05, "lazy", name="store") as pager:
        pager.line()
        with booted.start(USER + "view = vm.map(env, store.open(True)); view[0]", paged=True) as user:
            assert_died_of(user.finish(), "store")


MOVES = """
view = vm.map(env, store.open(True))
before = text(view, 2)
print(before, store.revoke())
try:
    view[2 * FRAME]
finally:
    print("never")
"""


def test_revoked(booted: System) -> None:
    """Who had a window onto what was taken back finds a bus error there, and never zeros."""
    with booted.start(PAGER, 10, name="store") as pager:
        pager.line()
        finished = booted.run(USER + MOVES, paged=True)

        assert (finished.out, finished.status) == ("page 2, fault 1 1\n", -signal.SIGBUS)


def assert_died_of(finished: Finished, pager: str) -> None:
    """Hold it to have ended by an access whose record names *pager*."""
    assert (finished.status, finished.fault) == (-signal.SIGBUS, Fault.NO_PAGE)
    assert f": {pager} (" in finished.text


PROGRAMS, THREADS = 10, 10
FLIGHT = f"""
view = vm.map(env, store.open(True))
def access(page):
    vm.touch(env, view, page * FRAME, 1)
    print("an access returned", flush=True)
threads = [threading.Thread(target=access, args=(int(sys.argv[1]) * {THREADS} + at,)) for at in range({THREADS})]
for thread in threads: thread.start()
print(os.getpid(), flush=True)
for thread in threads: thread.join()
"""


@pytest.mark.parametrize("victim", ["pager", "kernel"])
def test_faults_in_flight(own: System, victim: str) -> None:
    """When pager or kernel is killed while 100 accesses wait, no access returns, and their programs end."""
    with contextlib.ExitStack() as opened:
        pager = opened.enter_context(own.start(PAGER, 60, "lazy", name="store"))
        process = int(pager.line())
        users = [
            opened.enter_context(own.start(USER + FLIGHT, number, paged=True)) for number in range(PROGRAMS)
        ]
        processes = [int(user.line()) for user in users]
        probe = "print(len(set(store.faults())))"
        assert wait_until(lambda: own.run(USER + probe).out == f"{PROGRAMS * THREADS}\n")
        nursery = own.nursery
        os.kill(process if victim == "pager" else own.pid, signal.SIGKILL)

        assert all(ended(each) for each in processes)
        if victim == "pager":
            for user in users:
                assert_died_of(user.finish(), "store")
        assert not any("returned" in user.rest() for user in users)
        assert victim == "pager" or ended(nursery)  # it clears up after a kernel that died
