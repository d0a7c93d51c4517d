"""Times: durations of an IPC or a slice, in 16 bits, and the clock that measures them.

*Period* (bit 15 clear): m in bits 9..0, e in bits 14..10; m * 2**e microseconds from the beginning of the wait.
The raw value 0 is *Never*, so a period of no length needs another code: *ZeroTime* is m 0, e 1.

*Point* (bit 15 set): m in bits 9..0, c in bit 10, e in bits 14..11. It names a moment of the system clock by its
low bits. Cut time into blocks of 2**(e+10) microseconds: c is the parity of the block the point lies in and m
its place there in steps of 2**e. Two neighbouring blocks differ in parity, so a reader that knows the time
knows the block: the present one if its parity is c, otherwise the next. A point is never set further ahead than
1023 steps; one that seems to be further away has passed. The decoding is mung's, as
L4Ka::Pistachio has none.

Clock values and lengths are plain ints, in microseconds.
"""

from typing import Self

from libexo.l4.format.words import WORD_MASK, within, word

__all__ = [
    "ClockAddUsec",
    "ClockSubUsec",
    "IsClockEarlier",
    "IsClockEqual",
    "IsClockLater",
    "IsClockNotEqual",
    "Never",
    "Time",
    "TimePeriod",
    "TimePoint",
    "Timeouts",
    "ZeroTime",
]

_M_BITS = 10
_M_MAX = (1 << _M_BITS) - 1
_POINT = 1 << 15
_PERIOD_E_MAX = 31
_POINT_E_AT = 11
_POINT_E_MAX = 15
_TIME_BITS = 16
_TIME_MASK = (1 << _TIME_BITS) - 1


class Time(int):
    """A time: a word of 16 bits."""

    __slots__ = ()

    def __new__(cls, raw: int) -> Self:
        """Take *raw*. Raises ValueError when it has more than 16 bits."""
        return super().__new__(cls, within(raw, 0, _TIME_MASK, "time"))

    @property
    def is_point(self) -> bool:
        """Whether it is a moment, not a length."""
        return bool(self & _POINT)

    @property
    def m(self) -> int:
        """The mantissa."""
        return self & _M_MAX

    @property
    def e(self) -> int:
        """The exponent: 0..31 of a period, 0..15 of a point."""
        return self >> _POINT_E_AT & _POINT_E_MAX if self.is_point else self >> _M_BITS

    @property
    def c(self) -> int:
        """The parity of a point's block: 0 or 1."""
        return self >> _M_BITS & 1

    @property
    def period(self) -> int | None:
        """The length of a period in microseconds; None is Never. Raises ValueError for a point."""
        if self.is_point:
            raise ValueError(f"{self!r} is a point in time and has no length")
        return None if self == Never else self.m << self.e

    def __repr__(self) -> str:
        """Show its meaning."""
        if self.is_point:
            return f"<Time point m={self.m} c={self.c} e={self.e}>"
        return "<Time never>" if self == Never else f"<Time {self.period} us>"


Never = Time(0)
ZeroTime = Time(0x0400)


def TimePeriod(microseconds: int) -> Time:
    """Return the longest period not above *microseconds*: the ten highest bits are kept.

    The trap of X.2: TimePeriod(0) *is* Never; a time-out of no length is ZeroTime. Lengths from 2**41 us
    (25 days) on are Never, too. Raises ValueError for a negative length.
    """
    length = word(microseconds, "period")
    exponent = max(length.bit_length() - _M_BITS, 0)
    return Time(exponent << _M_BITS | length >> exponent) if exponent <= _PERIOD_E_MAX else Never


def TimePoint(at: int, now: int) -> Time:
    """Return the time that, until it passes, means the moment *at* of the clock, which reads *now*.

    It is as exact as a point can be: the smallest e that reaches; *at* is rounded down to 2**e microseconds. A
    moment that has come is ZeroTime. Raises ValueError for one out of reach: about 33.5 seconds ahead.
    """
    at, now = word(at, "clock"), word(now, "clock")
    if at <= now:
        return ZeroTime
    for e in range(_POINT_E_MAX + 1):
        if (at >> e << e) - now <= _M_MAX << e:
            return Time(_POINT | e << _POINT_E_AT | at >> e & (_M_MAX << 1 | 1))
    raise ValueError(f"a point {at - now} us ahead: a time point reaches {_M_MAX << _POINT_E_MAX} us at most")


def expires(time: int, now: int) -> int | None:
    """Return when *time* is over on the clock, which reads *now*: never before *now*; None: never.

    A period begins now. A point that has passed is over now.
    """
    time = Time(time)
    if time.is_point:
        return _moment(time, now)
    length = time.period
    return None if length is None else now + length


def _moment(point: Time, now: int) -> int:
    block_bits = point.e + _M_BITS
    block = now >> block_bits
    if block & 1 != point.c:
        block += 1
    at = (block << block_bits) + (point.m << point.e)
    return at if now < at <= now + (_M_MAX << point.e) else now


def Timeouts(SndTimeout: int, RcvTimeout: int) -> int:
    """Return the word of both time-outs of an IPC: send in bits 31..16, receive in bits 15..0."""
    return int(Time(SndTimeout)) << _TIME_BITS | Time(RcvTimeout)


def split_timeouts(timeouts: int) -> tuple[Time, Time]:
    """Return the time-outs of send and receive in a word; its bits 63..32 mean nothing."""
    timeouts = word(timeouts, "time-outs")
    return Time(timeouts >> _TIME_BITS & _TIME_MASK), Time(timeouts & _TIME_MASK)


def ClockAddUsec(c: int, r: int) -> int:
    """Return the clock value *r* microseconds after *c*; it wraps at 64 bits."""
    return c + r & WORD_MASK


def ClockSubUsec(c: int, r: int) -> int:
    """Return the clock value *r* microseconds before *c*; it wraps at 64 bits."""
    return c - r & WORD_MASK


def IsClockEarlier(left: int, right: int) -> bool:
    """Say whether *left* is before *right*."""
    return left < right


def IsClockLater(left: int, right: int) -> bool:
    """Say whether *left* is after *right*."""
    return left > right


def IsClockEqual(left: int, right: int) -> bool:
    """Say whether both are the same moment."""
    return left == right


def IsClockNotEqual(left: int, right: int) -> bool:
    """Say whether they are different moments."""
    return left != right
