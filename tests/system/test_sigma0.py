"""sigma0 and real programs: pages mapped by message and by fault, in the host's own MMU, and taken back."""

import pytest

from kernel.abi.kip import Head
from tests.system.booted import System, wait_until

pytestmark = [pytest.mark.system, pytest.mark.beside]

PROGRAM = """
import libexo
from libexo import l4
from libexo.l4.exo import memory_alloc, memory_free, memory_server
from libexo.l4.space.space import space_of
env = libexo.attach()
space = space_of(env)
PAGE, BASE = 4096, 0x400_0000
"""


def test_by_message_and_by_fault(booted: System) -> None:
    """A program has RAM mapped by asking and by touching it; when it has ended, all of it is free again."""
    free = booted.kip.head(Head.FREE_FRAMES)
    finished = booted.run(
        PROGRAM
        + """
got = l4.Sigma0_GetPage(l4.nilthread, l4.Fpage(BASE, 4 * PAGE))
space.store(BASE + PAGE, b"asked")
l4.Sigma0_GetPage_RcvWindow(l4.nilthread, got, l4.Fpage(2 * BASE, 4 * PAGE))
l4.Set_Pager(memory_server())
space.store(BASE + 4 * PAGE, b"touched")
address = memory_alloc(memory_server(), 3 * PAGE)
space.store(address + 3 * PAGE - 1, b"x")
print(got, space.load(2 * BASE + PAGE, 5), space.load(BASE + 4 * PAGE, 7))
print(memory_free(memory_server(), address, 3 * PAGE), [region.size // PAGE for region in space])
"""
    )

    assert finished.err == ""
    assert finished.out.splitlines() == [
        "<Fpage 0x4000000+0x4000 rwx> b'asked' b'touched'",
        "True [4, 1, 4]",
    ]
    assert wait_until(lambda: booted.kip.head(Head.FREE_FRAMES) == free)


def test_the_first_owner_wins(booted: System) -> None:
    """While one program has a page, another is refused it; then it is anybody's."""
    ask = "print(l4.Sigma0_GetPage(l4.nilthread, l4.Fpage(BASE, PAGE)), flush=True)\n"
    free = booted.kip.head(Head.FREE_FRAMES)
    with booted.start(PROGRAM + ask + "input()") as owner:
        assert owner.line() == "<Fpage 0x4000000+0x1000 rwx>"
        assert booted.run(PROGRAM + ask).out == "<Fpage nil>\n"
        owner.tell("end")
        owner.finish()
    assert wait_until(lambda: booted.kip.head(Head.FREE_FRAMES) == free)

    assert booted.run(PROGRAM + ask).out == "<Fpage 0x4000000+0x1000 rwx>\n"


def test_grabmem(own: System) -> None:
    """Half of RAM, a program's quota, comes in a few large pages, down to the last single one, and comes back."""
    free = own.kip.head(Head.FREE_FRAMES)
    finished = own.run(
        PROGRAM
        + """
total = 0
for log2 in range(40, 11, -1):
    while not l4.IsNilFpage(page := l4.Sigma0_GetAny(0, log2, l4.CompleteAddressSpace)):
        total += l4.Size(page)
print(total // PAGE)
"""
    )

    assert int(finished.out) == own.kip.head(Head.FRAME_COUNT) // 2
    assert wait_until(lambda: own.kip.head(Head.FREE_FRAMES) == free)
