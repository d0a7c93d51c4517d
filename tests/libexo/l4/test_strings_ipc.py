"""String items through the system call Ipc: scattered, gathered, and cut."""

from collections.abc import Sequence
from typing import Any

import pytest

from kernel.abi.limits import MAX_STRING
from kernel.abi.messages import IpcCode, Phase
from libexo import l4
from tests.libexo.l4.meetings import (
    ALL,
    BASE,
    PAGE,
    SENT,
    THERE,
    accept,
    at,
    carve,
    fpage,
    load_message,
    meet,
    own,
    pieces,
    reads,
    receive,
    received_items,
    send,
    text,
)
from tests.libexo.l4.stage import SEEDS, Cast, Failed, Said, said

conforms = pytest.mark.conforms
OVERFLOW, HERE, BEYOND = IpcCode.OVERFLOW, IpcCode.XFER_TIMEOUT_HERE, IpcCode.XFER_TIMEOUT_THERE
Room = int | tuple[int, ...]


def room(sizes: Room) -> tuple[l4.StringItem, list[bytearray]]:
    """A buffer of that size, or of pieces of these sizes, and the bytes it is."""
    held = [bytearray(size) for size in ((sizes,) if isinstance(sizes, int) else sizes)]
    return pieces(*held), held


def carried(texts: Sequence[bytes | tuple[bytes, ...]], rooms: Sequence[Room]) -> tuple[Any, ...]:
    """Send *texts*, each a string or its pieces, into *rooms*; return what each side saw of it.

    The receiver's is the outcome, and what is in each piece of each room.
    """

    def a(cast: Cast) -> object:
        return send(cast.b, *(pieces(*((t,) if isinstance(t, bytes) else t)) for t in texts))

    def b(cast: Cast) -> object:
        buffers = [room(sizes) for sizes in rooms]
        accept(l4.Nilpage, *(item for item, _ in buffers), s=True)
        outcome = receive()
        return outcome, [[bytes(piece) for piece in held] for _, held in buffers]

    return meet(a, b)


def cut(offset: int) -> tuple[Failed, Failed]:
    """Sender's and receiver's view of a message that overflowed after *offset* bytes of strings."""
    return Failed(OVERFLOW, Phase.SEND, offset), Failed(OVERFLOW, Phase.RECEIVE, offset)


# ------------------------------------------------------------------------------------------ strings and buffers


@conforms("Strings: simple")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_string(seed: int) -> None:
    """The bytes of a string are copied into the receive buffer; the item's words come as they were sent."""
    data = b"a string " * 100
    items: list[l4.StringItem] = []

    def a(cast: Cast) -> object:
        items.append(text(data))
        return send(cast.b, items[0], words=(1, 2), label=3)

    def b(cast: Cast) -> object:
        buffer = bytearray(len(data))
        accept(l4.Nilpage, text(buffer))
        return receive(), bytes(buffer) == data, received_items() == tuple(items)

    assert meet(a, b, seed=seed) == (SENT, (Said((1, 2), 3), True, True))


@conforms("Strings: simple")
@pytest.mark.parametrize("size", [1, 511, 512, 513, PAGE + 1, MAX_STRING - 1])
def test_strings_of_every_size(size: int) -> None:
    """Strings of one byte up to 4 MiB - 1 come through, whether they travel in the packet or beside it."""
    data = bytes(range(256)) * (size // 256 + 1)
    sent, (received, [[found]]) = carried([data[:size]], [size])

    assert (sent, received) == (SENT, SENT)
    assert found == data[:size]


@conforms("Strings: simple")
def test_a_string_that_is_too_long() -> None:
    """One byte more than a string may have cuts the message at the sender, before anything is copied."""

    def a(cast: Cast) -> object:
        return send(cast.b, l4.StringItem(MAX_STRING + 1, at(bytearray(PAGE)))), send(cast.b)

    assert meet(a, lambda cast: receive()) == ((Failed(OVERFLOW, Phase.SEND), SENT), SENT)


@conforms("Strings: simple")
def test_an_empty_string() -> None:
    """A string of no bytes is a string: it uses up a buffer, which stays as it is; its address is not looked at."""

    def a(cast: Cast) -> object:
        return send(cast.b, l4.StringItem(0, 1), text(b"second"))

    def b(cast: Cast) -> object:
        first, second = bytearray(b"as is"), bytearray(6)
        accept(l4.Nilpage, text(first), text(second))
        return receive(), bytes(first), bytes(second)

    assert meet(a, b) == (SENT, (SENT, b"as is", b"second"))


@conforms("Strings: scatter and gather")
@pytest.mark.parametrize(
    ("sent", "rooms", "found"),
    [
        pytest.param((b"ab", b"cd", b"e"), 5, [b"abcde"], id="gathered"),
        pytest.param(b"abcde", (2, 1, 2), [b"ab", b"c", b"de"], id="scattered"),
        pytest.param((b"a", b"bcd", b"e"), (3, 2), [b"abc", b"de"], id="both"),
        pytest.param((b"abc", b"de"), (1, 1, 4), [b"a", b"b", b"cde\0"], id="and longer"),
        pytest.param(b"ab", (3, 4), [b"ab\0", bytes(4)], id="not all pieces used"),
    ],
)
def test_scatter_and_gather(sent: bytes | tuple[bytes, ...], rooms: Room, found: list[bytes]) -> None:
    """A compound string is one string to the other side, however either is cut into pieces."""
    assert carried([sent], [rooms]) == (SENT, (SENT, [found]))


@conforms("Strings: scatter and gather")
def test_substrings_of_one_descriptor() -> None:
    """Substrings of one descriptor are equally long, anywhere in memory; both sides may use them."""

    def a(cast: Cast) -> object:
        item = l4.AddSubstringAddressTo(l4.StringItem(3, at(b"abc")), at(b"defgh"))
        return send(cast.b, l4.AddSubstringAddressTo(item, at(b"ijk")))

    def b(cast: Cast) -> object:
        held = [bytearray(5) for _ in range(2)]
        accept(l4.Nilpage, l4.AddSubstringAddressTo(l4.StringItem(5, at(held[0])), at(held[1])))
        return receive(), [bytes(each) for each in held]

    assert meet(a, b) == (SENT, (SENT, [b"abcde", b"fijk\0"]))


@conforms("Strings: scatter and gather")
def test_pieces_of_mapped_memory_and_of_buffers() -> None:
    """Pieces may lie in extents, across two of them, and in Python's own memory, at either side."""

    def a(cast: Cast) -> object:
        carve(BASE)
        carve(BASE + PAGE)
        own().store(BASE + PAGE - 3, b"abcdef")
        return send(cast.b, l4.AddSubstringTo(l4.StringItem(6, BASE + PAGE - 3), text(b"ghi")))

    def b(cast: Cast) -> object:
        carve(THERE)
        carve(THERE + PAGE)
        first = bytearray(2)
        accept(ALL, l4.AddSubstringTo(text(first), l4.StringItem(PAGE, THERE + PAGE - 2)))
        return receive(), bytes(first), own().load(THERE + PAGE - 2, 7)

    assert meet(a, b) == (SENT, (SENT, b"ab", b"cdefghi"))


@conforms("Strings: buffers")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_nth_string_goes_to_the_nth_buffer(seed: int) -> None:
    """Strings and buffers are matched by their order; map items in between change nothing about that."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"page")
        return send(cast.b, text(b"one"), l4.MapItem(fpage(BASE), BASE), text(b"two"), text(b"three"))

    def b(cast: Cast) -> object:
        held = [bytearray(5) for _ in range(4)]
        accept(ALL, *map(text, held))
        return receive(), [bytes(each) for each in held], reads(BASE, 4)

    found = [b"one\0\0", b"two\0\0", b"three", bytes(5)]
    assert meet(a, b, seed=seed) == (SENT, (SENT, found, b"page"))


@conforms("Strings: buffers")
@pytest.mark.parametrize(
    ("texts", "rooms", "found", "offset"),
    [
        pytest.param([b"abcdef"], [4], [[b"abcd"]], 4, id="buffer too short"),
        pytest.param([b"abcdef"], [(2, 3)], [[b"ab", b"cde"]], 5, id="pieces too short"),
        pytest.param([b"ab", b"cdef"], [2, 3], [[b"ab"], [b"cde"]], 5, id="second too short"),
        pytest.param([b"ab", b"cdef"], [8], [[b"ab" + bytes(6)]], 2, id="second missing"),
        pytest.param(
            [b"ab", b"cd", b"ef"], [2, 1, 2], [[b"ab"], [b"c"], [b"\0\0"]], 3, id="third not reached"
        ),
        pytest.param([b"ab"], [], [], 0, id="no buffer"),
        pytest.param([b"x" * 9000], [PAGE], [[b"x" * PAGE]], PAGE, id="long"),
    ],
)
def test_a_string_that_does_not_fit(
    texts: list[bytes], rooms: list[Room], found: list[list[bytes]], offset: int
) -> None:
    """A buffer that is short or missing cuts the message; both sides see how many bytes were copied, in all."""
    at_sender, at_receiver = cut(offset)

    assert carried(texts, rooms) == (at_sender, (at_receiver, found))


@conforms("Strings: buffers")
@pytest.mark.parametrize("window", [l4.Nilpage, ALL], ids=["nothing", "mappings only"])
def test_no_strings_accepted(window: l4.Fpage) -> None:
    """An acceptor without s cuts a message with a string, whatever is in the buffer registers."""

    def a(cast: Cast) -> object:
        return send(cast.b, text(b"abc"), words=(5,))

    def b(cast: Cast) -> object:
        buffer = bytearray(3)
        accept(ALL, text(buffer))
        l4.Accept(l4.MapGrantItems(window))
        return receive(), l4.StoreMR(1), bytes(buffer)

    at_sender, at_receiver = cut(0)
    assert meet(a, b) == (at_sender, (at_receiver, 5, bytes(3)))


@conforms("Strings: buffers")
def test_what_comes_behind_a_cut_string() -> None:
    """Items behind a string that was cut are not transferred."""

    def a(cast: Cast) -> object:
        carve(BASE)
        return send(cast.b, text(b"abc"), l4.MapItem(fpage(BASE), BASE), text(b"d"))

    def b(cast: Cast) -> object:
        held = [bytearray(2), bytearray(1)]
        accept(ALL, *map(text, held))
        return receive(), [bytes(each) for each in held], reads(BASE)

    at_sender, at_receiver = cut(2)
    assert meet(a, b) == (at_sender, (at_receiver, [b"ab", b"\0"], None))


@conforms("Strings: buffers")
@pytest.mark.parametrize(
    "chain",
    [
        pytest.param((0b1000,), id="a map item"),
        pytest.param((31 << 4,) * 32, id="past the last register"),
    ],
)
def test_malformed_buffer_registers(chain: tuple[int, ...]) -> None:
    """Buffer registers that describe no buffers cut a message with strings; without, nobody looks at them."""

    def a(cast: Cast) -> object:
        carve(BASE)
        return send(cast.b, l4.MapItem(fpage(BASE), BASE)), send(cast.b, text(b"abc"))

    def b(cast: Cast) -> object:
        l4.LoadBRs(1, chain)
        l4.Accept(l4.MapGrantItems(ALL) + l4.StringItemsAcceptor)
        return receive(), receive()

    at_sender, at_receiver = cut(0)
    assert meet(a, b) == ((SENT, at_sender), (SENT, at_receiver))


@conforms("Strings: buffers")
def test_one_buffer_for_two_strings() -> None:
    """Buffers that are the same memory are written one after another: the last string stays."""

    def a(cast: Cast) -> object:
        return send(cast.b, text(b"first"), text(b"last"))

    def b(cast: Cast) -> object:
        buffer = bytearray(5)
        accept(ALL, text(buffer), text(buffer))
        return receive(), bytes(buffer)

    assert meet(a, b) == (SENT, (SENT, b"lastt"))


@conforms("Strings: buffers")
def test_memory_no_fault_can_bring() -> None:
    """A string, or a buffer, where Python's memory ends or is read-only, cuts the message: no pager has that."""

    def a(cast: Cast) -> object:
        beyond = l4.StringItem(9, at(b"12345678"))
        return send(cast.b, beyond), send(cast.b, text(b"abc"))

    def b(cast: Cast) -> object:
        accept(ALL, text(b"read-only"))
        return receive()

    at_sender, at_receiver = cut(0)
    assert meet(a, b) == ((Failed(OVERFLOW, Phase.SEND, 8), at_sender), at_receiver)


@conforms("Strings: cache hints")
@pytest.mark.parametrize(
    "hint",
    [l4.AllocateNewCacheLines, l4.DoNotAllocateNewCacheLines, l4.AllocateOnlyNewL1CacheLines],
)
def test_cache_hints_are_accepted(hint: l4.CacheAllocationHint) -> None:
    """A hint about caches is no other item, at either side; it comes with the item's words."""

    def a(cast: Cast) -> object:
        return send(cast.b, l4.AddCacheAllocationHint(text(b"abc"), hint))

    def b(cast: Cast) -> object:
        buffer = bytearray(3)
        accept(ALL, l4.AddCacheAllocationHint(text(buffer), hint))
        outcome, (item,) = receive(), received_items()
        assert isinstance(item, l4.StringItem)
        return outcome, bytes(buffer), l4.CacheAlloctionHint(item)

    assert meet(a, b) == (SENT, (SENT, b"abc", hint))


@conforms("Strings: in an answer")
@pytest.mark.parametrize(("size", "offset"), [(6, 6), (4, 4)])
def test_strings_in_an_answer(size: int, offset: int) -> None:
    """An answer's strings are copied into the caller's buffers; a short one cuts it, at the replier as well."""

    def a(cast: Cast) -> object:
        sender, _ = l4.Wait()
        load_message(text(b"abcdef"))
        return said(l4.Reply(sender))

    def b(cast: Cast) -> object:
        buffer = bytearray(size)
        accept(l4.Nilpage, text(buffer))
        load_message()
        return said(l4.Call(cast.a)), bytes(buffer)

    outcomes = (SENT, SENT) if size == offset == 6 else cut(offset)
    assert meet(a, b) == (outcomes[0], (outcomes[1], b"abcdef"[:size]))


@conforms("Strings: in an answer")
def test_a_string_both_ways() -> None:
    """A server that answers in the buffer it received in, as servers do, and goes on to the next caller."""

    def a(cast: Cast) -> object:
        buffer = bytearray(8)
        accept(l4.Nilpage, text(buffer))
        sender, _ = l4.Wait()
        for _ in range(3):
            buffer[:] = buffer.upper()
            load_message(text(buffer))
            sender, _ = l4.ReplyWait(sender)
        return None

    def b(cast: Cast) -> object:
        buffer = bytearray(8)
        accept(l4.Nilpage, text(buffer))
        answers = []
        for word in (b"one", b"two", b"three"):
            load_message(text(word))
            l4.Call(cast.a)
            answers.append(bytes(buffer).rstrip(b"\0"))
        return answers

    assert meet(a, b)[1] == [b"ONE", b"TWO", b"THREE"]
