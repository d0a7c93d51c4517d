"""The loop: alarms in order, descriptors in turn, signals between calls."""

import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from hwmodel.interrupts import InterruptController, Ticker
from hwmodel.real.loop import LONGEST, TRAP, TURNS, Loop
from kernel.abi.kip import TURN_BUCKETS

pytestmark = pytest.mark.system
MS = 1_000_000


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def never() -> None:
    raise AssertionError("nobody asked for this")


def test_alarms_go_off_in_the_order_of_their_times(loop: Loop) -> None:
    """Set in any order; equal times in the order in which they were set."""
    rung: list[str] = []
    now = loop.now()
    loop.alarm(now + 3 * MS, lambda: rung.append("third"))
    loop.alarm(now + 3 * MS, loop.stop)
    loop.alarm(now + MS, lambda: rung.append("first"))
    loop.alarm(now + 2 * MS, lambda: rung.append("second"))
    loop.alarm(now + 2 * MS, lambda: rung.append("second too"))

    loop.run(never)

    assert rung == ["first", "second", "second too", "third"]


def test_an_alarm_is_never_early_and_seldom_a_millisecond_late(loop: Loop) -> None:
    """Slices are counted in microseconds: five alarms ring within 1 ms, before five hundred have been late.

    On an idle host that is the first five; on a busy one the loop waits for a core as well.
    """
    late: list[int] = []

    def ring(at: int) -> None:
        late.append(loop.now() - at)
        if sum(each < MS for each in late) == 5 or len(late) == 500:
            loop.stop()
        else:
            set_next()

    def set_next() -> None:
        at = loop.now() + 500_000
        loop.alarm(at, lambda: ring(at))

    set_next()
    loop.run(never)

    assert min(late) >= 0
    assert sum(each < MS for each in late) == 5


def test_a_cancelled_alarm_does_not_ring(loop: Loop) -> None:
    """Not even when it was due with the one that cancels it."""
    now = loop.now()
    loop.alarm(now, lambda: second.cancel())  # noqa: PLW0108 - it is set below
    second = loop.alarm(now, never)
    loop.alarm(now + MS, loop.stop)

    loop.run(never)


def test_alarms_that_set_alarms_for_now_do_not_keep_packets_waiting(loop: Loop) -> None:
    """Each is made in the next turn, after what else is there."""
    one, other = socket.socketpair()

    def again() -> None:
        loop.alarm(loop.now(), again)

    again()
    loop.watch(one.fileno(), lambda _events: loop.stop())
    other.send(b"x")

    loop.run(never)

    loop.unwatch(one.fileno())
    one.close()
    other.close()


def test_a_watcher_ended_by_an_earlier_one_of_the_same_turn_is_not_called(loop: Loop) -> None:
    """Both were readable; the first to be called ends the other."""
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []

    def watcher(which: int) -> None:
        called.append(which)
        loop.unwatch(pairs[1 - which][0].fileno())
        loop.stop()

    for which, (one, other) in enumerate(pairs):
        loop.watch(one.fileno(), lambda _events, which=which: watcher(which))  # type: ignore[misc]
        other.send(b"x")

    loop.run(never)

    assert len(called) == 1
    for pair in pairs:
        for end in pair:
            end.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_end_is_taken_in_the_loop(loop: Loop, number: signal.Signals) -> None:
    """It arrives as a call; afterwards the handlers are as they were."""
    before = signal.getsignal(number)
    taken: list[bool] = []
    loop.alarm(loop.now(), lambda: os.kill(os.getpid(), number))

    def take() -> None:
        taken.append(True)
        loop.stop()

    loop.run(take)

    assert taken == [True]
    assert signal.getsignal(number) is before


def test_the_timer_raises_line_0_again_and_again(loop: Loop) -> None:
    """Every period, until it is stopped."""
    lines = InterruptController()
    count = 0

    def interrupt(line: int) -> None:
        nonlocal count
        assert line == 0
        count += 1
        if count == 3:
            loop.stop()

    lines.connect(interrupt)
    lines.unmask(0)
    start = loop.now()
    ticker = Ticker(loop, lines, 2 * MS)

    loop.run(never)

    ticker.stop()
    assert loop.now() - start >= 6 * MS


def test_how_long_turns_took_is_kept(loop: Loop) -> None:
    """In CPU time: one that computes for 3 ms is among those of 2 ms and more, and its last trap is noted."""
    words = memoryview(bytearray(8 * (TURNS + TURN_BUCKETS))).cast("Q")

    def compute() -> None:
        words[0] = 7
        end = time.thread_time_ns() + 3 * MS
        while time.thread_time_ns() < end:
            pass

    loop.measure(words)
    loop.soon(compute)
    loop.soon(loop.stop)
    loop.run(never)

    assert sum(words[TURNS:]) == 2
    assert sum(words[TURNS + 12 :]) == 1
    assert words[LONGEST] >= 3 * MS
    assert words[TRAP] == 7
