"""Hot sets: what a program touched first is there when it starts again."""

import random
from collections.abc import Sequence

import msgspec
import pytest

from kernel.abi.errors import Refusal
from libexo import vm
from libexo.environment import Environment
from libexo.errors import RemoteError, TrapRefused
from libexo.estate import Estate
from libexo.pager import PagedObject
from libexo.testing import System
from servers.memory.api import Pager, SwappedUsage
from servers.memory.pagers.hot import MOST, MOST_RUNS, HotSets, runs
from tests.servers import rig
from tests.servers.memory.pagers.swapping import Paper, content, swapping, use, used

ROOM = 64 << 10
TOUCHED = [*range(3, 15), 40, 41, 43, *range(60, 90)]


def test_runs() -> None:
    """Pages in any order become the runs they make up."""
    assert runs([5, 3, 9, 4]) == [range(3, 6), range(9, 10)]
    assert runs([]) == []


def hot_sets(memory: bytearray, lines: list[str] | None = None) -> HotSets:
    """Return hot sets that are kept in *memory*; *lines* get what is logged."""
    return HotSets(Estate(memoryview(memory)), ([] if lines is None else lines).append)


def test_what_is_remembered() -> None:
    """As many pages as fit are named; what was known stays behind what was touched; nothing touched, no change."""
    hot = hot_sets(bytearray(ROOM))
    hot.remember(("a", "x"), [7, 8, 1], 9)
    hot.remember(("a", "x"), [], 9)
    assert hot.pages(("a", "x"), 2, 99) == [range(1, 2), range(7, 8)]
    assert hot.pages(("a", "x"), 9, 99) == [range(1, 2), range(7, 9)]
    assert hot.pages(("a", "x"), 9, 8) == [range(1, 2), range(7, 8)]
    assert hot.pages(("a", "x"), 9, 7) == [range(1, 2)]

    hot.remember(("a", "x"), [50, 51], 4)
    assert hot.pages(("a", "x"), 9, 99) == [range(1, 2), range(7, 8), range(50, 52)]
    hot.remember(("a", "x"), range(60, 70), 4)
    assert hot.pages(("a", "x"), 9, 99) == [range(60, 64)]


def test_what_is_forgotten() -> None:
    """Of too many the oldest go; where they take too much room, the oldest of the program that has most of it."""
    hot = hot_sets(bytearray(ROOM))
    hot.remember(("a", "x"), [1], 9)
    for number in range(MOST):
        hot.remember((str(number), ""), [1], 9)
    assert hot.pages(("a", "x"), 9, 99) == []
    assert hot.pages(("1", ""), 9, 99) == [range(1, 2)]

    hot = hot_sets(bytearray(ROOM))
    hot.remember(("a", "x"), [1], 9)
    for number in range(100):
        hot.remember(("greedy", str(number)), range(0, 4 * MOST_RUNS, 2), 4 * MOST_RUNS)
    assert hot.pages(("a", "x"), 9, 99) == [range(1, 2)]
    assert hot.pages(("greedy", "0"), MOST_RUNS, 4 * MOST_RUNS) == []
    assert len(hot.pages(("greedy", "99"), MOST_RUNS, 4 * MOST_RUNS)) == MOST_RUNS


def test_what_a_successor_knows() -> None:
    """It knows what was kept, or what was kept before, where the last of it is torn."""
    memory = bytearray(ROOM)
    hot = hot_sets(memory)
    hot.remember(("a", "x"), [7, 8, 1], 9)
    hot.remember(("b", "y"), [3], 9)
    assert hot_sets(memory).pages(("a", "x"), 9, 99) == [range(1, 2), range(7, 9)]
    assert hot_sets(memory).pages(("b", "y"), 9, 99) == [range(3, 4)]

    memory[20] ^= 1
    assert hot_sets(memory).pages(("a", "x"), 9, 99) == [range(1, 2), range(7, 9)]
    assert hot_sets(memory).pages(("b", "y"), 9, 99) == []


WRONG = [
    b"\xc1",
    msgspec.msgpack.encode({"a": 1}),
    msgspec.msgpack.encode([["a", "x", [0, 0]]]),
    msgspec.msgpack.encode([["a", "x", [1, 2, 3]]]),
    msgspec.msgpack.encode([["a", "x", [-1, 2]]]),
    msgspec.msgpack.encode([["a", "x", [1 << 18, 1]]]),
    msgspec.msgpack.encode([["a", "x", [1 << 40, 1]]]),
    msgspec.msgpack.encode([["a", "x", [1, 1 << 18]]]),
    msgspec.msgpack.encode([["a", "x", [1] * 2 * (MOST_RUNS + 1)]]),
    msgspec.msgpack.encode([["a" * 32, "x", [1, 1]]]),
    msgspec.msgpack.encode([["b", "y", [1, 1]], ["a", "x"]]),
]


@pytest.mark.parametrize("content", WRONG, ids=range(len(WRONG)))
def test_what_is_not_believed(content: bytes) -> None:
    """What is no list of pages of a memory is forgotten as a whole, which is said; what comes next is kept."""
    memory, lines = bytearray(ROOM), list[str]()
    Estate(memoryview(memory)).store(content)

    hot = hot_sets(memory, lines)
    assert hot.pages(("a", "x"), 9, 1 << 18) == hot.pages(("b", "y"), 9, 99) == []
    assert [line.split(":")[0] for line in lines] == [
        "hot sets of the predecessor are forgotten, for they are none"
    ]
    hot.remember(("a", "x"), [7], 9)
    assert hot_sets(memory).pages(("a", "x"), 9, 99) == [range(7, 8)]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_any_damage(at: int, seed: int) -> None:
    """Whatever lies there, even with a checksum that is right, a successor comes up."""
    draw = random.Random(f"{seed}/{at}")
    memory = bytearray(ROOM)
    hot_sets(memory).remember(("a", "x"), TOUCHED, 99)
    good = Estate(memoryview(memory)).load()
    for _ in range(300):
        bad = bytearray(good)
        for _ in range(at + 1):
            bad[draw.randrange(len(bad))] = draw.randrange(256)
        Estate(memoryview(memory)).store(bytes(bad))
        for run in hot_sets(memory).pages(("a", "x"), 1 << 18, 1 << 18):
            assert 0 <= run.start < run.stop <= 1 << 18


def start(env: Environment, touched: Sequence[int], name: str, around: int) -> SwappedUsage:
    """Have memory of that *name* made, touch pages, and give it up."""
    paper = Paper(env, 100, 64, around=around, name=name)
    for page in touched:
        vm.touch(env, paper.view, page * 4096, 1, write=page % 2 == 0)
        assert not any(paper.view[page * 4096 : (page + 1) * 4096])
    usage = paper.pager.statistics().objects[0]
    paper.pager.release(paper.extent.first)
    return usage


def started(system: System, touched: Sequence[int], name: str = "a", around: int = 1) -> SwappedUsage:
    """Have a program of its own do that."""
    usage = used(system, lambda env: start(env, touched, name, around))
    assert isinstance(usage, SwappedUsage)
    return usage


def test_a_warm_start() -> None:
    """A program that starts a second time waits for at most a tenth of the pages; under another name for all."""
    with swapping() as system:
        cold, warm, other = (started(system, TOUCHED, name) for name in ("a", "a", "b"))

    assert (cold.faults, cold.preloaded) == (len(TOUCHED), 0)
    assert warm.faults <= cold.faults / 10
    assert warm.preloaded >= len(TOUCHED) * 9 // 10
    assert other.faults == cold.faults


def test_neighbours_are_hot() -> None:
    """What came with a page that was waited for comes with it at the next start, before it is waited for."""
    with swapping() as system:
        cold, warm = (started(system, range(60), around=16) for _ in range(2))

    assert (cold.faults, warm.faults) == (4, 0)


def test_every_start_is_warm() -> None:
    """What was there at a warm start is there at the next one, too, also where some other pages were touched."""
    with swapping() as system:
        starts = [started(system, [*TOUCHED, 20 + number]) for number in range(4)]

    assert [each.faults for each in starts] == [len(TOUCHED) + 1, 1, 1, 1]
    assert [each.preloaded for each in starts] == [0, *(len(TOUCHED) + number for number in (1, 2, 3))]


def test_warm_after_the_pager_was_killed() -> None:
    """A start is warm after the pager was killed, and after it was killed in the middle of the first start."""

    def user(env: Environment) -> None:
        paper = Paper(env, 100, 64, around=1, name="b")
        for number, page in enumerate(TOUCHED):
            if number == len(TOUCHED) // 2:
                reached.append(page)
                env.thread.sleep(1)
            vm.touch(env, paper.view, page * 4096, 1)
        Pager.connect(env, timeout=30).release(paper.extent.first)

    reached: list[int] = []
    with swapping() as system:
        cold = started(system, TOUCHED)
        rig.kill(system, "pager")
        system.pass_time(1)
        warm = started(system, TOUCHED)
        task = use(system, user)
        system.run(until=lambda: bool(reached))
        rig.kill(system, "pager")
        system.run(task)
        again = started(system, TOUCHED, "b")

    assert (cold.faults, warm.faults, again.faults) == (len(TOUCHED), 0, 0)


def test_taken_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes its RAM back while hot pages come is told that the memory is gone, and does not wait for ever."""

    def user(env: Environment) -> None:
        paper = Paper(env, 100, 64, around=1, name="a")
        for page in TOUCHED:
            vm.touch(env, paper.view, page * 4096, 1)
        paper.pager.release(paper.extent.first)
        monkeypatch.setattr(PagedObject, "supply_runs", taken)
        with pytest.raises(RemoteError, match="STALE_HANDLE"):
            Paper(env, 100, 64, around=1, name="a")

    def taken(paged: PagedObject, runs: object) -> list[range]:
        raise TrapRefused("Supply", Refusal.STALE_HANDLE, "handle 0x1")

    with swapping() as system:
        used(system, user)


def test_smaller_than_the_last_time() -> None:
    """Memory that is made again with fewer pages has those of the hot ones that it has, and is memory."""

    def user(env: Environment, pages: int) -> int:
        paper = Paper(env, pages, 64, around=1, name="a")
        for page in [page for page in TOUCHED if page < pages]:
            paper.write(page, page)
            assert paper.read(page) == content(page)
        preloaded = paper.pager.statistics().objects[0].preloaded
        paper.pager.release(paper.extent.first)
        return preloaded

    with swapping() as system:
        assert [used(system, lambda env, pages=pages: user(env, pages)) for pages in (100, 70, 8)] == [  # type: ignore[misc]
            0,
            sum(page < 70 for page in TOUCHED),
            sum(page < 8 for page in TOUCHED),
        ]
