"""The ring of a publish channel, store by store: one side goes on between any two steps of the other."""

import random
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from libexo.publish.cursor import Cursor
from libexo.publish.layout import CONTROL, GRAIN
from libexo.publish.writer import Writer
from tests.libexo.test_publish_ring import SMALL, Channel, drained, looked_through, record, views


class Stepped:
    """Memory that calls *step* before each store of a word, and before each load of one."""

    def __init__(self, memory: bytearray, step: Callable[[], None], *, first: int = 0) -> None:
        self._words = memoryview(memory).cast("Q")[first:]
        self._step = step

    def __getitem__(self, index: int | slice) -> int | bytes:
        if isinstance(index, int):
            self._step()
            return self._words[index]
        loaded = b""
        for word in range(index.start // 8, -(-index.stop // 8)):
            self._step()
            loaded += self._words[word : word + 1].tobytes()
        return loaded[: index.stop - index.start]

    def __setitem__(self, index: int | slice, value: int | bytes) -> None:
        if isinstance(index, int):
            self._step()
            self._words[index] = cast("int", value)
            return
        content = cast("bytes", value)
        for first in range(0, len(content), 8):
            self._step()
            word = (index.start + first) // 8
            old = self._words[word : word + 1].tobytes()
            piece = content[first : first + 8]
            self._words[word] = int.from_bytes(piece + old[len(piece) :], "little")


class SteppedRing(Stepped):
    """The ring of such memory."""

    def __init__(self, memory: bytearray, step: Callable[[], None]) -> None:
        super().__init__(memory, step, first=CONTROL // 8)
        self._size = len(memory) - CONTROL

    def __len__(self) -> int:
        return self._size


def states(size: int, contents: list[bytes]) -> Iterator[bytes]:
    """Yield what is in the memory after each store of a writer of *contents*, from before the first on."""
    memory = bytearray(CONTROL + size)
    seen: list[bytes] = []

    def step() -> None:
        seen.append(bytes(memory))

    writer = Writer()
    writer.begin(*views(memory))
    writer.begin(
        cast("memoryview", Stepped(memory, lambda: None)),
        cast("memoryview", SteppedRing(memory, lambda: None)),
    )
    writer._words = cast("memoryview", Stepped(memory, step))
    writer._data = cast("memoryview", SteppedRing(memory, step))
    for content in contents:
        assert writer.put(content)
    yield from dict.fromkeys([*seen, bytes(memory)])  # a load changes nothing


CONTENTS = [record(number, length) for number, length in enumerate((16, 9, 32, 0, 24, 8, 32, 16, 1, 32))]
SMALLEST_RING = 10 * GRAIN


def test_a_reader_between_any_two_stores() -> None:
    """Whichever store of the writer is the last a reader sees, it reads whole records, and counts exactly."""
    memories = list(states(SMALLEST_RING, CONTENTS))
    assert len(memories) > 50

    for at, memory in enumerate(memories):
        for begun in memories[: at + 1]:
            live = bytearray(begun)
            cursor = Cursor(*views(live), oldest=True)
            start = cursor._number
            live[:] = memory
            read = drained(cursor)
            numbers = [CONTENTS.index(content) for content in read]
            assert numbers == sorted(set(numbers))
            assert not read or numbers[-1] + 1 == start + cursor.missed + len(read)


def test_a_writer_between_any_two_loads() -> None:
    """However far the writer comes between two loads of a reader, and between two others, nothing torn is read."""
    memories = list(states(SMALLEST_RING, CONTENTS))
    looked = whole = 0
    for first in range(len(memories)):
        for second in range(first, len(memories)):
            for load in range(1, 14):
                for third in range(second, len(memories), 5):
                    whole += len(race(memories, (first, second, third), load))
                    looked += 1

    assert looked > 10_000
    assert whole > looked


def race(memories: list[bytes], moments: tuple[int, int, int], load: int) -> list[bytes]:
    """Read while the memory changes before load number *load*, and two later; check the records."""
    live = bytearray(memories[moments[0]])
    loads = 0

    def step() -> None:
        nonlocal loads
        loads += 1
        if loads in (load, load + 2):
            live[:] = memories[moments[1 if loads == load else 2]]

    cursor = Cursor(*views(live), oldest=True)
    start, copied = cursor._number, cursor._copied
    cursor._words = cast("memoryview", Stepped(live, step))
    cursor._data = cast("memoryview", SteppedRing(live, step))
    read = drained(cursor)
    numbers = [CONTENTS.index(content) for content in read]
    assert numbers == sorted(set(numbers)), (moments, load, copied)
    assert not read or numbers[-1] + 1 == start + cursor.missed + len(read), (moments, load)
    return read


@pytest.mark.parametrize("load", range(2, 6))  # HEAD, the number there, TAIL, GENERATION
def test_a_start_between_any_two_stores(load: int) -> None:
    """A reader that starts at the newest has the right number, however far the writer comes meanwhile."""
    memories = list(states(SMALLEST_RING, CONTENTS))
    for first in range(len(memories)):
        for second in range(first, len(memories)):
            live = bytearray(memories[first])
            loads = iter(range(100))

            def step(
                live: bytearray = live, loads: Iterator[int] = loads, later: bytes = memories[second]
            ) -> None:
                if next(loads) == load:
                    live[:] = later

            words, data = Stepped(live, step), SteppedRing(live, step)
            cursor = Cursor(cast("memoryview", words), cast("memoryview", data), oldest=False)
            start = cursor._number
            live[:] = memories[-1]
            read = drained(cursor)
            assert len(CONTENTS) == start + cursor.missed + len(read)


def test_memory_that_changes_under_the_reader() -> None:
    """A publisher that writes anything between any two loads does no more harm than one that wrote it before."""
    for seed in range(300):
        draw = random.Random(seed)
        channel = Channel(SMALL * 4)
        channel.put(*(record(number) for number in range(20)))
        cursor = channel.cursor()
        words = channel.words

        def step(draw: random.Random = draw, words: memoryview = words) -> None:
            if draw.random() < 0.2:
                words[draw.randrange(2, len(words))] = draw.choice(
                    (draw.getrandbits(64), draw.randrange(4096))
                )

        cursor._words = cast("memoryview", Stepped(channel.memory, step))
        cursor._data = cast("memoryview", SteppedRing(channel.memory, step))
        looked_through(cursor)

        assert len(cursor._copied) <= len(channel.data)
