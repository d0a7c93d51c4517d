"""Parts of paged objects between real processes, whose MMU and files have the last word."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from hwmodel.real.cutting import pages_are_small
from tests.system.booted import Running, System, wait_until
from tests.system.programs import OBEY, PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

STORE = """
from libexo import pager
PAGES, FRAMES, PAGE = 64, 16, limits.FRAME_SIZE
READ, WRITE, PASS = 4, 2, 16

class Store(Interface, label=0x66, name="store"):
    @operation(1)
    def part(self, first: int, count: int, rights: int) -> Extent: ...
    @operation(2)
    def take(self) -> int: ...
    @operation(3)
    def faults(self) -> list[int]: ...
    @operation(4)
    def supply(self, page: int) -> None: ...
    @operation(5)
    def evict(self, page: int) -> int: ...
    @operation(6)
    def load(self, page: int) -> bytes: ...
    @operation(7)
    def be_lazy(self) -> None: ...
"""
PAGER = (
    PRELUDE
    + STORE
    + """
told, lazy = [], False
def fill(store, fault):
    told.append(fault.page)
    if not lazy:
        store.supply(fault.page, b"page %02d" % fault.page)

class Server(Store):
    def __init__(self):
        memory = Memory.connect(env)
        memory.promise(FRAMES)
        self.paged, self.given = pager.PagedObject(env, memory.ram(), PAGES, FRAMES, fill, patience=20), []
    def part(self, first, count, rights):
        whole = self.paged.extent
        self.given.append(env.sys.derive(whole.handle, rights | PASS, first, count))
        return Extent(self.given[-1], count or PAGES - first, whole.first + first, rights)
    def take(self): return env.sys.revoke(self.given[-1])[0]
    def faults(self): return told
    def supply(self, page): self.paged.supply(page, b"page %02d" % page)
    def evict(self, page):
        self.paged.guard(page)
        return self.paged.evict(page)
    def load(self, page): return self.paged.load(page)[:16]
    def be_lazy(self):
        global lazy
        lazy = True

server = Server()
print("ready", flush=True)
serve(server, name="store")
"""
)
PARTY = (
    PRELUDE
    + STORE
    + """
store = Store.connect(env)

def get(first=0, count=0, rights=READ | WRITE):
    global extent, view
    extent = store.part(first, count, rights)
    view = vm.map(env, extent)
    return len(view) // PAGE

def text(page, view=None):
    view = view or globals()["view"]
    return bytes(view[page * PAGE : page * PAGE + 7]).decode()

def poke(page, byte):
    view[page * PAGE + 8] = byte
    return byte

def waits(*pages):
    global found
    found = {}
    def wait(page, view=view):
        vm.touch(env, view, page * PAGE, 1)
        found[page] = text(page, view)
    global threads
    threads = [threading.Thread(target=wait, args=(page,)) for page in pages]
    for thread in threads: thread.start()

def joined():
    for thread in threads: thread.join()
    return found

def writes(page):
    global over
    words = view[page * PAGE : (page + 1) * PAGE].cast("Q")
    over, stored, lost = False, 0, 0
    words[0] = 0
    def write():
        nonlocal stored, lost
        while not over:
            lost += words[0] != stored
            stored += 1
            words[0] = stored
    writer = threading.Thread(target=write)
    writer.start()
    def end():
        global over
        over = True
        writer.join()
        return lost, stored > 0
    return end

def attacks():
    _, number = env.sys.map_extent(extent.handle)
    size = os.fstat(number).st_size
    beyond = os.pread(number, PAGE, size) + os.pread(number, PAGE, 8 * size)
    def reopen(): os.open(f"/proc/self/fd/{number}", os.O_RDWR)
    def grow(): os.pwrite(number, b"x", size)
    def cut(): os.ftruncate(number, 0)
    def lengthen(): os.ftruncate(number, PAGES * PAGE)
    return size // PAGE, beyond, [outcome(each) for each in (reopen, grow, cut, lengthen)]

def past_the_end(way):
    _, number = env.sys.map_extent(extent.handle)
    libc.mremap.restype = ctypes.c_void_p
    if way == "map":
        place = libc.mmap(None, ctypes.c_size_t(PAGES * PAGE), 1, 1, number, ctypes.c_long(0))
    elif way == "remap":
        place = libc.mmap(None, ctypes.c_size_t(PAGE), 1, 1, number, ctypes.c_long(0))
        place = libc.mremap(ctypes.c_void_p(place), ctypes.c_size_t(PAGE), ctypes.c_size_t(PAGES * PAGE), 1)
    print("there", place not in (None, 2**64 - 1), flush=True)
    ctypes.string_at(place + 2 * PAGE, 8)
    print("never", flush=True)
"""
    + OBEY
)


@contextmanager
def parties(system: System, *names: str) -> Iterator[list[Running]]:
    """A pager, and programs that do what they are told, line by line."""
    with ExitStack() as stack:
        running = [stack.enter_context(system.start(PAGER, name="store"))]
        assert running[0].line() == "ready"
        for name in names:
            running.append(stack.enter_context(system.start(PARTY, name=name, paged=True)))
            assert running[-1].line() == "ready"
        yield running


def test_a_part_between_three(booted: System) -> None:
    """Pages come to each from the one pager, which is told the object's numbers; stores are seen by all.

    Taken back, the part is gone from its holder alone.
    """
    with parties(booted, "whole", "part") as (_, whole, part):
        sizes = whole.ask("get()"), whole.ask("text(3)"), part.ask("get(4, 8)")
        texts = part.ask("text(1)"), whole.ask("text(5)"), whole.ask("text(3)"), whole.ask("text(20)")
        stored = part.ask("poke(1, 65)"), whole.ask("view[5 * PAGE + 8]"), whole.ask("poke(11, 66)")
        seen = part.ask("view[7 * PAGE + 8]"), whole.ask("store.load(5)[8]"), whole.ask("store.faults()")
        gone = whole.ask("store.evict(5)"), part.ask("text(1)"), part.ask("view[PAGE + 8]")
        taken = whole.ask("store.take()"), whole.ask("text(5)"), whole.ask("view[11 * PAGE + 8]")
        part.tell("view[PAGE]")
        ended = part.finish().status

    assert sizes == ("64", "page 03", "8")
    assert texts == ("page 05", "page 05", "page 03", "page 20")
    assert stored == ("65", "65", "66")
    assert seen == ("66", "65", "[3, 5, 20, 11]")
    assert gone == ("1", "page 05", "0")
    assert taken == ("1", "page 05", "66")
    assert ended == -signal.SIGBUS


def test_what_the_holder_of_a_part_can_reach(booted: System) -> None:
    """Its descriptor reads, maps, grows and is opened for no byte outside of the part."""
    with parties(booted, "whole", "a", "b", "c") as (_, whole, *others):
        whole.ask("get()")
        whole.ask("[poke(page, 7) for page in range(12)]")
        a, b, c = others
        got = a.ask("get(4, 2)"), a.ask("attacks()")
        read_only = b.ask("get(4, 2, READ)"), b.ask("attacks()"), b.ask("text(0)")
        tried = []
        for party, way in ((a, "map"), (b, "map"), (c, "remap")):
            if party is c:
                party.ask("get(4, 1)")
            party.tell(f"past_the_end({way!r})")
            tried.append((party.line(), party.finish().status))

    assert got == ("2", "(2, b'', ['EACCES', 'EPERM', 'EPERM', 'EPERM'])")
    assert read_only == ("2", "(2, b'', ['EACCES', 'EBADF', 'EPERM', 'EPERM'])", "page 04")
    assert tried == [("there True", -signal.SIGBUS)] * 3


def test_divided_under_who_waits(booted: System) -> None:
    """Threads that wait for pages before, in and behind a part wait on while it is made, and get their pages."""
    with parties(booted, "whole", "part") as (_, whole, part):
        whole.ask("get()")
        part.ask("store.be_lazy()")
        whole.ask("waits(1, 5, 9, 30)")
        part.ask("get(4, 4)")
        part.ask("waits(1)")
        assert wait_until(lambda: part.ask("len({1, 5, 9, 30}.difference(store.faults()))") == "0")
        part.ask("get(8, 2)")
        for page in (1, 5, 9, 30):
            part.ask(f"store.supply({page})")
        found = whole.ask("sorted(joined().items())"), part.ask("joined()")

    assert found == (str([(page, f"page {page:02}") for page in (1, 5, 9, 30)]), "{1: 'page 05'}")


def test_a_holder_that_stores(booted: System) -> None:
    """Pages of an object are divided and taken back under its hands: it finds each time what it stored last."""
    with parties(booted, "whole", "part") as (_, whole, part):
        whole.ask("get()")
        whole.ask("end = writes(5)")
        for first in (5, 3, 6, 4):
            part.ask(f"get({first}, 2)")
            part.ask("store.take()")
            part.ask("get(5, 1)")
            part.ask("text(0)")
            part.ask("store.take()")
        lost = whole.ask("end()")

    assert lost == ("(0, True)" if pages_are_small() else lost)


@pytest.mark.parametrize("victim", ["store", "whole", "part", "store and part"])
@pytest.mark.parametrize("step", range(3))
def test_killed_at_each_step(booted: System, victim: str, step: int) -> None:
    """Whoever is killed, and when, faults of others end or go on, and all frames come back (the fixture counts)."""
    with parties(booted, "whole", "part") as (store, whole, part):
        whole.ask("get()")
        whole.ask("poke(5, 1)")
        steps = (
            lambda: part.ask("get(4, 2)"),
            lambda: part.tell(f"{part.ask('store.be_lazy()')} or text(0)"),
            lambda: whole.ask("store.take()"),
        )
        for each in steps[: step + 1]:
            each()
        for name, party in (("store", store), ("whole", whole), ("part", part)):
            if name in victim:
                party.signal(signal.SIGKILL)
        if "store" in victim:
            whole.tell("view[9 * PAGE]")
            assert whole.finish().status == -signal.SIGBUS
        elif victim == "part":
            assert whole.ask("view[5 * PAGE + 8]") == "1"
