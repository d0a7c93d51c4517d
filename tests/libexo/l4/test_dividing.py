"""Parts of extents in map and grant items: of memory that a space has to itself, and of memory others have too."""

from collections.abc import Callable

import pytest

from kernel.abi.rights import Kind
from libexo import attach, l4
from libexo.environment import Environment
from libexo.l4.sigma0 import Sigma0_GetPage
from libexo.testing import System
from servers.memory.api import Memory
from tests.libexo.l4.meetings import PAGE, accept, fpage, own, reads, receive, send, shown, writes
from tests.libexo.l4.stage import Failed, sleep
from tests.servers.memory.stage import used
from tests.servers.rig import servers

conforms = pytest.mark.conforms
Program = Callable[[Environment], object]
AT, THERE = 64 * PAGE, 0x4000_0000
R, RWX = l4.Readable, l4.FullyAccessible
SENT = "sent"


def play(*programs: Program) -> list[object]:
    """Run them side by side, with servers; the first is called a, the second b, and so on."""
    with servers() as system:
        return played(system, *programs)


def played(system: System, *programs: Program) -> list[object]:
    def staying(program: Program) -> Program:
        def stays(env: Environment) -> object:
            found = program(env)
            sleep(3_000_000)
            return found

        return stays

    tasks = [system.spawn(staying(each), name) for name, each in zip("abcdef", programs, strict=False)]
    system.run(*tasks)
    return [task.result for task in tasks]


def eight_pages() -> None:
    """Have eight pages from sigma0 in one extent, each beginning with its number."""
    assert Sigma0_GetPage(l4.nilthread, fpage(AT, 8)) == fpage(AT, 8)
    for page in range(8):
        own().store(AT + page * PAGE, b"%d" % page)


def map_to(name: str, *items: "l4.MapItem | l4.GrantItem") -> str | Failed:
    """Send items to that one."""
    said = send(attach().lookup(name, 1), *items)
    return said if isinstance(said, Failed) else SENT


def received(count: int) -> None:
    for _ in range(count):
        receive()


def pages(first: int, count: int) -> list[bytes | None]:
    return [reads(first + page * PAGE) for page in range(count)]


@conforms("Items: unit of mapping")
def test_a_page_of_many() -> None:
    """A pager gives out one page of eight that it has from sigma0: both see its stores, and b no other page."""

    def a(env: Environment) -> object:
        eight_pages()
        sent = map_to("b", l4.MapItem(fpage(AT + 2 * PAGE), THERE))
        writes(AT + 2 * PAGE + 1, b"!")
        sleep(300_000)
        return sent, pages(AT, 8), reads(AT + 2 * PAGE, 3), used(env)

    def b(env: Environment) -> object:
        accept()
        receive()
        sleep(100_000)
        writes(THERE + 2, b"?")
        return reads(THERE, 3), shown(), env.sys.holdings(Kind.EXTENT).popitem()[1].count, used(env)

    assert play(a, b) == [
        (SENT, [b"%d" % page for page in range(8)], b"2!?", 9),
        (b"2!?", [(THERE, PAGE)], 1, 0),
    ]


@conforms("Unmap: an extent in part")
def test_taking_a_part_back() -> None:
    """Of what was given out page by page, a page is taken back, and others stay where they are."""

    def a(_: Environment) -> object:
        eight_pages()
        for page in range(3):
            map_to("b", l4.MapItem(fpage(AT + page * PAGE), THERE + page * PAGE))
        own().unmap([fpage(AT + PAGE)])
        return pages(AT, 4)

    def b(_: Environment) -> object:
        accept()
        received(3)
        sleep(300_000)
        return pages(THERE, 3)

    assert play(a, b) == [[b"0", b"1", b"2", b"3"], [b"0", None, b"2"]]


@conforms("Items: GrantItem")
def test_a_part_is_granted() -> None:
    """A granted part is gone from its giver, and the rest of the extent is not."""

    def a(_: Environment) -> object:
        eight_pages()
        return map_to("b", l4.GrantItem(fpage(AT + 4 * PAGE, 4), THERE)), pages(AT, 8)

    def b(_: Environment) -> object:
        accept()
        receive()
        return pages(THERE, 4)

    left = [b"0", b"1", b"2", b"3", None, None, None, None]
    assert play(a, b) == [(SENT, left), [b"4", b"5", b"6", b"7"]]


def test_parts_of_parts() -> None:
    """A part is an extent like any other: a part of it goes too, and once it was given on, only whole."""

    def a(_: Environment) -> object:
        eight_pages()
        first = map_to("b", l4.GrantItem(fpage(AT + 4 * PAGE, 4), THERE))
        return first, map_to("b", l4.MapItem(fpage(AT, 2), THERE + 4 * PAGE))

    def b(_: Environment) -> object:
        accept()
        receive()
        receive()
        ours = map_to("c", l4.MapItem(fpage(THERE + PAGE), THERE))
        theirs = map_to("c", l4.MapItem(fpage(THERE + 4 * PAGE), THERE + PAGE))
        return ours, isinstance(theirs, Failed)

    def c(_: Environment) -> object:
        accept()
        receive()
        return pages(THERE, 1), len(shown())

    assert play(a, b, c) == [(SENT, SENT), (SENT, True), ([b"5"], 1)]


@conforms("Items: unit of mapping")
def test_what_others_have_is_cut() -> None:
    """Once the whole extent was given to somebody, a part cuts the message, until the whole was taken back."""

    def a(_: Environment) -> object:
        eight_pages()
        whole = map_to("b", l4.MapItem(fpage(AT, 8), THERE))
        part = map_to("c", l4.MapItem(fpage(AT), THERE))
        before = shown()
        own().unmap([fpage(AT, 8)])
        again = map_to("c", l4.MapItem(fpage(AT), THERE))
        return whole, isinstance(part, Failed), before, again

    def b(_: Environment) -> object:
        accept()
        receive()
        return len(shown())

    def c(_: Environment) -> object:
        accept()
        return receive() is not None, pages(THERE, 1)

    assert play(a, b, c) == [(SENT, True, [(AT, 8 * PAGE)], SENT), 1, (True, [b"0"])]


def test_two_capabilities_of_ones_own() -> None:
    """An extent that the space shows twice, by two capabilities, is not divided: each would show something else."""

    def a(env: Environment) -> object:
        extent = Memory.connect(env).allocate(4)
        other = env.sys.derive(extent.handle, 31)
        own().map(AT, extent.handle, 4 * PAGE, 31)
        own().map(AT + 16 * PAGE, other, 4 * PAGE, 31)
        both = [isinstance(map_to("b", l4.MapItem(fpage(at), THERE)), Failed) for at in (AT, AT + 16 * PAGE)]
        own().unmap([fpage(AT + 16 * PAGE, 4)], flush=True)
        return both, map_to("b", l4.MapItem(fpage(AT), THERE))

    def b(_: Environment) -> object:
        accept()
        receive()
        return len(shown())

    assert play(a, b) == [([True, True], SENT), 1]


def test_the_last_part() -> None:
    """When all of it went in parts, the extent is given up: what the server granted is free again."""

    def a(env: Environment) -> object:
        extent = Memory.connect(env).allocate(4)
        own().map(AT, extent.handle, 4 * PAGE, 31)
        counts = [used(env)]
        for page in range(4):
            map_to("b", l4.MapItem(fpage(AT + page * PAGE), THERE + page * PAGE))
            counts.append(used(env))
        return counts

    def b(_: Environment) -> object:
        accept()
        received(4)
        return len(shown())

    assert play(a, b) == [[4, 5, 6, 7, 4], 4]


def test_no_memory_for_a_part() -> None:
    """A space that may have no more memory cannot divide: the message is cut, and nothing has changed."""

    def a(env: Environment) -> object:
        eight_pages()
        Memory.connect(env).allocate(100)
        Memory.connect(env).allocate(20)
        cut = map_to("b", l4.MapItem(fpage(AT), THERE))
        return isinstance(cut, Failed), shown(), pages(AT, 2), used(env)

    def b(_: Environment) -> object:
        accept()
        return None

    assert play(a, b)[0] == (True, [(AT, 8 * PAGE)], [b"0", b"1"], 128)


def test_rights_stay() -> None:
    """A part is passed on with the rights that were asked for, as a whole extent is."""

    def a(_: Environment) -> object:
        eight_pages()
        return map_to("b", l4.MapItem(fpage(AT + PAGE, rights=R), THERE))

    def b(_: Environment) -> object:
        accept()
        receive()
        return reads(THERE), writes(THERE, b"x")

    assert play(a, b) == [SENT, (b"1", False)]


def test_it_changes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread that maps over the part while memory is asked for it wins: the message is cut."""

    def a(env: Environment) -> object:
        eight_pages()
        memory = Memory.connect(env)
        other = memory.allocate(1)

        class Slow:
            def allocate(self, pages: int) -> object:
                own().map(AT, other.handle, PAGE, 31)
                return memory.allocate(pages)

        monkeypatch.setattr(env.services, "memory", Slow)
        cut = map_to("b", l4.MapItem(fpage(AT), THERE))
        return isinstance(cut, Failed), pages(AT, 2), used(env)

    def b(_: Environment) -> object:
        accept()
        return None

    assert play(a, b)[0] == (True, [b"\0", b"1"], 9)
