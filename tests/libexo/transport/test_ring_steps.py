"""A ring at every order of its single loads and stores: nothing lost, torn, doubled or late; nobody oversleeps."""

import random
from collections.abc import Callable

import pytest

from libexo.testing import explore
from libexo.transport.ring.duplex import Duplex
from libexo.transport.ring.layout import WORDS, short
from tests.libexo.transport.ring_world import LostWakeUpError, Pruned, Side, World

SIZE = 2 * 256
"""Bytes of both rings: three records fill one."""
Program = Callable[[Side], None]


def marked(number: int) -> int:
    """The mark of record *number*, but for its size."""
    return short(7, ~number & WORDS - 1)


def text(number: int) -> bytes:
    """The string of record *number*: it tells which one it is, at both ends."""
    return b"%d" % number * (1 + number % 5)


def putting(count: int) -> Program:
    """Put that many abbreviated messages, sleeping where there is no room."""

    def program(side: Side) -> None:
        line = side.line
        for number in range(count):
            while not line.put(marked(number), number + 1, number, text(number)):
                line.stuck = True
                side.await_news()
                line.stuck = False

    return program


def getting(count: int, got: list[object]) -> Program:
    """Get that many, sleeping where there is none."""

    def program(side: Side) -> None:
        while len(got) < count:
            found = side.line.get()
            if found is None:
                side.await_news()
            else:
                got.append(found)

    return program


def expected(count: int) -> list[object]:
    return [(marked(number), number + 1, number, text(number)) for number in range(count)]


def every_order(size: int, programs: Callable[[], tuple[Program, Program, Callable[[], None]]]) -> int:
    """Run two programs in every order; return how many there were, but for those that join an earlier one."""
    seen: dict[object, tuple[int, ...]] = {}

    def scenario(choose: Callable[[int], int]) -> None:
        sender, receiver, check = programs()
        try:
            World(size, choose, seen).run(sender, receiver)
        except Pruned:
            return
        check()

    return explore(scenario, limit=100_000)


@pytest.mark.slow
def test_every_order_of_one_record() -> None:
    """In every order of stores, loads, sleeps and second looks it arrives, once and whole."""

    def programs() -> tuple[Program, Program, Callable[[], None]]:
        got: list[object] = []

        def check() -> None:
            assert got == expected(1)

        return putting(1), getting(1, got), check

    assert every_order(SIZE, programs) > 100


def test_without_the_second_look_somebody_oversleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load may overtake a store: a side that does not look again misses a record in some order."""

    def await_news(side: Side) -> None:
        if not side.line.prepare_to_sleep():
            side.sleeping, side.may_look = True, False
            side.hand_over()
            side.sleeping = False
        side.silence()
        side.line.wake(-1)

    monkeypatch.setattr(Side, "await_news", await_news)
    with pytest.raises(LostWakeUpError):
        every_order(SIZE, lambda: (putting(1), getting(1, []), lambda: None))


def test_a_mark_before_its_record_is_torn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that tells of a record before it is all there is found out, in some order."""
    put = Duplex.put

    def early(line: Duplex, mark: int, sequence: int, label: int, string: bytes) -> bool:
        line._words[line._at >> 3] = mark | len(string)
        return put(line, mark, sequence, label, string)

    monkeypatch.setattr(Duplex, "put", early)
    torn = 0
    for seed in range(40):
        got: list[object] = []
        World(SIZE, random.Random(seed).randrange).run(putting(1), getting(1, got))
        torn += got != expected(1)

    assert torn


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_many_records_through_a_tiny_ring(seed: int) -> None:
    """Around its end many times, full and empty by turns, in random orders: each arrives once, whole, in order."""
    for again in range(12):
        got: list[object] = []
        draw = random.Random(seed << 8 | again)
        weight = draw.choice((0.0, 0.5, 0.9))

        def choose(count: int, draw: random.Random = draw, weight: float = weight) -> int:
            return 0 if draw.random() < weight else draw.randrange(count)

        World(SIZE, choose).run(putting(12), getting(12, got))
        assert got == expected(12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_messages_of_all_sizes_both_ways(seed: int) -> None:
    """Whole messages, and long ones in pieces while the other side reads, each way at once."""
    sizes = (0, 1, 31, 64, 200, 17, 100)
    messages = [[bytes([65 + n]) * size] * (1 + n % 2) for n, size in enumerate(sizes)]

    def exchange(got: list[list[bytes]]) -> Program:
        def program(side: Side) -> None:
            to_send = list(messages)
            while to_send or side.line._left or len(got) < len(messages):
                if to_send and side.line.send(to_send[0]):
                    to_send.pop(0)
                elif (found := side.line.receive()) is not None:
                    got.append(found)
                else:
                    side.line.stuck = bool(to_send)
                    side.await_news()
                    side.line.stuck = False
                    side.line.flush()

        return program

    for again in range(4):
        got: tuple[list[list[bytes]], list[list[bytes]]] = [], []
        World(SIZE, random.Random(seed << 8 | again).randrange).run(*map(exchange, got))
        assert got == (messages, messages)
