"""Messages are cut out of a stream wherever it is cut, and what contradicts itself breaks it."""

import random
import struct
import tracemalloc

import pytest

from kernel.abi.limits import MAX_STRING
from libexo.errors import BrokenStream
from libexo.transport.framing import HEAD, MAX_FRAMES, MAX_PACKET, Assembly, encode, report

LIMIT = 8 << 20
MESSAGES = [[b"a"], [b"", b""], [b"head", b"", b"tail"], [bytes(range(256))] * 9, [b"x" * MAX_PACKET], [b""]]


def fed(assembly: Assembly, stream: bytes, cut: int) -> list[list[bytes]]:
    """Return the messages in *stream*, of which *cut* bytes come at a time."""
    return [m for at in range(0, len(stream), cut) for m in assembly.feed(stream[at : at + cut])]


@pytest.mark.parametrize("cut", [1, 2, 15, 16, 17, 4096, 8192, 1 << 20])
def test_wherever_it_is_cut(cut: int) -> None:
    """Messages come out as they went in, each once, in order, and nothing is left."""
    messages = MESSAGES if cut > 2 else [m for m in MESSAGES if sum(map(len, m)) < 1 << 12]
    assembly = Assembly(LIMIT)

    assert fed(assembly, b"".join(map(encode, messages)), cut) == messages
    assert assembly.held == 0


def test_cut_at_random(seed: int) -> None:
    """The same for pieces of any size, among them empty ones."""
    draw = random.Random(seed)
    stream, assembly = b"".join(map(encode, MESSAGES)), Assembly(LIMIT)
    found: list[list[bytes]] = []
    while stream:
        size = draw.choice((0, 1, 7, 100, 8192))
        found += assembly.feed(stream[:size])
        stream = stream[size:]

    assert found == MESSAGES


def test_several_long_strings() -> None:
    """A message of some strings of the greatest length is one as any other, where its receiver has room."""
    message = [b"head", bytes(MAX_STRING), b"y" * MAX_STRING]

    assert fed(Assembly(16 << 20), encode(message), 8192) == [message]


def test_what_is_held_is_what_came() -> None:
    """Of a message that is not complete, exactly what came of it is kept, whatever it says it will be."""
    assembly, record = Assembly(LIMIT), encode([b"head", bytes(MAX_STRING)])
    held = []
    for at in (0, 10, 30, 5000):
        assembly.feed(record[at : at + 10])
        held.append(assembly.held)

    assert held == [10, 20, 30, 40]


@pytest.mark.parametrize("cut", [1, 2, 3, 100, 5000])
def test_small_pieces_take_no_more_memory_than_large_ones(cut: int) -> None:
    """An incomplete message takes as much memory as has come of it, and a little, however small the pieces."""
    assembly, record = Assembly(LIMIT), encode([b"head", bytes(1 << 18)])
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        fed(assembly, record[:-1], cut)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert assembly.held == len(record) - 1
    assert after - before < 1.2 * assembly.held + 4096


def test_small_pieces_are_not_looked_at_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pieces of one byte, only those are looked at that complete a part: head, sizes, each of three frames."""
    looked: list[bytes] = []
    cut = Assembly._cut

    def cut_and_count(assembly: Assembly, data: bytes) -> list[list[bytes]]:
        looked.append(data)
        return cut(assembly, data)

    monkeypatch.setattr(Assembly, "_cut", cut_and_count)
    message = [b"head", bytes(1 << 14), b"tail"]

    assert fed(Assembly(LIMIT), encode(message), 1) == [message]
    assert len(looked) == 5


def test_what_was_read_is_told() -> None:
    """Every record says how much of the other direction has been read; one may say only that."""
    assembly = Assembly(LIMIT)
    told = []
    for record in (encode([b"x"], 5), report(7), encode([b"x", b"y"], 7), encode([b"x"], 7) + report(9)):
        assembly.feed(record)
        told.append(assembly.read)

    assert told == [5, 7, 7, 9]


def table(first: int, *sizes: int) -> bytes:
    return HEAD.pack(1 + len(sizes), first, 0) + struct.pack(f"<{len(sizes)}I", *sizes)


BROKEN = {
    "too many frames": HEAD.pack(MAX_FRAMES + 1, 0, 0),
    "more frames than there could be": HEAD.pack(1 << 31, 0, 0),
    "a long packet": HEAD.pack(1, MAX_PACKET + 1, 0),
    "no frame, of some bytes": HEAD.pack(0, 1, 1),
    "a long string": table(1, MAX_STRING + 1),
    "more than the limit": table(1, *[MAX_STRING] * 2),
    "read less than before": report(5) + HEAD.pack(1, 1, 4),
    "says nothing": report(5) + report(5),
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("cut", [3, 4096])
def test_what_contradicts_itself(what: str, cut: int) -> None:
    """It is found as soon as the number is there, before anything is kept for it."""
    assembly = Assembly(LIMIT)
    with pytest.raises(BrokenStream):
        fed(assembly, BROKEN[what], cut)


@pytest.mark.parametrize(
    "frames", [[b""] * (MAX_FRAMES + 1), [bytes(MAX_PACKET + 1)], [b"", bytes(MAX_STRING + 1)]]
)
def test_what_nobody_would_take_is_not_sent(frames: list[bytes]) -> None:
    """The sender of a message that breaks a limit hears of it, and its stream goes on."""
    with pytest.raises(ValueError, match="at most"):
        encode(frames)
