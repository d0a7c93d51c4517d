"""The worker of the real machine: how much of a core it takes."""

import threading
from collections.abc import Iterator
from itertools import count, repeat

import pytest

from hwmodel.machine import Exhausted
from hwmodel.real import patience, worker
from hwmodel.real.bell import Bell
from hwmodel.real.loop import Loop
from hwmodel.real.worker import Worker

pytestmark = [pytest.mark.system, pytest.mark.beside]

PIECES = 4


def deed() -> Iterator[None]:
    """Compute in pieces."""
    for _ in range(PIECES):
        sum(n * 0.5 for n in range(10_000))
        yield


def naps(monkeypatch: pytest.MonkeyPatch, pushed: Iterator[int], *, rests: bool) -> list[float]:
    """Return how long the worker slept during a deed, if the host says how often it was *pushed* off its core."""
    slept: list[float] = []
    monkeypatch.setattr(worker, "_pushed", lambda: next(pushed))
    monkeypatch.setattr("time.sleep", slept.append)
    loop = Loop()
    bell = Bell(loop)
    working = Worker(loop, bell, rests=rests)

    def done(_failure: Exhausted | None) -> None:
        loop.stop()

    working.work(deed(), done)
    loop.run(lambda: None)
    working.close()
    bell.close()
    loop.close()
    return slept


def test_a_worker_of_a_preferred_session_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each piece in which it kept somebody else from the core."""
    slept = naps(monkeypatch, count(), rests=True)

    assert len(slept) >= PIECES
    assert all(nap > 0 for nap in slept[:PIECES])


def test_a_worker_that_nobody_waits_for_does_not_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core would be idle meanwhile."""
    assert naps(monkeypatch, repeat(0), rests=True) == []


def test_a_worker_that_the_host_does_not_prefer_does_not_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host divides the core between it and others."""
    assert naps(monkeypatch, count(), rests=False) == []


def test_who_keeps_it_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that waits has no other waiting behind it; after a number of looks its thread is told, once.

    The thread that waited is none too many when it comes back.
    """
    monkeypatch.setattr(patience, "LOOK", 1)
    loop = Loop()
    bell = Bell(loop)
    held, told, done = threading.Event(), list[int](), list[str]()
    on: list[int] = []
    working = Worker(loop, bell, told.append)

    def waits() -> Iterator[None]:
        on.append(threading.get_native_id())
        held.wait()
        yield

    def other(_: object = None) -> None:
        done.append("other")
        if told:
            held.set()
        else:
            working.work(deed(), other)

    def end(_: object) -> None:
        loop.stop()

    working.work(waits(), end)
    other()
    loop.run(loop.stop)
    working.close()
    bell.close()
    loop.close()

    assert told == on
    assert len(done) > 1
    assert len(working._threads) == 1
