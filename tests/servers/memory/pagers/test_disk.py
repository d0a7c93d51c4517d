"""The queue of the disk: families take turns, whatever one of them has waiting."""

import errno
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from libexo.environment import Environment
from libexo.host.base import Done
from libexo.host.simulated import SimulatedBacking
from servers.memory.pagers.disk import DEPTH, Disk
from tests.servers.memory.pagers.swapping import Paper, content, swapping, use

VIEW = memoryview(bytearray(4))


class Store:
    """A store that ends what it was asked for when it is told to; an offset says whose it is."""

    size = 1 << 20

    def __init__(self) -> None:
        self.asked: list[tuple[int, Done]] = []
        self.deepest = 0
        self.cached: set[int] = set()

    def read_now(self, offset: int, _view: memoryview, _at: int, _size: int) -> bool:
        return offset in self.cached

    def read(self, offset: int, _view: memoryview, _at: int, _size: int, done: Done) -> None:
        self.asked.append((offset, done))
        self.deepest = max(self.deepest, len(self.asked))

    write = read

    def fileno(self) -> int:
        raise AssertionError("nobody waits")

    def settle(self) -> None:
        """End the first."""
        _, done = self.asked.pop(0)
        done(0)


def go_on(ask: Callable[[Done], object], told: Callable[[int], object], number: int) -> None:
    """Ask for the next thing as soon as the last is there, as an object does."""

    def done(outcome: int) -> None:
        assert outcome == 0
        told(number)
        ask(done)

    ask(done)


def family(disk: Disk, number: int, objects: int, told: Callable[[int], object]) -> None:
    """Have so many objects of a family read, or write."""
    for each in range(objects):
        ask = disk.write if each % 2 else disk.read
        go_on(partial(ask, number, number, VIEW, 0, 4), told, number)


@pytest.mark.parametrize("objects", [(64, 1), (1, 64), (64, 64, 3, 1), (5,)])
def test_families_take_turns(objects: tuple[int, ...]) -> None:
    """Each family has as many transfers as any other, however many objects ask; the store has two at most."""
    store, order = Store(), list[int]()
    disk = Disk(store)
    for number, count in enumerate(objects):
        family(disk, number, count, order.append)

    for _ in range(900):
        store.settle()

    counts = Counter(order)
    assert max(counts.values()) - min(counts.values()) <= DEPTH
    assert len(counts) == len(objects)
    assert store.deepest == min(DEPTH, sum(objects))


def test_one_that_comes_late() -> None:
    """A family that asks when others have much waiting comes after one transfer of each, and what is under way."""
    store, order = Store(), list[int]()
    disk = Disk(store)
    for number in range(3):
        family(disk, number, 40, order.append)
    for _ in range(50):
        store.settle()

    before = len(order)
    disk.read(9, 9, VIEW, 0, 4, lambda _: order.append(9))
    while 9 not in order:
        store.settle()
    assert len(order) - before <= 3 + DEPTH + 1


def test_large_transfers_and_small_ones() -> None:
    """Who transfers much at a time has fewer turns: to begin counts as 16 pages, so 64 are five of one page."""
    store, order = Store(), list[int]()
    disk = Disk(store)
    for number, pages in ((1, 64), (2, 1)):
        ask = partial(disk.write, number, number, VIEW, 0, pages * 4096)
        for _ in range(9):
            go_on(ask, order.append, number)
    for _ in range(1000):
        store.settle()

    counts = Counter(order)
    assert 4 <= counts[2] / counts[1] <= 5


def test_what_needs_no_disk() -> None:
    """What the host has in its memory is read at once, whatever waits; what it has not waits its turn."""
    store, told = Store(), list[int]()
    disk = Disk(store)
    family(disk, 1, 9, lambda _: None)
    store.cached.add(7)

    disk.read(2, 7, VIEW, 0, 4, told.append)
    assert told == [0]
    disk.read(2, 8, VIEW, 0, 4, told.append)
    assert told == [0]
    while len(told) < 2:
        store.settle()
    assert store.deepest == DEPTH


def test_a_store_that_refuses() -> None:
    """What the store refuses at once makes room for what waits, and the outcomes are told; nothing is left."""

    class Refuses(Store):
        def read(self, offset: int, _view: memoryview, _at: int, _size: int, done: Done) -> None:
            done(errno.EAGAIN)

        write = read

    told = list[int]()
    disk = Disk(Refuses())
    for number in range(300):
        disk.write(number % 3, number, VIEW, 0, 4, told.append)

    assert told == [errno.EAGAIN] * 300


class Slow:
    """The store of all pagers, which ends one transfer when it is told to, until it is to end all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.deepest, self._may, self._store = 0, 0, list[SimulatedBacking]()
        settle = SimulatedBacking.settle

        def settled(backing: SimulatedBacking) -> None:
            self._store[:] = [backing]
            self.deepest = max(self.deepest, len(backing._finished))
            later = backing._finished[self._may :]
            del backing._finished[self._may :]
            self._may -= len(backing._finished)
            settle(backing)
            backing._finished[:0] = later

        monkeypatch.setattr(SimulatedBacking, "settle", settled)

    def end(self, most: int) -> None:
        """End so many, which are waited for or come next."""
        self._may = most
        for store in self._store:
            store._waker.wake()


def test_many_objects_of_one_family(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is slow, a family that swaps in eight objects has not eight times the turns of another.

    It has more, since the other has one object, and does not ask again at once.
    """
    store, turns = Slow(monkeypatch), list[int]()
    begins = Disk._ask

    def asked(disk: Disk, family: int, size: int, begin: Callable[[Done], object], done: Done) -> None:
        def began(told: Done) -> None:
            turns.append(family)
            begin(told)

        begins(disk, family, size, began, done)

    monkeypatch.setattr(Disk, "_ask", asked)

    def thrash(env: Environment, paper: Paper) -> None:
        page = 0
        while not done:
            page = (page + 1) % 12
            paper.write(page, page)

    def hostile(env: Environment) -> None:
        papers = [Paper(env, 12, 8, policy="fifo", around=1) for _ in range(8)]
        for paper in papers[1:]:
            env.start_thread(lambda _, paper=paper: thrash(env, paper))  # type: ignore[misc]
        thrash(env, papers[0])

    def user(env: Environment) -> None:
        paper = Paper(env, 24, 8, policy="fifo", around=1)
        for turn in range(3):
            for page in range(24):
                paper.write(page, turn * 100 + page)
        for page in range(24):
            assert paper.read(page) == content(200 + page)
        done.append(1)

    done: list[int] = []
    with swapping(seed) as system:
        first = use(system, hostile, "hostile")
        for _ in range(20):
            system.pass_time(0.003)
            store.end(1)
        second = use(system, user)
        while not done:
            system.pass_time(0.003)
            store.end(1)
        store.end(1_000_000)
        system.run(first, second)
    hostile_turns, user_turns = dict.fromkeys(turns)
    both = turns[turns.index(user_turns) :]
    assert both.count(hostile_turns) <= 2.5 * both.count(user_turns)
    assert store.deepest <= DEPTH
