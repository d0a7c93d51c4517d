"""The ring of a publish channel in plain memory: order, laps, counts, and a hostile publisher."""

import random

import pytest

from libexo.publish.cursor import BATCH, Cursor
from libexo.publish.layout import (
    CONTROL,
    FILLER,
    GRAIN,
    HEAD,
    RECORD,
    TAIL,
    BrokenChannel,
    ChannelEnded,
    MemoryCut,
    space,
)
from libexo.publish.writer import PIECE, Writer

SMALL = 8 * GRAIN
"""The ring of the exhaustive tests: room for two or three records."""


class Channel:
    """A writer in plain memory."""

    def __init__(self, size: int) -> None:
        self.memory = bytearray(CONTROL + size)
        self.words, self.data = views(self.memory)
        self.writer = Writer()
        self.writer.begin(self.words, self.data)

    def cursor(self, *, oldest: bool = True) -> Cursor:
        return Cursor(self.words, self.data, oldest=oldest)

    def put(self, *contents: bytes) -> None:
        for content in contents:
            assert self.writer.put(content)


def views(memory: bytearray) -> tuple[memoryview, memoryview]:
    view = memoryview(memory)
    return view.cast("Q"), view[CONTROL:]


def drained(cursor: Cursor) -> list[bytes]:
    return list(iter(cursor.take, None))


def record(number: int, length: int | None = None) -> bytes:
    """A record that tells which one it is, and whose every word does."""
    length = number * 13 % 40 if length is None else length
    return (number.to_bytes(8, "little") * (length // 8 + 1))[:length]


# ------------------------------------------------------------------------------------------------------ the ring


def test_records_come_in_order() -> None:
    """Each record is read once, in order, and then there is nothing."""
    channel = Channel(4096)
    cursor = channel.cursor()
    channel.put(b"first", b"", b"third")

    assert drained(cursor) == [b"first", b"", b"third"]
    assert (cursor.take(), cursor.missed) == (None, 0)


@pytest.mark.parametrize("size", [SMALL, 4096, 4 * BATCH])
def test_records_of_every_size_wrap(size: int) -> None:
    """A reader that keeps up gets every record, of any size up to the largest, through many laps."""
    channel = Channel(size)
    cursor = channel.cursor()
    largest = channel.writer.largest
    lengths = [0, 1, 15, 16, 17, largest // 3, largest - 1, largest] * 25

    for number, length in enumerate(lengths):
        channel.put(record(number, length))
        assert drained(cursor) == [record(number, length)]
    assert cursor.missed == 0


def test_a_large_record_is_copied_in_pieces() -> None:
    """A record larger than what is copied at once, on either side, arrives whole."""
    channel = Channel(8 * PIECE)
    cursor = channel.cursor()
    content = random.Random(1).randbytes(3 * PIECE + 5)
    channel.put(b"before", content, b"after")

    assert drained(cursor) == [b"before", content, b"after"]


@pytest.mark.parametrize("published", range(0, 60, 7))
def test_a_lapped_reader_knows_how_many_it_missed(published: int) -> None:
    """It goes on with the oldest that is there, and what it read and what it missed are all there were."""
    channel = Channel(256)
    cursor = channel.cursor()
    channel.put(*(record(number) for number in range(published)))
    kept = drained(cursor)

    assert kept == [record(number) for number in range(published - len(kept), published)]
    assert cursor.missed == published - len(kept)
    assert len(kept) >= min(published, 3)


def test_lapped_again_and_again() -> None:
    """The count of a reader that falls behind at random stays exact, whatever it takes in between."""
    for seed in range(40):
        draw = random.Random(seed)
        channel = Channel(GRAIN * draw.randrange(8, 64))
        cursor = channel.cursor()
        published, read = 0, 0
        for _ in range(300):
            for _ in range(draw.choice((0, 1, 2, 30))):
                channel.put(record(published, draw.randrange(channel.writer.largest + 1)))
                published += 1
            for _ in range(draw.choice((0, 1, 5))):
                if (content := cursor.take()) is not None:
                    number = read + cursor.missed
                    assert content == record(number, len(content))
                    read += 1
        read += len(drained(cursor))

        assert read + cursor.missed == published


def test_start_at_the_oldest_or_the_newest() -> None:
    """A late reader has missed nothing: it begins with what is kept, or with what comes next."""
    channel = Channel(256)
    channel.put(*(record(number) for number in range(50)))
    oldest, newest = channel.cursor(), channel.cursor(oldest=False)
    channel.put(b"new")

    assert drained(oldest)[-2:] == [record(49), b"new"]
    assert drained(newest) == [b"new"]
    assert (oldest.missed, newest.missed) == (0, 0)


def test_one_who_starts_late_is_counted_for_from_there() -> None:
    """A reader that is lapped before its first look knows how many it missed since it started."""
    channel = Channel(256)
    channel.put(*(record(number) for number in range(50)))
    newest = channel.cursor(oldest=False)
    channel.put(*(record(number) for number in range(50, 100)))

    assert len(drained(newest)) + newest.missed == 50


def test_readers_are_independent() -> None:
    """One reader's progress makes no difference to another."""
    channel = Channel(256)
    quick, slow = channel.cursor(), channel.cursor()
    read = []
    for number in range(30):
        channel.put(record(number))
        read += drained(quick)
    late = drained(slow)

    assert (read, quick.missed) == ([record(number) for number in range(30)], 0)
    assert late == read[slow.missed :]


def test_a_closed_channel_is_read_to_its_end() -> None:
    """Closed is the end after the last record, not before."""
    channel = Channel(4096)
    cursor = channel.cursor()
    channel.put(b"last")
    channel.writer.close()

    assert cursor.take() == b"last"
    with pytest.raises(ChannelEnded, match="closed"):
        cursor.take()


def test_a_successor_goes_on_with_the_numbers() -> None:
    """A writer that begins where another one ended continues the count; what was not read yet is missed."""
    channel = Channel(4096)
    cursor = channel.cursor()
    channel.put(*(record(number) for number in range(5)))
    assert cursor.take() == record(0)
    heir = Writer()
    heir.begin(channel.words, channel.data)
    assert cursor.take() == record(1)  # copied before
    drop = [cursor.take() for _ in range(3)]
    with pytest.raises(MemoryCut):
        cursor.take()

    assert cursor.resume(channel.words, channel.data)
    heir.put(b"heir's")
    assert (drop[-1], cursor.take(), cursor.missed, heir.number) == (record(4), b"heir's", 0, 6)


def test_memory_that_was_taken() -> None:
    """A side that finds zeros knows: the writer writes nothing there, the reader takes nothing from there."""
    channel = Channel(4096)
    cursor = channel.cursor()
    channel.memory[:] = bytes(len(channel.memory))

    assert not channel.writer.put(b"lost")
    assert not any(channel.memory)
    with pytest.raises(MemoryCut):
        cursor.take()


def test_memory_that_moved() -> None:
    """In new memory with old contents, a reader waits for the writer to start over, and counts what was lost."""
    channel = Channel(4096)
    cursor = channel.cursor()
    channel.put(b"one", b"two")
    copy = bytearray(channel.memory)
    assert not cursor.resume(*views(copy))

    channel.writer.begin(*views(copy))
    assert cursor.resume(*views(copy))
    assert cursor.take() is None
    channel.put(b"three")
    assert (cursor.take(), cursor.missed) == (b"three", 2)


# --------------------------------------------------------------------------------------------- a hostile publisher


def looked_through(cursor: Cursor) -> int:
    """Read on a while; return how many records there seemed to be. Only the errors that are told of may come."""
    try:
        return sum(cursor.take() is not None for _ in range(50))
    except (BrokenChannel, ChannelEnded, MemoryCut):
        return 0


def test_random_memory() -> None:
    """Whatever stands in the memory, a reader returns, or raises what it is said to raise."""
    begun = 0
    for seed in range(1500):
        draw = random.Random(seed)
        channel = Channel(GRAIN * draw.randrange(8, 300))
        channel.put(*(record(number) for number in range(draw.randrange(40))))
        cursor = channel.cursor(oldest=seed % 2 == 0)
        for _ in range(draw.randrange(1, 12)):
            at = draw.randrange(len(channel.words) if draw.random() < 0.5 else 8)
            odd = draw.choice(
                (0, 1, 7, GRAIN, 1 << 63, (1 << 64) - 1, (1 << 64) - GRAIN, draw.getrandbits(64))
            )
            channel.words[at] = draw.choice((odd, (channel.words[HEAD] + odd) & ((1 << 64) - 1)))
            looked_through(cursor)
        try:
            begun += looked_through(channel.cursor(oldest=draw.random() < 0.5))
        except (BrokenChannel, ChannelEnded, MemoryCut):
            continue

    assert begun > 0


@pytest.mark.parametrize(
    ("written", "says"),
    [((7, 3), "record 7 is where"), ((0, 1 << 40), "bytes"), ((0, 17), "17 bytes"), ((0, FILLER), "bytes")],
)
def test_a_record_that_cannot_be(written: tuple[int, int], says: str) -> None:
    """A number out of order, or a length beyond what is published, is told of."""
    channel = Channel(4096)
    cursor = channel.cursor()
    channel.put(b"record")
    RECORD.pack_into(channel.data, RECORD.size, *written)

    with pytest.raises(BrokenChannel, match=says):
        cursor.take()


def test_no_channel() -> None:
    """Memory in which nobody published is no channel."""
    with pytest.raises(BrokenChannel, match="no publish channel"):
        Cursor(*views(bytearray(4096)), oldest=True)


def test_positions_that_lead_nowhere() -> None:
    """HEAD behind the reader, or TAIL beyond HEAD: there is nothing to read, however often one looks."""
    channel = Channel(4096)
    cursor = channel.cursor()
    channel.put(b"one")
    channel.words[HEAD] = 0
    assert drained(cursor) == []
    channel.words[TAIL] = 1 << 62
    assert drained(cursor) == []


def test_space_of_a_record() -> None:
    """A record takes its two words and its content, rounded up to the grain."""
    assert [space(length) for length in (0, 1, GRAIN, GRAIN + 1)] == [16, 32, 32, 48]
