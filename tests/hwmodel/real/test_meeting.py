"""Who is brought onto one core when faults come close one behind another, and who is not; without a host."""

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from hwmodel.real.meeting import CLOSE, ENOUGH, QUIET, Meeting, Talk

KERNEL, LANE = threading.get_native_id(), 2
BOTH = frozenset((0, 1))


@dataclass
class Program:
    """A body: its plan, and its threads, of which the first has its number."""

    pid: int
    core: int = -1


@dataclass
class Host:
    """A loop and the affinities of threads; the kernel runs on core 1."""

    time: int = 0
    alarms: list[tuple[int, Callable[[], None]]] = field(default_factory=list)
    kept: dict[int, frozenset[int]] = field(default_factory=dict)
    processes: dict[int, list[int]] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)

    def now(self) -> int:
        return self.time

    def alarm(self, at: int, callback: Callable[[], None]) -> None:
        self.alarms.append((at, callback))

    def here(self) -> int:
        return 1

    def of(self, thread: int) -> frozenset[int]:
        return self.kept.get(thread, BOTH)

    def keep(self, thread: int, cores: frozenset[int]) -> None:
        self.kept[thread] = cores

    def threads(self, pid: int) -> Iterable[int]:
        return self.processes.get(pid, [KERNEL, LANE] if pid == os.getpid() else [pid])

    def cpu_time(self, pid: int) -> int:
        return self.used.get(pid, 0)

    def on_one(self, core: int = 1) -> set[int]:
        """Return the threads that are kept on *core*."""
        return {thread for thread, cores in self.kept.items() if cores == {core}}

    def wait(self, span: int) -> None:
        """Let time go by."""
        until = self.time + span
        while self.alarms and self.alarms[0][0] <= until:
            self.time, callback = self.alarms.pop(0)
            callback()
        self.time = until


class Room:
    """A meeting on that host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.meeting = Meeting(host, host, host.cpu_time)  # type: ignore[arg-type]

    def faults(self, talk: Talk, asker: Program, pager: Program, count: int = ENOUGH + 1, gap: int = CLOSE // 2,
               thread: int = 0, works: int = CLOSE // 4) -> None:  # fmt: skip
        """Have so many, one behind another, and the asker work between them."""
        for _ in range(count):
            self.host.wait(gap)
            self.host.used[asker.pid] = self.host.cpu_time(asker.pid) + works
            talk.asker, talk.thread = asker, thread or asker.pid
            self.meeting.told(talk, pager)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def room(host: Host) -> Room:
    return Room(host)


def test_they_meet_while_they_talk(host: Host, room: Room) -> None:
    """All go to the kernel's core when faults were close often enough, and may go anywhere when they cease."""
    talk, asker, pager = Talk(LANE), Program(10), Program(20)
    room.faults(talk, asker, pager, ENOUGH)
    assert host.on_one() == set()
    room.faults(talk, asker, pager, 1)
    assert host.on_one() == {KERNEL, LANE, 10, 20}
    host.wait(3 * QUIET)
    assert (set(host.kept.values()), host.alarms) == ({BOTH}, [])
    room.faults(talk, asker, pager)
    assert host.on_one() == {KERNEL, LANE, 10, 20}


def test_who_faults_now_and_then_stays(host: Host, room: Room) -> None:
    """Faults that are not close bring nobody together, however many they are."""
    room.faults(Talk(LANE), Program(10), Program(20), 4 * ENOUGH, QUIET)

    assert (host.kept, host.alarms) == ({}, [])


def test_who_works_between_faults_stays(host: Host, room: Room) -> None:
    """So much work is worth a core of its own; when there is less of it, they meet."""
    talk, asker, pager = Talk(LANE), Program(10), Program(20)
    room.faults(talk, asker, pager, 4 * ENOUGH, works=CLOSE)
    assert (host.kept, host.alarms) == ({}, [])
    room.faults(talk, asker, pager, 2 * ENOUGH)
    assert host.on_one() == {KERNEL, LANE, 10, 20}


def test_a_busy_host(host: Host, room: Room) -> None:
    """Who waits long for a core, because others have it, computes as little, and is brought there."""
    room.faults(Talk(LANE), Program(10), Program(20), gap=QUIET - 1)

    assert host.on_one() == {KERNEL, LANE, 10, 20}


def test_the_thread_that_waits(host: Host, room: Room) -> None:
    """It alone of its program is moved; one it has started meanwhile goes free with it."""
    host.processes = {10: [10, 11, 12]}
    talk = Talk(LANE)
    room.faults(talk, Program(10), Program(20), thread=11)
    assert host.on_one() == {KERNEL, LANE, 11, 20}
    host.kept[12] = frozenset((1,))
    host.wait(3 * QUIET)
    assert (host.on_one(), host.kept[12]) == (set(), BOTH)


def test_one_leaves_and_another_stays(host: Host, room: Room) -> None:
    """A pager two programs talk to, and the kernel, stay with the one that goes on."""
    first, second, pager = Talk(LANE), Talk(LANE), Program(20)
    room.faults(first, Program(10), pager)
    room.faults(second, Program(30), pager)
    assert host.on_one() == {KERNEL, LANE, 10, 20, 30}
    room.faults(second, Program(30), pager, 4 * QUIET // CLOSE)
    assert host.on_one() == {KERNEL, LANE, 20, 30}


def test_a_plan_comes_first(host: Host, room: Room) -> None:
    """Who is under one is not moved: the others come to its core; plans of two cores have nobody move."""
    room.faults(Talk(LANE), Program(10, core=0), Program(20))
    assert host.on_one(0) == {KERNEL, LANE, 20}
    host.wait(3 * QUIET)
    host.kept.clear()
    room.faults(Talk(LANE), Program(10, core=0), Program(20, core=1))
    assert host.kept == {}


def test_who_comes_under_a_plan_meanwhile(host: Host, room: Room) -> None:
    """It stays where the plan has it."""
    pager = Program(20)
    room.faults(Talk(LANE), Program(10), pager)
    pager.core = 1
    host.wait(3 * QUIET)
    assert host.on_one() == {20}


def test_who_is_kept_elsewhere(host: Host, room: Room) -> None:
    """The others come to its core, and it stays there at the end; a second talk comes to that core too."""
    host.kept, host.processes = dict.fromkeys((10, 20), frozenset((0,))), {os.getpid(): [KERNEL, LANE, 3]}
    room.faults(Talk(LANE), Program(10), Program(20))
    assert host.on_one(0) == {10, 20, KERNEL, LANE}
    room.faults(Talk(3), Program(30), Program(40))
    assert host.on_one(0) == {10, 20, KERNEL, LANE, 3, 30, 40}
    host.wait(3 * QUIET)
    assert (host.on_one(0), host.on_one()) == ({10, 20}, set())


def test_who_may_not_be_together(host: Host, room: Room) -> None:
    """Nobody is moved when they have no core in common, or one is gone."""
    first, second = frozenset((0,)), frozenset((1,))
    for kept in ({10: second, 20: first}, {20: frozenset[int]()}, {10: first, LANE: second}):
        host.kept = dict(kept)
        room.faults(Talk(LANE), Program(10), Program(20))
        assert host.kept == kept


def test_who_was_moved_by_somebody_else_stays_there(host: Host, room: Room) -> None:
    """What an operator did meanwhile is not undone."""
    room.faults(Talk(LANE), Program(10), Program(20))
    host.kept[10] = frozenset((0,))
    host.wait(3 * QUIET)
    assert [host.kept[10], host.kept[20]] == [frozenset((0,)), BOTH]
