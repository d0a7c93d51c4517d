"""Map items, Unmap, page faults and strings of X.2 between real processes, whose MMU has the last word."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.system.booted import Running, System

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]
conforms = pytest.mark.conforms

PRELUDE = """
import ctypes, mmap, os
import libexo
from kernel.abi.limits import FRAME_SIZE as PAGE
from libexo import l4
from libexo.l4.space.space import space_of
from servers.memory.api import Memory

env = libexo.attach()
space = space_of(env)
BASE, THERE, ALL = 0x10_0000, 0x40_0000, l4.CompleteAddressSpace

def thread(name):
    return env.lookup(name, 10)

def carve(address, pages=1, fill=b""):
    handle = Memory.connect(env).allocate(pages).handle
    space.map(address, handle, pages * PAGE, env.sys.inspect(handle).rights)
    space.store(address, fill)

def fpage(address, pages=1, rights=l4.FullyAccessible):
    return l4.Fpage(address, pages * PAGE) + rights

def load(*items):
    message = l4.Msg()
    l4.MsgPut(message, 0, (), items)
    l4.MsgLoad(message)

def send(to, *items):
    load(*items)
    return outcome(l4.Send(to))

def outcome(tag):
    return f"error {l4.ErrorCode():#x}" if tag.E else "done"

def accept(*buffers):
    held = l4.MsgBuffer()
    for buffer in buffers:
        l4.MsgBufferAppendRcvString(held, buffer)
    l4.AcceptStrings(l4.MapGrantItems(ALL) + l4.StringItemsAcceptor, held)

def receive():
    return outcome(l4.Wait()[1])

def say(*words):
    print(*words, flush=True)
"""
GUEST = (
    PRELUDE
    + """
accept()
say("ready")
say(receive())
"""
)
"""Gets what the first message brings."""


@contextmanager
def cast(system: System, **programs: str) -> Iterator[list[Running]]:
    """Run *programs* under their names, each once those before are ready; they end with the context."""
    with ExitStack() as stack:
        running = []
        for name, program in programs.items():
            running.append(stack.enter_context(system.start(program, name=name, share=1)))
            assert running[-1].line() == "ready"
        yield running


@conforms("Items: MapItem")
@conforms("Unmap: page faults")
def test_a_mapped_page_is_shared_and_taken_back(booted: System) -> None:
    """A page that was mapped is the same memory for two processes; after Unmap the other's access faults."""
    guest = (
        GUEST
        + """
l4.Set_Pager(thread("owner"))
said = space.load(THERE, 4)
space.store(THERE, b"from guest")
say(said)
input()
say(space.load(THERE, 9))
"""
    )
    owner = (
        PRELUDE
        + """
carve(BASE, fill=b"mine")
say("ready")
say(send(thread("guest"), l4.MapItem(fpage(BASE), THERE)))
input()
say(space.load(BASE, 10))
l4.UnmapFpage(fpage(BASE))
space.store(BASE, b"new bytes")
say("unmapped")
sender, tag = l4.Wait()
say(hex(tag.label & 0xFFFF), hex(l4.StoreMR(1)))
load(l4.MapItem(fpage(BASE, rights=l4.Readable), THERE))
l4.ReplyWait(sender)
"""
    )
    with cast(booted, guest=guest, owner=owner) as (g, o):
        first = [o.line(), g.line(), g.line()]
        shared = [o.ask(""), o.line()]
        g.tell("")
        fault, found = o.line(), g.line()

    assert first == ["done", "done", "b'mine'"]
    assert shared == ["b'from guest'", "unmapped"]
    assert (fault, found) == ("0xffe4 0x400000", "b'new bytes'")


@conforms("Items: unit of mapping")
def test_a_page_of_many_is_all_there_is(booted: System) -> None:
    """The receiver of one page of eight can map that page, and no other byte, whatever it asks of the host."""
    guest = (
        GUEST
        + """
(region,) = space
mapped, descriptor = env.sys.map_extent(region.holding.handle)
say(mapped.count, os.fstat(descriptor).st_size == PAGE, space.load(THERE, 4))
try:
    mmap.mmap(descriptor, PAGE, offset=PAGE)
    say("more")
except ValueError as error:
    say(error)
space.store(THERE, b"back")
say("stored")
"""
    )
    owner = (
        PRELUDE
        + """
got = l4.Sigma0_GetAny(l4.nilthread, 15, ALL)
at = l4.Address(got)
for page, text in enumerate((b"zero", b"one1", b"two2", b"thr3")):
    space.store(at + page * PAGE, text)
say("ready")
say(send(thread("guest"), l4.MapItem(fpage(at + 2 * PAGE), THERE)))
input()
say([space.load(at + page * PAGE, 4) for page in range(4)])
"""
    )
    with cast(booted, guest=guest, owner=owner) as (g, o):
        said = [o.line(), g.line(), g.line(), g.line(), g.line()]
        kept = o.ask("")

    assert said[:3] == ["done", "done", "1 True b'two2'"]
    assert said[3:] == ["mmap length is greater than file size", "stored"]
    assert kept == "[b'zero', b'one1', b'back', b'thr3']"


@conforms("Items: unit of mapping")
def test_a_page_between_three(booted: System) -> None:
    """Of eight pages that owner and middle share, middle maps one on: the three see one another's stores.

    Taken back by middle, it is gone from the guest alone.
    """
    looks = """
for line in iter(input, "end"):
    eval(line)
"""
    guest = GUEST + looks
    middle = GUEST + "say(send(thread('guest'), l4.MapItem(fpage(THERE + 2 * PAGE), THERE)))" + looks
    owner = (
        PRELUDE
        + """
got = l4.Sigma0_GetPage(l4.nilthread, fpage(64 * PAGE, 8))
at = l4.Address(got)
say("ready")
say(send(thread("middle"), l4.MapItem(fpage(at, 8), THERE)))
"""
        + looks
    )
    with cast(booted, guest=guest, middle=middle, owner=owner) as (g, m, o):
        said = [o.line(), m.line(), m.line(), g.line()]
        o.tell("space.store(at + 2 * PAGE, b'o')")
        o.ask("say(1)")
        m.tell("space.store(THERE + 2 * PAGE + 1, b'm')")
        m.ask("say(1)")
        g.tell("space.store(THERE + 2, b'g')")
        g.ask("say(1)")
        seen = [o.ask("say(space.load(at + 2 * PAGE, 3))"), m.ask("say(space.load(THERE + 2 * PAGE, 3))")]
        seen.append(g.ask("say(space.load(THERE, 3))"))
        m.ask("say(l4.UnmapFpage(fpage(THERE + 2 * PAGE)))")
        kept = [o.ask("say(space.load(at + 2 * PAGE, 3))"), m.ask("say(space.load(THERE + 2 * PAGE, 3))")]
        gone = g.ask("(space.attend(), say(len(list(space))))")

    assert said == ["done"] * 4
    assert (seen, kept, gone) == (["b'omg'"] * 3, ["b'omg'"] * 2, "0")


@conforms("Items: rights")
def test_a_read_only_share_cannot_be_written(booted: System) -> None:
    """With the right to read only, neither a mapping to write nor its file can be had; a write is SIGSEGV."""
    guest = (
        GUEST
        + """
(region,) = space
mapped, descriptor = env.sys.map_extent(region.holding.handle)
say(mapped.writable, space.view(THERE, 4)[0].readonly)
for attempt in (
    lambda: mmap.mmap(descriptor, PAGE, prot=mmap.PROT_READ | mmap.PROT_WRITE),
    lambda: os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR),
    lambda: os.write(descriptor, b"x"),
):
    try:
        attempt()
        say("done")
    except OSError:
        say("refused")
(view,) = space.view(THERE, 4)
say(bytes(view))
input()
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
at = libc.mmap(None, PAGE, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
ctypes.memset(at, 0, 1)
"""
    )
    owner = (
        PRELUDE
        + """
carve(BASE, fill=b"kept")
say("ready")
say(send(thread("guest"), l4.MapItem(fpage(BASE, rights=l4.Readable), THERE)))
input()
say(space.load(BASE, 4))
"""
    )
    with cast(booted, guest=guest, owner=owner) as (g, o):
        said = [g.line() for _ in range(6)]
        g.tell("")
        status = g.finish().status
        assert o.line() == "done"
        kept = o.ask("")

    assert said == ["done", "False True", *["refused"] * 3, "b'kept'"]
    assert (status, kept) == (-signal.SIGSEGV, "b'kept'")


@conforms("Unmap: some rights")
def test_the_right_to_write_is_taken(booted: System) -> None:
    """After Unmap of the right to write the other reads on, what its owner stores too; its store faults."""
    guest = (
        GUEST
        + """
space.store(THERE, b"guest")
say("stored")
input()
say(space.load(THERE, 5))
l4.Set_Pager(thread("owner"))
space.store(THERE, b"again")
say(space.load(THERE, 5))
"""
    )
    owner = (
        PRELUDE
        + """
carve(BASE, fill=b"mine!")
say("ready")
say(send(thread("guest"), l4.MapItem(fpage(BASE), THERE)))
input()
l4.UnmapFpage(fpage(BASE, rights=l4.Writable))
space.store(BASE, b"O")
say("narrowed")
sender, tag = l4.Wait()
say(hex(tag.label & 0xFFFF), hex(l4.StoreMR(1)))
load(l4.MapItem(fpage(BASE), THERE))
l4.ReplyWait(sender)
"""
    )
    with cast(booted, guest=guest, owner=owner) as (g, o):
        first = [o.line(), g.line(), g.line()]
        narrowed = o.ask("")
        read = g.ask("")
        fault, written = o.line(), g.line()

    assert (first, narrowed) == (["done", "done", "stored"], "narrowed")
    assert (read, fault, written) == ("b'Ouest'", "0xffe2 0x400000", "b'again'")


@conforms("Unmap: mapped views")
def test_a_view_of_what_was_unmapped(booted: System) -> None:
    """A view of memory that was taken back, read without asking the space, ends its reader by SIGBUS."""
    guest = (
        GUEST
        + """
(view,) = space.view(THERE, 4)
say(bytes(view))
input()
say(bytes(view))
"""
    )
    owner = (
        PRELUDE
        + """
carve(BASE, fill=b"mine")
(own,) = space.view(BASE, 4)
say("ready")
say(send(thread("guest"), l4.MapItem(fpage(BASE), THERE)))
input()
l4.UnmapFpage(fpage(BASE))
say(bytes(own), space.load(BASE, 4))
"""
    )
    with cast(booted, guest=guest, owner=owner) as (g, o):
        shared = [g.line(), g.line(), o.line()]
        kept = o.ask("")
        g.tell("")
        ended = g.finish()

    assert shared == ["done", "b'mine'", "done"]
    assert (kept, ended.out.count("mine"), ended.status) == ("b'mine' b'mine'", 0, -signal.SIGBUS)


@conforms("Items: GrantItem")
def test_granted_memory_is_the_givers_no_more(booted: System) -> None:
    """After a grant the receiver has the memory, and the giver's kept view ends in SIGBUS."""
    guest = (
        GUEST
        + """
say(space.load(THERE, 4))
input()
say(space.load(THERE, 4))
"""
    )
    owner = (
        PRELUDE
        + """
carve(BASE, fill=b"gift")
(view,) = space.view(BASE, 4, l4.ReadWriteOnly)
say("ready")
say(send(thread("guest"), l4.GrantItem(fpage(BASE), THERE)), list(space))
input()
view[0] = 0
say("wrote")
"""
    )
    with cast(booted, guest=guest, owner=owner) as (g, o):
        said = [o.line(), g.line(), g.line()]
        o.tell("")
        ended = o.finish()

    assert said == ["done []", "done", "b'gift'"]
    assert (ended.status, "wrote" in ended.out) == (-signal.SIGBUS, False)


@conforms("Strings: scatter and gather")
@conforms("Strings: page faults")
def test_strings_between_processes(booted: System) -> None:
    """A megabyte in pieces, from Python's memory and pages a pager brings, into a buffer and a faulting page."""
    guest = (
        PRELUDE
        + """
l4.Set_Pager(thread("pager"))
buffer = bytearray(1 << 20)
accept(l4.AddSubstringTo(l4.StringItem(len(buffer), space.buffer(buffer)), l4.StringItem(PAGE, THERE)))
say("ready")
say(receive(), buffer == bytes(range(256)) * 4096, space.load(THERE, 6))
input()  # a program that ends at once may not have told the sender that it took the message
"""
    )
    pager = (
        PRELUDE
        + """
carve(BASE, fill=b"paged!")
carve(THERE)
say("ready")
sender, tag = l4.Wait()
for _ in range(2):
    address, ip = l4.StoreMRs(1, 2)
    say(hex(address), tag.label & 7, ip == (1 << 64) - 1)
    load(l4.MapItem(fpage(address), address))
    sender, tag = l4.ReplyWait_Timeout(sender, l4.TimePeriod(2_000_000))
input()
"""
    )
    sender = (
        PRELUDE
        + """
l4.Set_Pager(thread("pager"))
data = bytes(range(256)) * 4096
say("ready")
item = l4.AddSubstringTo(l4.StringItem(len(data), space.buffer(data)), l4.StringItem(6, BASE))
say(send(thread("guest"), item))
"""
    )
    with cast(booted, pager=pager, guest=guest, sender=sender) as (p, g, s):
        sent, received = s.line(), g.line()
        faults = [p.line(), p.line()]
        p.tell("")
        g.tell("")

    assert (sent, received) == ("done", "done True b'paged!'")
    assert faults == ["0x100000 4 True", "0x400000 2 True"]
