"""Parts of paged objects in map and grant items, and taken back: a pager, and programs whose memory it pages."""

from collections.abc import Callable

import pytest

from kernel.abi.rights import Kind, Rights
from libexo import ipc, l4, vm
from libexo.environment import Environment
from libexo.ipc.message import MapItem
from libexo.pager import PagedObject
from servers.memory.api import Memory
from tests.libexo.l4.meetings import PAGE, accept, fpage, own, reads, receive, send, shown, writes
from tests.libexo.l4.stage import Failed, sleep
from tests.servers.rig import servers

conforms = pytest.mark.conforms
Program = Callable[[Environment], object]
AT, THERE, PAGES, FRAMES = 64 * PAGE, 0x4000_0000, 8, 4
RIGHTS = Rights.READ | Rights.WRITE | Rights.TRANSFER
R = l4.Readable
SENT = "sent"


def play(*programs: Program) -> list[object]:
    """Run them side by side; the first, a, has an object mapped. What its pager was told of comes first."""
    told: list[int] = []

    def pager(env: Environment) -> list[int]:
        memory = Memory.connect(env)
        memory.promise(FRAMES)

        def fill(store: PagedObject, fault: object) -> None:
            told.append(fault.page)  # type: ignore[attr-defined]
            store.supply(told[-1], b"%d" % told[-1])

        store = PagedObject(env, memory.ram(), PAGES, FRAMES, fill)
        env.thread.call(env.lookup("a", 1), ipc.Message(items=(MapItem(store.extent.handle, RIGHTS),)))
        return told

    def first(env: Environment) -> object:
        sender, request = env.thread.wait()
        own().map(AT, request.items[0].handle, PAGES * PAGE, RIGHTS)  # type: ignore[union-attr]
        found = programs[0](env)
        env.thread.reply(sender, ipc.Message())
        return found

    with servers() as system:
        names = zip("abcdef", (first, *programs[1:]), strict=False)
        tasks = [system.spawn(program, name, paged=True) for name, program in names]
        system.run(system.spawn(pager, "pager"), *tasks)
        return [told, *[task.result for task in tasks]]


def map_to(env: Environment, name: str, *items: "l4.MapItem | l4.GrantItem") -> str | Failed:
    """Send items to that one."""
    said = send(env.lookup(name, 1), *items)
    return said if isinstance(said, Failed) else SENT


def touched(env: Environment, address: int, page: int = 0) -> bytes | None:
    """What page *address* begins with, which is *page* of what is mapped there; None: a page fault of X.2."""
    if reads(address) is None:
        return None
    (view,) = own().view(address, PAGE)
    vm.touch(env, view, page * PAGE, 1)
    return reads(address)


@conforms("Items: unit of mapping")
def test_a_page_of_an_object() -> None:
    """A page of a paged object is mapped on: its holder waits for it alone, its pager hears the object's number."""

    def a(env: Environment) -> object:
        sent = map_to(env, "b", l4.MapItem(fpage(AT + 2 * PAGE), THERE))
        sleep(500_000)
        return sent, touched(env, AT + 2 * PAGE, 2), reads(AT + 2 * PAGE, 2), touched(env, AT + PAGE, 1)

    def b(env: Environment) -> object:
        accept()
        receive()
        first = touched(env, THERE)
        writes(THERE + 1, b"!")
        (held,) = [each for each in env.sys.holdings(Kind.EXTENT).values() if each.count == 1]
        return first, held.count, shown()

    assert play(a, b) == [[2, 1], (SENT, b"2", b"2!", b"1"), (b"2", 1, [(THERE, PAGE)])]


@conforms("Unmap: an extent in part")
def test_a_page_of_an_object_is_taken_back() -> None:
    """Unmap of a page takes that from who got it, and no other page; its mapper and the rest stay as they were."""

    def a(env: Environment) -> object:
        sent = [map_to(env, "b", l4.MapItem(fpage(AT + page * PAGE), THERE + page * PAGE)) for page in (2, 3)]
        sleep(300_000)
        own().unmap([fpage(AT + 2 * PAGE)])
        sleep(500_000)
        return sent, [touched(env, AT + page * PAGE, page) for page in (2, 3, 4)]

    def b(env: Environment) -> object:
        accept()
        receive()
        receive()
        found = [touched(env, THERE + page * PAGE) for page in (2, 3)]
        sleep(500_000)
        return found, [touched(env, THERE + page * PAGE) for page in (2, 3)]

    told, *found = play(a, b)
    assert found == [([SENT, SENT], [b"2", b"3", b"4"]), ([b"2", b"3"], [None, b"3"])]
    assert told == [2, 3, 4]


@conforms("Items: GrantItem")
def test_a_part_of_an_object_is_granted() -> None:
    """It leaves its giver's addresses, and its receiver waits for its pages as its giver did."""

    def a(env: Environment) -> object:
        sent = map_to(env, "b", l4.GrantItem(fpage(AT + 4 * PAGE, 4), THERE))
        sleep(300_000)
        return sent, shown(), reads(AT + 4 * PAGE)

    def b(env: Environment) -> object:
        accept()
        receive()
        found = touched(env, THERE + PAGE, 1)
        sleep(300_000)
        return found

    assert play(a, b) == [[5], (SENT, [(AT, 4 * PAGE)], None), b"5"]


def test_parts_with_other_rights() -> None:
    """Two that got the same page see each other's stores, and the one that may only read stores nothing."""

    def a(env: Environment) -> object:
        map_to(env, "b", l4.MapItem(fpage(AT + 2 * PAGE, 2), THERE))
        map_to(env, "c", l4.MapItem(fpage(AT + 3 * PAGE, rights=R), THERE))
        sleep(900_000)
        return shown()

    def b(env: Environment) -> object:
        accept()
        receive()
        sleep(200_000)
        touched(env, THERE + PAGE, 1)
        writes(THERE + PAGE + 1, b"b")
        sleep(600_000)
        return reads(THERE + PAGE, 2)

    def c(env: Environment) -> object:
        accept()
        receive()
        sleep(400_000)
        found = touched(env, THERE), reads(THERE, 2), writes(THERE, b"c")
        sleep(400_000)
        return found

    assert play(a, b, c)[2:] == [b"3b", (b"3", b"3b", False)]
