"""Threads for what waits for programs' locks: in order, told in the loop, noticed when they wait too long."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from hwmodel.machine import Exhausted
from hwmodel.real import lane, patience
from hwmodel.real.bell import Bell
from hwmodel.real.lane import Lane
from hwmodel.real.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def bell(loop: Loop) -> Iterator[Bell]:
    made = Bell(loop)
    yield made
    made.close()


def end(lane: Lane) -> None:
    """Have it do what is left."""
    lane.close()
    lane.join()
    assert lane.over


def test_order(loop: Loop, bell: Bell) -> None:
    """What is posted is done in order on another thread, and what it tells is called in the loop, in order."""
    made, done, on = Lane(loop, bell, loop.stop), list[tuple[int, int]](), list[int]()

    def note(number: int) -> None:
        done.append((number, threading.get_ident()))

    for number in range(5):
        made.post(partial(made.tell, partial(note, number)))
        made.post(lambda: on.append(threading.get_ident()))
    made.when_done(loop.stop)
    loop.run(loop.stop)
    end(made)

    assert done == [(number, threading.get_ident()) for number in range(5)]
    assert len({*on}) == 1
    assert threading.get_ident() not in on


def test_what_is_told_is_heard_first(loop: Loop, bell: Bell) -> None:
    """Where all is done, but the loop has not heard what it told, who asks whether all is done hears after that."""
    made, heard, worked = Lane(loop, bell, loop.stop), list[str](), threading.Event()
    made.post(partial(made.tell, lambda: heard.append("told")))
    made.post(worked.set)
    assert worked.wait(10)
    made.when_done(lambda: heard.append("done"))
    made.when_done(loop.stop)
    assert heard == []
    loop.run(loop.stop)

    assert heard == ["told", "done"]
    end(made)


def test_the_end(loop: Loop, bell: Bell) -> None:
    """What was posted is done before it ends."""
    made, done = Lane(loop, bell, loop.stop), list[int]()
    for number in range(5):
        made.post(partial(done.append, number))
    end(made)

    assert done == [*range(5)]


def test_a_bug_stops_the_loop(loop: Loop, bell: Bell) -> None:
    """What is raised on the thread is raised in the loop."""
    made = Lane(loop, bell, loop.stop)
    made.post(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        loop.run(loop.stop)
    end(made)


def test_a_host_without_room(loop: Loop, bell: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no thread to be had, the host is full."""

    def full(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    with pytest.raises(Exhausted):
        Lane(loop, bell, loop.stop)


def test_one_that_waits_keeps_no_other_waiting(
    loop: Loop, bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who keeps a call of its lane waiting is told of once, after as many looks as may be; other lanes go on."""
    monkeypatch.setattr(patience, "LOOK", 1)
    monkeypatch.setattr(lane, "_SLOW", 0)
    held, told, done = threading.Event(), list[int](), list[int]()
    stuck, other = Lane(loop, bell, lambda: told.append(len(done))), Lane(loop, bell, int)

    def go_on() -> None:
        done.append(1)
        if told and len(done) > told[0] + 5:
            held.set()
        else:
            other.post(partial(other.tell, go_on))

    stuck.post(held.wait)
    stuck.when_done(loop.stop)
    other.post(partial(other.tell, go_on))
    loop.run(loop.stop)
    end(stuck)
    end(other)

    assert len(told) == 1
