"""Parts of extents between real processes, whose MMU has the last word."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from hwmodel.real.cutting import pages_are_small
from tests.system.booted import Running, System
from tests.system.programs import OBEY, PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

PARTY = (
    PRELUDE
    + """
PAGE = limits.FRAME_SIZE
ALL = 4 | 2 | 16

def own(pages):
    global handle, view
    handle = Memory.connect(env).allocate(pages).handle
    view = vm.map(env, Extent(handle, pages, 0))
    for page in range(pages):
        view[page * PAGE] = page % 256
    return handle

def offer(handle, to, rights=ALL):
    return env.sys.transfer(handle, env.lookup(to, 10), rights)

def take(giver, offered):
    global handle, view
    handle = env.sys.accept(env.lookup(giver, 10), offered).handle
    view = env.views.map(handle)
    return len(view) // PAGE

def part(first, count):
    global given
    given = env.sys.derive(handle, ALL, first, count)
    return given

def divide():
    for page in range(1, 4096, 2):
        env.sys.drop(env.sys.derive(handle, 4, page, 1))

def paid():
    return env.kip.budget(env.number)[1].used

def poke(at, byte):
    view[at] = byte
    return byte

def writes():
    global over
    words = view[2 * PAGE :].cast("Q")
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
"""
    + OBEY
)
"""Does what it is told, line by line: what the kernel tells it meanwhile waits until it traps."""


@contextmanager
def parties(system: System, *names: str) -> Iterator[list[Running]]:
    with ExitStack() as stack:
        running = [stack.enter_context(system.start(PARTY, name=name)) for name in names]
        assert [party.line() for party in running] == ["ready"] * len(names)
        yield running


def shared(a: Running, b: Running, pages: int = 8) -> None:
    """Have a share an extent with b, all of it."""
    offered = a.ask(f"offer(own({pages}), 'b')")
    assert b.ask(f"take('a', {offered})") == str(pages)


def mapped_on(b: Running, c: Running, first: int = 2, count: int = 1) -> None:
    """Have b map a part on to c."""
    offered = b.ask(f"offer(part({first}, {count}), 'c')")
    assert c.ask(f"take('b', {offered})") == str(count)


def seen(party: Running) -> str:
    return party.ask("list(view[::PAGE])")


def test_a_page_in_the_middle(booted: System) -> None:
    """Two share an extent, one maps a page on to a third: all see one another's stores, the third no other byte.

    Taken back, the page is gone from the third alone.
    """
    with parties(booted, "a", "b", "c") as (a, b, c):
        shared(a, b)
        mapped_on(b, c)
        for party, at in ((a, "2 * PAGE"), (b, "2 * PAGE + 1"), (c, "2")):
            assert party.ask(f"poke({at}, {ord('x')})") == str(ord("x"))
        found = [
            party.ask(f"bytes(view[{at} : {at} + 4])") for party, at in ((a, "8192"), (b, "8192"), (c, "0"))
        ]
        size = c.ask("os.fstat(env.sys.map_extent(handle)[1]).st_size == PAGE")
        taken = b.ask("env.sys.revoke(given)[0]")
        b.ask("poke(2 * PAGE, 9)")
        left = [seen(a), seen(b), c.ask("env.sys.inventory().count(handle)")]
        c.tell("view[0]")
        ended = c.finish().status

    assert found == ["b'xxx\\x00'"] * 3
    assert (size, taken) == ("True", "1")
    assert left == ["[0, 1, 9, 3, 4, 5, 6, 7]"] * 2 + ["0"]
    assert ended == -signal.SIGBUS


def test_a_holder_that_is_stopped(booted: System) -> None:
    """It keeps nobody waiting while a part is derived, and finds its stores and those of others when it goes on."""
    with parties(booted, "a", "b", "c") as (a, b, c):
        shared(a, b)
        a.ask("poke(2 * PAGE + 7, 7)")
        a.signal(signal.SIGSTOP)
        mapped_on(b, c, 1, 4)
        c.ask("poke(2 * PAGE, 99)")
        before = seen(b)
        a.signal(signal.SIGCONT)

        assert before == seen(a) == "[0, 1, 2, 99, 4, 5, 6, 7]"
        assert (a.ask("view[2 * PAGE + 7]"), c.ask("view[PAGE + 7]")) == ("7", "7")


def test_a_holder_that_stores(booted: System) -> None:
    """Pages are divided and taken back under its hands: it finds each time what it stored last."""
    with parties(booted, "a", "b", "c") as (a, b, c):
        shared(a, b, 64)
        a.ask("end = writes()")
        for page in (3, 2, 1):
            mapped_on(b, c, page, 2)
            b.ask("env.sys.revoke(given)[0]")
        for _ in range(20):
            mapped_on(b, c, 2, 1)
            b.ask("env.sys.revoke(given)[0]")
        lost = a.ask("end()")

    assert lost == ("(0, True)" if pages_are_small() else lost)


@pytest.mark.parametrize("victim", ["a", "b", "c"])
@pytest.mark.parametrize("step", range(4))
def test_killed_at_each_step(booted: System, victim: str, step: int) -> None:
    """Whoever is killed, and when, all frames and descriptors come back (the fixture counts them)."""
    with parties(booted, "a", "b", "c") as (a, b, c):
        steps = (
            lambda: shared(a, b),
            lambda: b.ask("part(2, 1)"),
            lambda: mapped_on(b, c, 3, 2),
            lambda: b.ask("env.sys.revoke(given)[0]"),
        )
        for each in steps[: step + 1]:
            each()
        {"a": a, "b": b, "c": c}[victim].signal(signal.SIGKILL)
        if victim == "c":
            assert seen(a) == seen(b) == "[0, 1, 2, 3, 4, 5, 6, 7]"
        elif victim == "b":
            assert seen(a) == "[0, 1, 2, 3, 4, 5, 6, 7]"
        a.signal(signal.SIGKILL)


def test_as_many_parts_as_there_are(booted: System) -> None:
    """A program divides what it shares as often as its budget lets it: others see their memory, and pay nothing."""
    with parties(booted, "a", "b", "c") as (a, b, c):
        shared(a, b, 4096)
        c.ask("own(8)")
        before = a.ask("paid()")
        refused = b.ask("divide()")
        found = a.ask("[view[page * PAGE] for page in range(4096)] == [page % 256 for page in range(4096)]")

        assert (before.isdigit(), "larger budget" in refused) == (True, True)
        assert (found, a.ask("paid()") == before, seen(c)) == ("True", True, "[0, 1, 2, 3, 4, 5, 6, 7]")
