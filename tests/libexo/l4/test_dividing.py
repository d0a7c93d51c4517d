"""Parts of extents in map and grant items, and taken back, with servers beside."""

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
        (SENT, [b"%d" % page for page in range(8)], b"2!?", 8),
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
    """Of what came as a part, or was granted as one, a part goes on."""

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
        return ours, theirs

    def c(_: Environment) -> object:
        accept()
        received(2)
        return pages(THERE, 2), len(shown())

    assert play(a, b, c) == [(SENT, SENT), (SENT, SENT), ([b"5", b"0"], 2)]


@conforms("Items: unit of mapping")
def test_a_part_of_what_others_have() -> None:
    """Of an extent that b has whole, c gets a page: all three see one another's stores."""

    def a(_: Environment) -> object:
        eight_pages()
        sent = [
            map_to("b", l4.MapItem(fpage(AT, 8), THERE)),
            map_to("c", l4.MapItem(fpage(AT + PAGE), THERE)),
        ]
        sleep(100_000)
        writes(AT + PAGE, b"a")
        sleep(400_000)
        return sent, reads(AT + PAGE, 3), shown()

    def b(_: Environment) -> object:
        accept()
        receive()
        sleep(200_000)
        writes(THERE + PAGE + 1, b"b")
        sleep(200_000)
        return reads(THERE + PAGE, 3), pages(THERE, 3), len(shown())

    def c(_: Environment) -> object:
        accept()
        receive()
        sleep(200_000)
        writes(THERE + 2, b"c")
        sleep(200_000)
        return reads(THERE, 3), shown()

    parts = [(AT, PAGE), (AT + PAGE, PAGE), (AT + 2 * PAGE, 6 * PAGE)]
    assert play(a, b, c) == [
        ([SENT, SENT], b"abc", parts),
        (b"abc", [b"0", b"a", b"2"], 1),
        (b"abc", [(THERE, PAGE)]),
    ]


@conforms("Unmap: an extent in part")
def test_a_page_is_taken_from_who_got_it() -> None:
    """A page mapped on by b is taken from c by b alone; what a takes of it is gone from both, and whole from b."""

    def a(env: Environment) -> object:
        eight_pages()
        map_to("b", l4.MapItem(fpage(AT, 8), THERE))
        sleep(500_000)
        own().unmap([fpage(AT + PAGE)])
        return shown(), len(env.sys.inventory())

    def b(env: Environment) -> object:
        accept()
        receive()
        before = len(env.sys.inventory())
        map_to("c", l4.MapItem(fpage(THERE + PAGE), THERE))
        map_to("c", l4.MapItem(fpage(THERE + 2 * PAGE), THERE + PAGE))
        sleep(100_000)
        own().unmap([fpage(THERE + PAGE)])
        sleep(100_000)
        kept = pages(THERE, 4), len(env.sys.inventory()) - before
        sleep(500_000)
        return kept, pages(THERE, 3)

    def c(_: Environment) -> object:
        accept()
        received(2)
        sleep(200_000)
        found = pages(THERE, 2)
        sleep(500_000)
        return found, pages(THERE, 2)

    found = play(a, b, c)
    assert found[0][0] == [(AT, 8 * PAGE)]  # type: ignore[index]
    assert found[1:] == [(([b"0", b"1", b"2", b"3"], 1), [None] * 3), ([None, b"2"], [None, None])]


def test_taking_back_the_whole_shows_it_by_one_right() -> None:
    """What was given out in parts is one again when all is taken back, without a capability more."""

    def a(env: Environment) -> object:
        eight_pages()
        before = env.sys.inventory()
        for page in (1, 2, 6):
            map_to("b", l4.MapItem(fpage(AT + page * PAGE), THERE + page * PAGE))
        parts = len(shown())
        own().unmap([fpage(AT, 8)])
        after = pages(AT, 8)
        map_to("b", l4.MapItem(fpage(AT, 8), THERE))
        return parts, after, env.sys.inventory() == before

    def b(_: Environment) -> object:
        accept()
        received(4)
        return shown()

    numbers = [b"%d" % page for page in range(8)]
    assert play(a, b) == [(6, numbers, True), [(THERE, 8 * PAGE)]]


def test_two_capabilities_of_ones_own() -> None:
    """Of an extent that the space shows twice, by two capabilities, a part is the same memory by each."""

    def a(env: Environment) -> object:
        extent = Memory.connect(env).allocate(4)
        other = env.sys.derive(extent.handle, 31)
        own().map(AT, extent.handle, 4 * PAGE, 31)
        own().map(AT + 16 * PAGE, other, 4 * PAGE, 31)
        both = [map_to("b", l4.MapItem(fpage(at), at)) for at in (AT, AT + 16 * PAGE)]
        writes(AT + 1, b"y")
        sleep(300_000)
        return both, reads(AT, 2)

    def b(_: Environment) -> object:
        accept()
        received(2)
        writes(AT + 16 * PAGE, b"x")
        sleep(200_000)
        return reads(AT, 2), reads(AT + 16 * PAGE, 2)

    assert play(a, b) == [([SENT, SENT], b"xy"), (b"xy", b"xy")]


def test_the_last_part() -> None:
    """When all of it was mapped in parts, it is held as before; flushed, it is free. No frame counts twice."""

    def a(env: Environment) -> object:
        extent = Memory.connect(env).allocate(4)
        own().map(AT, extent.handle, 4 * PAGE, 31)
        counts = [used(env)]
        for page in range(4):
            map_to("b", l4.MapItem(fpage(AT + page * PAGE), THERE + page * PAGE))
            counts.append(used(env))
        own().unmap([fpage(AT, 4)], flush=True)
        return [*counts, used(env), shown()]

    def b(_: Environment) -> object:
        accept()
        received(4)
        sleep(500_000)
        return len(shown())

    assert play(a, b) == [[4, 4, 4, 4, 4, 0, []], 0]


def test_no_memory_for_a_part() -> None:
    """A space that may have no more memory cannot grant a part: the message is cut, and nothing has changed."""

    def a(env: Environment) -> object:
        eight_pages()
        Memory.connect(env).allocate(100)
        Memory.connect(env).allocate(20)
        cut = map_to("b", l4.GrantItem(fpage(AT), THERE))
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
            def try_allocate(self, pages: int) -> object:
                own().map(AT, other.handle, PAGE, 31)
                return memory.allocate(pages)

        monkeypatch.setattr(env.services, "memory", Slow)
        cut = map_to("b", l4.GrantItem(fpage(AT), THERE))
        return isinstance(cut, Failed), pages(AT, 2), used(env)

    def b(_: Environment) -> object:
        accept()
        return None

    assert play(a, b)[0] == (True, [b"\0", b"1"], 9)
