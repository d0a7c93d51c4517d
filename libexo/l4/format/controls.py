"""The control words of Schedule, and the message that carries them to the scheduler. Words in, words out.

A control word of all ones leaves its settings unchanged. Layouts are those of the L4 X.2 reference manual,
rev. 7. The message is the older protocol of the Pistachio fork that was to become an exokernel: label 0x1234 and
Schedule's five arguments in their order. Its server answered nobody; here the answer is three words.
"""

from typing import NamedTuple

from libexo.l4.format.times import Never, Time, TimePeriod, ZeroTime
from libexo.l4.format.words import WORD_MASK, word

__all__ = [
    "SCHEDRESULT_DEAD",
    "SCHEDRESULT_ERROR",
    "SCHEDRESULT_INACTIVE",
    "SCHEDRESULT_PENDING_SEND",
    "SCHEDRESULT_RECEIVING",
    "SCHEDRESULT_RUNNING",
    "SCHEDRESULT_SENDING",
    "SCHEDRESULT_WAITING",
]

SCHEDRESULT_ERROR = 0
SCHEDRESULT_DEAD = 1
SCHEDRESULT_INACTIVE = 2
SCHEDRESULT_RUNNING = 3
SCHEDRESULT_PENDING_SEND = 4
SCHEDRESULT_SENDING = 5
SCHEDRESULT_WAITING = 6
SCHEDRESULT_RECEIVING = 7

SCHEDULE_LABEL = 0x1234
REQUEST_WORDS, ANSWER_WORDS = 5, 3
UNCHANGED = WORD_MASK

_TIME_BITS = 16
_TIME_MASK = (1 << _TIME_BITS) - 1
_DELAY_BITS = 16
_PRIORITY_BITS = 8
_PRIORITY_MASK = (1 << _PRIORITY_BITS) - 1
_DELAY_MASK = (1 << _DELAY_BITS) - 1


class TimeControl(NamedTuple):
    """Lengths in microseconds; None is Never."""

    timeslice: int | None
    quantum: int | None


class PreemptionControl(NamedTuple):
    """Preemptions by no higher priority than *sensitive* may be delayed, by *delay* microseconds."""

    sensitive: int
    delay: int


def time_control(timeslice: int, quantum: int) -> int:
    """Return the word of two times: timeslice in bits 31..16, total quantum in 15..0. Raises ValueError."""
    return int(Time(timeslice)) << _TIME_BITS | Time(quantum)


def times(control: int) -> tuple[Time, Time]:
    """Return the two times of a word. Raises ValueError when it has more than 32 bits."""
    return Time(word(control) >> _TIME_BITS), Time(control & _TIME_MASK)


def lengths(control: int) -> TimeControl:
    """Return the lengths of a time control. Raises ValueError for a point in time, which has no length."""
    timeslice, quantum = times(control)
    return TimeControl(timeslice.period, quantum.period)


def length_time(microseconds: int | None) -> Time:
    """Return *microseconds* as a time that can be read back: 0 is ZeroTime, None is Never."""
    if microseconds is None:
        return Never
    return TimePeriod(microseconds) if microseconds else ZeroTime


def preemption_control(sensitive: int, delay: int) -> int:
    """Return the word: sensitive priority in bits 23..16, delay in 15..0, each cut to its width, as in X.2."""
    return (sensitive & _PRIORITY_MASK) << _DELAY_BITS | delay & _DELAY_MASK


def preemption(control: int) -> PreemptionControl:
    """Return the fields of a preemption control; its sensitive priority has more than 8 bits if others are set."""
    return PreemptionControl(word(control) >> _DELAY_BITS, control & _DELAY_MASK)


def priority_control(priority: int) -> int:
    """Return the word: priority in bits 7..0, cut to them, as in X.2."""
    return priority & _PRIORITY_MASK
