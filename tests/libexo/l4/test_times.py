"""Times in 16 bits: never, zero, periods, points; and the clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libexo import l4
from libexo.l4.format.times import expires, split_timeouts

REACH = 1023 << 15
"""Microseconds that a point reaches."""

clocks = st.integers(0, 1 << 50)
raws = st.integers(0, 0xFFFF)


def next_moment(point: l4.Time, now: int) -> int | None:
    """The next moment after *now* with the low bits of *point*; None when it is further than a point reaches."""
    modulus = 1 << point.e + 11
    low = point.c << point.e + 10 | point.m << point.e
    moment = now + 1 + (low - (now + 1)) % modulus
    return moment if moment - now <= 1023 << point.e else None


def test_never_and_zero() -> None:
    """Never is raw 0 and never over; ZeroTime is raw 0x0400, the period m 0, e 1, and over at once."""
    assert l4.Never == 0
    assert l4.ZeroTime == 0x0400
    assert expires(l4.Never, 5) is None
    assert expires(l4.ZeroTime, 5) == 5


def test_a_period_of_zero_is_never() -> None:
    """The trap of X.2: TimePeriod(0) encodes as raw 0, which is Never."""
    assert l4.TimePeriod(0) == l4.Never


@pytest.mark.parametrize(
    ("microseconds", "raw"),
    [
        (1, 0x0001),
        (1023, 0x03FF),
        (1024, 0x0600),  # m 512, e 1
        (1025, 0x0600),
        (1_000_000, 10 << 10 | 976),  # a second is 976 * 1024 us
        (1023 << 31, 0x7FFF),
        ((1 << 41) - 1, 0x7FFF),
        (1 << 41, 0x0000),
    ],
)
def test_periods_bit_for_bit(microseconds: int, raw: int) -> None:
    """Row "period": m in bits 9..0, e in bits 14..10, the smallest e; what is out of reach is Never."""
    assert l4.TimePeriod(microseconds) == raw


@given(st.integers(1, (1 << 41) - 1), clocks)
def test_a_period_keeps_ten_bits(microseconds: int, now: int) -> None:
    """Row "period": the encoding truncates to 10 significant bits and never rounds up."""
    dropped = max(microseconds.bit_length() - 10, 0)

    assert expires(l4.TimePeriod(microseconds), now) == now + (microseconds >> dropped << dropped)


def test_a_negative_period_is_refused() -> None:
    """A length of time is not negative."""
    with pytest.raises(ValueError, match="period"):
        l4.TimePeriod(-1)


@pytest.mark.parametrize(
    ("at", "now", "raw"),
    [
        (1500, 1000, 0x8000 | 1 << 10 | 476),  # block 1: c is 1
        (2500, 2000, 0x8000 | 0 << 10 | 452),  # block 2: c is 0
        (1023, 0, 0x83FF),
        (2046, 0, 0x8800 | 1023),  # e is 1
        (1000 + REACH, 1000, 0x8000 | 15 << 11 | (1000 + REACH) >> 15),
    ],
)
def test_points_bit_for_bit(at: int, now: int, raw: int) -> None:
    """Row "point": bit 15, e in bits 14..11, c in bit 10, m in bits 9..0."""
    assert l4.TimePoint(at, now) == raw


@given(clocks, st.integers(1, REACH), st.data())
def test_a_point_means_one_moment_until_it_passes(now: int, ahead: int, data: st.DataObject) -> None:
    """Row "point", decode: read at any time before it passes it gives one moment, *at* cut to 2**e microseconds."""
    at = now + ahead
    point = l4.TimePoint(at, now)
    moment = at >> point.e << point.e
    meanwhile = data.draw(st.integers(now, moment - 1))

    assert now < moment
    assert expires(point, now) == moment
    assert expires(point, meanwhile) == moment


@given(clocks, st.integers(1, REACH))
def test_a_point_is_as_exact_as_can_be(now: int, ahead: int) -> None:
    """Row "point", encode: with an e smaller by one the moment would be further than 1023 steps away."""
    at = now + ahead
    e = l4.TimePoint(at, now).e

    assert e == 0 or (at >> (e - 1) << (e - 1)) - now > 1023 << (e - 1)


@given(clocks, st.integers(1, REACH), st.data())
def test_a_point_that_passed_is_over(now: int, ahead: int, data: st.DataObject) -> None:
    """Row "point": for 1024 steps after its moment, a point is over at once."""
    point = l4.TimePoint(now + ahead, now)
    moment = expires(point, now)
    assert moment is not None
    later = data.draw(st.integers(moment, moment + (1024 << point.e)))

    assert expires(point, later) == later


@given(raws.map(lambda raw: l4.Time(raw | 0x8000)), clocks)
def test_any_point_decodes_as_the_next_moment_with_its_bits(point: l4.Time, now: int) -> None:
    """Row "point", decode: the blocks and their parity come to this, or the point has passed."""
    assert expires(point, now) == (next_moment(point, now) or now)


@given(raws, clocks)
def test_no_time_ends_before_it_begins(raw: int, now: int) -> None:
    """Any 16 bits are a time: never, or over at a moment that is not before now."""
    end = expires(raw, now)

    assert end is None or end >= now
    assert (end is None) == (raw == 0)


def test_a_moment_that_has_come_is_zero_time() -> None:
    """A point at or before now is encoded as ZeroTime, which never comes to mean the future again."""
    assert l4.TimePoint(7, 7) == l4.ZeroTime
    assert l4.TimePoint(3, 7) == l4.ZeroTime


def test_a_moment_out_of_reach_is_refused() -> None:
    """Beyond 1023 steps of 2**15 microseconds there is no point; it does not become Never silently."""
    assert l4.TimePoint(REACH, 0).e == 15
    with pytest.raises(ValueError, match="reaches 33521664 us"):
        l4.TimePoint(REACH + (1 << 15), 0)


def test_a_point_has_no_length() -> None:
    """Asked for a period, as Schedule does, a point is an error and not some number."""
    assert l4.TimePeriod(1024).period == 1024
    with pytest.raises(ValueError, match="has no length"):
        _ = l4.TimePoint(1, 0).period


def test_the_word_of_both_timeouts() -> None:
    """Row "timeouts": send in bits 31..16, receive in bits 15..0."""
    assert l4.Timeouts(l4.ZeroTime, l4.Never) == 0x0400_0000
    assert l4.Timeouts(l4.Never, l4.ZeroTime) == 0x0000_0400


@given(raws, raws, st.integers(0, (1 << 32) - 1))
def test_timeouts_come_apart_again(send: int, receive: int, above: int) -> None:
    """Row "timeouts": both are read back, whatever is in bits 63..32."""
    assert split_timeouts(above << 32 | l4.Timeouts(send, receive)) == (send, receive)


def test_a_time_has_16_bits() -> None:
    """More than 16 bits are no time."""
    with pytest.raises(ValueError, match="time 65536 is not in"):
        l4.Timeouts(0x10000, 0)


def test_the_clock() -> None:
    """Clock values are added to, subtracted from and compared; they wrap at 64 bits."""
    assert l4.ClockAddUsec(5, 7) == 12
    assert l4.ClockSubUsec(5, 7) == (1 << 64) - 2
    assert l4.IsClockEarlier(1, 2)
    assert l4.IsClockLater(2, 1)
    assert l4.IsClockEqual(2, 2)
    assert l4.IsClockNotEqual(1, 2)
