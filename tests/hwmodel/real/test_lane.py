"""The thread for what waits for programs' locks: in order, told in the loop, there when it is needed."""

import errno
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hwmodel.machine import Exhausted
from hwmodel.real.lane import Lane
from hwmodel.real.loop import Loop


def _open() -> int:
    """Return how many descriptors there are."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def test_order(loop: Loop) -> None:
    """What is posted is done in order on another thread, and what it tells is called in the loop, in order."""
    made, done = Lane(loop), list[tuple[int, int]]()

    def note(number: int) -> None:
        done.append((number, threading.get_ident()))

    made.start()
    made.start()
    for number in range(5):
        made.post(partial(made.tell, partial(note, number)))
    made.when_done(loop.stop)
    loop.run(loop.stop)
    made.close()

    assert done == [(number, threading.get_ident()) for number in range(5)]


def test_nothing_asked(loop: Loop) -> None:
    """Where nobody needs it there is no thread, and nothing to wait for."""
    made, done = Lane(loop), list[int]()
    made.when_done(lambda: done.append(1))
    made.close()

    assert done == [1]


def test_the_end(loop: Loop) -> None:
    """What was posted is done before it ends."""
    made, done = Lane(loop), list[int]()
    made.start()
    for number in range(5):
        made.post(partial(done.append, number))
    made.close()

    assert done == [*range(5)]


def test_a_bug_stops_the_loop(loop: Loop) -> None:
    """What is raised on the thread is raised in the loop."""
    made = Lane(loop)
    made.start()
    made.post(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        loop.run(loop.stop)
    made.close()


@pytest.mark.parametrize("what", ["eventfd", "thread"])
def test_a_host_without_room(loop: Loop, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """It is not started then, nothing is left, and it can be tried again."""
    made = Lane(loop)

    def full(*_: object) -> int:
        raise OSError(errno.EMFILE, "") if what == "eventfd" else RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        if what == "eventfd":
            patched.setattr(os, "eventfd", full)
        else:
            patched.setattr(threading.Thread, "start", full)
        before = _open()
        with pytest.raises(Exhausted):
            made.start()
        assert _open() == before
    made.start()
    made.close()
