"""Hot sets: what a program touched first is there when it starts again."""

import pytest

from kernel.abi.errors import Refusal
from libexo import vm
from libexo.environment import Environment
from libexo.errors import RemoteError, TrapRefused
from libexo.pager import PagedObject
from servers.memory.api import SwappedUsage
from servers.memory.pagers.hot import MOST, MOST_RUNS, HotSets, runs
from tests.servers.memory.pagers.swapping import Paper, content, swapping, used

TOUCHED = [*range(3, 15), 40, 41, 43, *range(60, 90)]


def test_runs() -> None:
    """Pages in any order become the runs they make up."""
    assert runs([5, 3, 9, 4]) == [range(3, 6), range(9, 10)]
    assert runs([]) == []


def test_what_is_remembered() -> None:
    """As many pages as fit are named, oldest programs are forgotten, and who touched nothing changes nothing."""
    hot = HotSets()
    hot.remember(("a", "x"), [7, 8, 1])
    hot.remember(("a", "x"), [])
    assert hot.pages(("a", "x"), 2, 99) == [range(1, 2), range(7, 8)]
    assert hot.pages(("a", "x"), 9, 99) == [range(1, 2), range(7, 9)]
    assert hot.pages(("a", "x"), 9, 8) == [range(1, 2), range(7, 8)]
    assert hot.pages(("a", "x"), 9, 7) == [range(1, 2)]

    for number in range(MOST):
        hot.remember((str(number), ""), [1])
    assert hot.pages(("a", "x"), 9, 99) == []
    hot.remember(("b", "x"), range(0, 4 * MOST_RUNS, 2))
    assert len(hot.pages(("b", "x"), MOST_RUNS, 4 * MOST_RUNS)) == MOST_RUNS
    assert hot.pages((str(MOST - 1), ""), 9, 99) == []


def test_a_warm_start() -> None:
    """A program that starts a second time waits for at most a tenth of the pages; under another name for all."""

    def user(env: Environment, name: str) -> SwappedUsage:
        paper = Paper(env, 100, 64, around=1, name=name)
        for page in TOUCHED:
            vm.touch(env, paper.view, page * 4096, 1, write=page % 2 == 0)
            assert not any(paper.view[page * 4096 : (page + 1) * 4096])
        usage = paper.pager.statistics().objects[0]
        paper.pager.release(paper.extent.first)
        return usage

    with swapping() as system:
        cold, warm, other = (used(system, lambda env, name=name: user(env, name)) for name in ("a", "a", "b"))  # type: ignore[misc]
    assert isinstance(cold, SwappedUsage)
    assert isinstance(warm, SwappedUsage)
    assert isinstance(other, SwappedUsage)

    assert (cold.faults, cold.preloaded) == (len(TOUCHED), 0)
    assert warm.faults <= cold.faults / 10
    assert warm.preloaded >= len(TOUCHED) * 9 // 10
    assert other.faults == cold.faults


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
