"""The other side of a ring writes anything at any time, also between any two accesses of ours.

Whatever it does, we raise nothing but BrokenRing, read only the ring that is its to write and the control words,
write only what is ours, and come back after a bounded number of accesses.
"""

import random
from collections.abc import Callable
from typing import cast

import pytest

from kernel.abi.limits import SHORT_STRING
from libexo.errors import BrokenRing
from libexo.testing.rings import lines
from libexo.transport.ring.duplex import RECORDS, Duplex
from libexo.transport.ring.layout import CONTROL, HEADER, LONGEST, Form, Word, mark, short

RING = 512
SIZE = CONTROL + 2 * RING
ACCESSES = 8 * RECORDS + 64
"""Loads and stores one call may take: a few for each record."""
ROUNDS = 60
HUGE = (1 << 64) - 1
Write = Callable[[int, int], None]


class Watched:
    """Memory as one side has it: each access is checked, counted, and gives the other side an occasion."""

    def __init__(self, memory: bytearray, line: Duplex, occasion: Callable[[], None], unit: int) -> None:
        self._memory = memoryview(memory)
        self._occasion = occasion
        self._unit = unit
        self.accesses = 0
        ours = (line._out_base + Word.FULL, line._in_base + Word.HEAD, line._in_base + Word.ASLEEP)
        self._words = {8 * word for word in (*ours, line._in_base + Word.PROCESSOR)}
        self._reads, self._writes = (line._in_start, line._in_end), (line._start, line._end)

    def _range(self, index: int | slice) -> tuple[int, int]:
        self.accesses += 1
        self._occasion()
        if isinstance(index, slice):
            assert index.start >= 0
            return index.start, index.stop
        return index * self._unit, index * self._unit + self._unit

    def __getitem__(self, index: int | slice) -> int | memoryview:
        start, stop = self._range(index)
        assert 0 <= start <= stop <= CONTROL or self._reads[0] <= start <= stop <= self._reads[1]
        found = self._memory[start:stop]
        return found if isinstance(index, slice) else int.from_bytes(found, "little")

    def __setitem__(self, index: int | slice, value: int | bytes) -> None:
        start, stop = self._range(index)
        assert start in self._words or self._writes[0] <= start <= stop <= self._writes[1]
        self._memory[start:stop] = value.to_bytes(8, "little") if isinstance(value, int) else value


class Attack:
    """One end of ours in memory that somebody else writes."""

    def __init__(self, seed: int, *, receiver: bool, odds: float) -> None:
        self.draw = random.Random(f"{seed} {receiver}")
        self.memory = bytearray(SIZE)
        self.line = lines(SIZE)[receiver]
        self.words = Watched(self.memory, self.line, self.occasion, 8)
        self.bytes = Watched(self.memory, self.line, self.occasion, 1)
        self.line._words, self.line._memory = cast("memoryview", self.words), cast("memoryview", self.bytes)
        self._odds = odds

    def occasion(self) -> None:
        """Perhaps the other side writes something now."""
        if self.draw.random() < self._odds:
            self.draw.choice((self.word, self.record, self.record, self.noise))()

    def store(self, at: int, value: int) -> None:
        self.memory[at : at + 8] = value.to_bytes(8, "little")

    def number(self) -> int:
        """Any number, or one that is nearly right."""
        line, draw = self.line, self.draw
        near = draw.choice((0, 1, line._lap, line._in_lap, line._limit, RING, LONGEST)) + draw.choice(
            (-32, 0, 1, 32)
        )
        return draw.choice((near & HUGE, draw.getrandbits(64), draw.randrange(RING), HUGE))

    def word(self) -> None:
        """Write a control word of the other side's."""
        line = self.line
        words = (
            line._out_base + Word.HEAD,
            line._out_base + Word.ASLEEP,
            line._out_base + Word.PROCESSOR,
            line._in_base + Word.FULL,
        )
        self.store(8 * self.draw.choice(words), self.number())

    def record(self) -> None:
        """Write a record where we read next, or anywhere, that may be what it says."""
        line, draw = self.line, self.draw
        at = line._in_at if draw.random() < 0.8 else line._in_start + 32 * draw.randrange(RING // 32)
        size = draw.choice((0, 1, 32, 64, RING // 4 - 32, line._in_end - at - 32, RING, draw.getrandbits(32)))
        form = draw.choice((*Form, draw.getrandbits(16)))
        header = mark(max(0, size), form, draw.choice((0, 1, 2, 6, draw.getrandbits(16))))
        self.store(at + 8, draw.choice((size + 4, line._coming, self.number())) & HUGE)
        if at + HEADER + 8 <= SIZE:
            self.store(at + HEADER, draw.choice((self.number(), max(0, size - 4), 0)) & HUGE)
        self.store(at, header)

    def noise(self) -> None:
        """Write any bytes anywhere."""
        size = self.draw.randrange(1, 200)
        at = self.draw.randrange(SIZE - size)
        self.memory[at : at + size] = self.draw.randbytes(size)

    def calls(self) -> list[Callable[[], object]]:
        """Return what is done with a ring."""
        line, draw = self.line, self.draw
        frames = [bytes(draw.choice((0, 1, 60, 120, 400, 3000))) for _ in range(draw.randrange(1, 4))]
        return [
            line.receive, line.receive, line.get, line.ready, line.is_short, line.has_news,
            line.prepare_to_sleep, line.flush,
            lambda: line.wake(draw.choice((-1, 0, 3))), lambda: line.send(frames),
            lambda: line.put(short(1, 2), 1, 2, frames[0][:200]),
        ]  # fmt: skip

    def play(self) -> tuple[int, bool]:
        """Use the ring until it is broken; return how many calls that took, and whether it is."""
        for at in range(ROUNDS):
            self.occasion()
            self.words.accesses = self.bytes.accesses = 0
            self.line.stuck = self.draw.random() < 0.3
            try:
                self.draw.choice(self.calls())()
            except BrokenRing:
                return at, True
            finally:
                assert self.words.accesses + self.bytes.accesses < ACCESSES
                assert len(self.line._body) + self.line._coming <= LONGEST
        return ROUNDS, False


@pytest.mark.parametrize("receiver", [False, True])
@pytest.mark.parametrize("odds", [0.02, 0.2, 0.7])
def test_anything_at_any_time(
    odds: float,
    receiver: bool,  # noqa: FBT001 - a column of the table
    seed: int,
) -> None:
    """Rarely or at nearly every access: most such rings are found broken, and nothing worse happens."""
    played = [Attack(seed + n, receiver=receiver, odds=odds).play() for n in range(400)]
    broken = sum(was_broken for _, was_broken in played)

    assert broken > 200
    assert sum(calls for calls, _ in played) > 400


def receiver() -> tuple[Duplex, Duplex, memoryview]:
    """Return the two ends of a ring, and the memory where the second reads."""
    sender, hostile = lines(SIZE)
    return sender, hostile, sender._memory


def fill(line: Duplex) -> None:
    """Send until there is no room."""
    while line.send([b"more"]):
        pass


BAD_RECORDS = {
    "no form": mark(8, 0, 1),
    "an unknown form": mark(8, 9, 1),
    "beyond the end": mark(RING, Form.WHOLE, 1),
    "the longest there is": mark((1 << 32) - 1, Form.WHOLE, 1),
    "no frames": mark(8, Form.WHOLE, 0),
    "more frames than bytes": mark(8, Form.WHOLE, 3),
    "frames of other sizes": mark(16, Form.WHOLE, 2),
    "a piece of nothing": mark(8, Form.PART, 1),
    "a last piece of nothing": mark(8, Form.LAST, 1),
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_what_is_no_record(name: str) -> None:
    """It is refused, again and again, and nothing of it is used."""
    sender, reader, memory = receiver()
    memory.cast("Q")[sender._start >> 3] = BAD_RECORDS[name]
    for _ in range(2):
        with pytest.raises(BrokenRing):
            reader.receive()
    assert (reader._in_at - reader._in_start, len(reader._body)) == (0, 0)


@pytest.mark.parametrize("size", [SHORT_STRING + 1, RING, 0xFFFF])
def test_an_abbreviated_message_that_is_too_long(size: int) -> None:
    """It is refused by both ways to read one."""
    sender, reader, memory = receiver()
    memory.cast("Q")[sender._start >> 3] = short(1, 0) | size
    with pytest.raises(BrokenRing):
        reader.get()
    with pytest.raises(BrokenRing):
        reader.receive()


@pytest.mark.parametrize("head", [HUGE, 1, 31, RING + 32, 1 << 63])
def test_a_reader_that_read_what_was_not_written(head: int) -> None:
    """A writer that needs room does not believe it; one that needs none does not ask."""
    sender, _, memory = receiver()
    words = memory.cast("Q")
    assert sender.send([b"first"])
    words[Word.HEAD] = head
    words.release()
    with pytest.raises(BrokenRing):
        fill(sender)


def test_a_reader_that_goes_back() -> None:
    """Freed space stays free: a reader that takes it back is found out."""
    sender, reader, memory = receiver()
    words = memory.cast("Q")
    for _ in range(30):
        sender.send([b"x" * 64])
        reader.receive()
    words[Word.HEAD] = 32
    with pytest.raises(BrokenRing):
        fill(sender)


def test_a_long_message_that_never_ends() -> None:
    """Pieces are kept up to the announced total, which is bounded; more is refused."""
    sender, reader, memory = receiver()
    words = memory.cast("Q")
    words[(sender._start >> 3) + 1] = LONGEST + 1
    words[sender._start >> 3] = mark(64, Form.PART, 1)
    with pytest.raises(BrokenRing, match=str(LONGEST + 1)):
        reader.receive()


def test_skips_without_end() -> None:
    """A ring full of nothing is looked through only so far at a time."""
    sender, reader, memory = receiver()
    words = memory.cast("Q")
    looks = 0

    def again() -> None:
        nonlocal looks
        looks += 1
        words[sender._start >> 3] = mark(0, Form.SKIP, 0)

    reader._words = cast("memoryview", Watched(cast("bytearray", memory.obj), reader, again, 8))
    assert reader.receive() is None
    assert RECORDS <= looks <= 4 * RECORDS
