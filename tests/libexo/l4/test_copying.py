"""Strings of messages: gathered and scattered, cut where they do not fit, bounded in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.abi.limits import MAX_STRING
from kernel.abi.messages import IpcCode, Phase
from libexo import l4
from libexo.l4.engine.copying import Limit, gather, scatter
from libexo.l4.errors import Overflow, XferTimeout
from libexo.l4.space.space import AddressSpace
from tests.libexo.l4.spaces import BASE, PAGE, Side, sides

MS = 1000
sizes = st.lists(st.integers(1, 12), min_size=1, max_size=6)
HERE, THERE = IpcCode.XFER_TIMEOUT_HERE, IpcCode.XFER_TIMEOUT_THERE


def at(space: AddressSpace, *parts: bytes | bytearray) -> l4.StringItem:
    """A compound string of *parts*, each a substring in a descriptor of its own."""
    first, *others = [l4.StringItem(len(part), space.buffer(part)) for part in parts]
    for other in others:
        first = l4.AddSubstringTo(first, other)
    return first


class Pager:
    """Handles faults: each takes *cost* microseconds of its clock, and maps the page."""

    def __init__(self, side: Side, cost: int = 0) -> None:
        self.side = side
        self.cost = cost
        self.now = 1_000_000
        self.deadlines: list[int | None] = []

    def fault(self, address: int, access: int, deadline: int | None) -> None:
        self.deadlines.append(deadline)
        self.now += self.cost
        self.side.carve(address // PAGE * PAGE)

    def limit(self, sender: int = l4.Never, receiver: int = l4.Never) -> Limit:
        return Limit(self.fault, lambda: self.now, sender, receiver)


def test_a_simple_string() -> None:
    """A string is the bytes at its address, extents and all."""
    with sides(1) as (a,):
        a.carve(BASE)
        a.carve(BASE + PAGE)
        a.space.store(BASE + PAGE - 2, b"four")

        assert gather(a.space, [l4.StringItem(4, BASE + PAGE - 2)]) == [b"four"]
        assert gather(a.space, [l4.StringItem(0, 0)]) == [b""]


def test_substrings_and_compounds_are_one_string() -> None:
    """Substrings share a length, compounds need not: to the receiver they are one string, in order."""
    with sides(1) as (a,):
        one, two, three = (a.space.buffer(text) for text in (b"ab--", b"cd--", b"efg"))
        item = l4.AddSubstringAddressTo(l4.StringItem(2, one), two)
        item = l4.AddSubstringTo(item, l4.StringItem(3, three))

        assert gather(a.space, [item, l4.StringItem(1, two)]) == [b"abcdefg", b"c"]


def test_gathered_in_one_shape_and_scattered_in_another() -> None:
    """However both sides cut a string up, what fits arrives, in order; what does not is named by the offset."""
    with sides(1) as (a,):

        @given(st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=6), sizes)
        def any_shapes(parts: list[bytes], received: list[int]) -> None:
            rooms = [bytearray(size) for size in received]
            (string,) = gather(a.space, [at(a.space, *parts)])
            room = sum(received)
            if len(string) > room:
                with pytest.raises(Overflow) as cut:
                    scatter(a.space, [string], [at(a.space, *rooms)])
                assert cut.value.offset == room
            else:
                assert scatter(a.space, [string], [at(a.space, *rooms)]) == len(string)

            assert string == b"".join(parts)
            assert b"".join(rooms) == string[:room].ljust(room, b"\0")

        any_shapes()


def test_the_nth_string_into_the_nth_buffer() -> None:
    """Buffers may be longer than their strings: what is behind stays as it was."""
    with sides(1) as (a,):
        one, two, unused = bytearray(b"......"), bytearray(b"..."), bytearray(b"...")
        copied = scatter(a.space, [b"abc", b"de"], [at(a.space, b) for b in (one, two, unused)])

        assert (copied, bytes(one + two + unused)) == (5, b"abc...de....")


@pytest.mark.parametrize("rooms", [[4, 2], [4]])
def test_a_buffer_that_is_short_or_missing(rooms: list[int]) -> None:
    """The message is cut (error 4 on both sides); the offset counts the bytes of all strings together."""
    with sides(1) as (a,):
        buffers = [bytearray(room) for room in rooms]
        with pytest.raises(Overflow) as cut:
            scatter(a.space, [b"abcd", b"efgh"], [at(a.space, buffer) for buffer in buffers])
        offset = sum(rooms)

        assert b"".join(buffers) == b"abcdefgh"[:offset]
        assert cut.value.offset == offset
        assert cut.value.word(Phase.SEND) == offset << 4 | IpcCode.OVERFLOW << 1
        assert cut.value.word(Phase.RECEIVE) == offset << 4 | IpcCode.OVERFLOW << 1 | 1


def test_no_buffers_at_all() -> None:
    """An acceptor without strings takes none: cut, with nothing copied; no strings need no buffers."""
    with sides(1) as (a,):
        with pytest.raises(Overflow) as cut:
            scatter(a.space, [b""], [])

        assert (cut.value.offset, scatter(a.space, [], [])) == (0, 0)


def test_a_string_longer_than_can_be_sent() -> None:
    """A string may be as long as a message can carry; a longer one is cut before it, untouched."""
    with sides(1) as (a,):
        half = a.space.buffer(bytes(MAX_STRING // 2))
        whole = l4.AddSubstringAddressTo(l4.StringItem(MAX_STRING // 2, half), half)
        longer = l4.AddSubstringTo(whole, l4.StringItem(1, half))
        with pytest.raises(Overflow, match="at most") as cut:
            gather(a.space, [l4.StringItem(3, half), longer])

        assert (len(gather(a.space, [whole])[0]), cut.value.offset) == (MAX_STRING, 3)


def test_memory_that_cannot_be_had() -> None:
    """Where no fault can help (a forgotten buffer, a read-only one) the message is cut, at what was copied."""
    with sides(1) as (a,):
        text = b"constant"
        fixed = a.space.buffer(text)
        with pytest.raises(Overflow, match="no buffer") as sent:
            gather(a.space, [l4.StringItem(3, fixed), l4.StringItem(9, fixed)])
        with pytest.raises(Overflow, match="read-only") as received:
            scatter(a.space, [b"ab", b"cd"], [at(a.space, bytearray(2)), l4.StringItem(8, fixed)])

        assert (sent.value.offset, received.value.offset) == (3 + 8, 2)


def test_faults_during_a_copy() -> None:
    """Without time-outs every fault is handled, for ever if need be; the copy goes on behind it."""
    with sides(1) as (a,):
        pager = Pager(a, cost=10_000_000)
        limit = pager.limit()
        copied = scatter(a.space, [b"x" * 2 * PAGE], [l4.StringItem(3 * PAGE, BASE)], limit)
        (string,) = gather(a.space, [l4.StringItem(3 * PAGE, BASE)], limit)

        assert (copied, string) == (2 * PAGE, b"x" * 2 * PAGE + bytes(PAGE))
        assert pager.deadlines == [None] * 3


@pytest.mark.parametrize(
    ("sender", "receiver", "expired"),
    [
        (3 * MS, None, Phase.SEND),
        (None, 3 * MS, Phase.RECEIVE),
        (3 * MS, 9 * MS, Phase.SEND),
        (9 * MS, 3 * MS, Phase.RECEIVE),
        (3 * MS, 3 * MS, Phase.SEND),
    ],
)
def test_whose_time_is_up(sender: int | None, receiver: int | None, expired: Phase) -> None:
    """The earlier time-out counts, of equal ones the sender's: its side gets error 5, the other error 6."""
    with sides(1) as (a,):
        times = [l4.Never if us is None else l4.TimePeriod(us) for us in (sender, receiver)]
        pager = Pager(a, cost=2 * MS)
        with pytest.raises(XferTimeout) as cut:
            gather(a.space, [l4.StringItem(8 * PAGE, BASE)], pager.limit(*times))

        assert cut.value.code(expired) is HERE
        assert cut.value.code(Phase(1 - expired)) is THERE
        assert cut.value.offset == PAGE
        assert pager.deadlines == [1_000_000 + 3 * MS] * 2


@pytest.mark.parametrize(("sender", "receiver"), [(l4.ZeroTime, l4.Never), (l4.Never, l4.ZeroTime)])
def test_no_time_at_all(sender: int, receiver: int) -> None:
    """A time-out of zero allows no fault: none is handled, and it counts against the sender."""
    with sides(1) as (a,):
        a.carve(BASE)
        pager = Pager(a)
        limit = pager.limit(sender, receiver)
        present = gather(a.space, [l4.StringItem(PAGE, BASE)], limit)
        with pytest.raises(XferTimeout) as cut:
            gather(a.space, [l4.StringItem(5, BASE), l4.StringItem(PAGE + 1, BASE)], limit)

        assert (len(present), pager.deadlines) == (1, [])
        assert (cut.value.code(Phase.SEND), cut.value.offset) == (HERE, 5 + PAGE)


def test_the_clock_starts_at_the_first_fault() -> None:
    """Time before the first fault does not count; from there on all strings of the message share it."""
    with sides(1) as (a,):
        pager = Pager(a, cost=MS)
        limit = pager.limit(l4.TimePeriod(4 * MS))
        pager.now += 60_000_000
        gather(a.space, [l4.StringItem(PAGE, BASE)], limit)
        with pytest.raises(XferTimeout) as cut:
            gather(a.space, [l4.StringItem(8 * PAGE, BASE)], limit)

        assert cut.value.offset == 3 * PAGE


def test_a_point_in_time() -> None:
    """A transfer time-out may be a point of the system clock."""
    with sides(1) as (a,):
        pager = Pager(a, cost=MS)
        point = l4.TimePoint(pager.now + 900, pager.now)
        with pytest.raises(XferTimeout):
            scatter(a.space, [bytes(PAGE)], [l4.StringItem(PAGE, BASE)], pager.limit(l4.Never, point))

        assert pager.deadlines == [1_000_900]
