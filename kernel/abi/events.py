"""The event ring: what happened in the kernel, readable by all, one 32-byte record an event.

Word 0 of the ring counts the records ever written; record *n* lies at slot ``n % TRACE_RECORDS`` behind the
one-page head. A reader that falls behind by more than the ring's length has lost records, and can tell.
"""

import struct
from enum import IntEnum
from typing import Final

from kernel.abi.limits import FRAME_SIZE, TRACE_RECORDS


class Event(IntEnum):
    """The kind of a record; `a` and `b` are its two words."""

    TRAP = 1
    """a: trap number, b: 0 or the refusal."""
    FAULT = 2
    """a: fault."""
    CREATED = 3
    """a: thread."""
    STARTED = 4
    """a: host process id."""
    ENDED = 5
    """a: exit status + 256, b: fault."""
    BOUND = 6
    """a: receiving thread."""
    SWITCHED = 7
    """a: microseconds of the slice, b: processor."""
    PREEMPTED = 8
    """a: consumed nanoseconds, b: processor."""
    FALLBACK = 9
    """a: processor: its scheduler is gone, the kernel walks a fixed round robin."""
    INTERRUPT = 10
    """a: line."""
    TOOK = 11
    """a: first frame or number of what was taken, b: kind."""
    UPCALL_DROPPED = 12
    """a: label."""
    PAGE_FAULT = 13
    """A program waits for a page. a: which, and in bit 32 whether to write; b: the first frame of its object."""
    SUPPLIED = 14
    """By a pager. a: first page, and from bit 32 on how many; b: the first frame of its object."""
    EVICTED = 15
    """As SUPPLIED."""


RECORD = struct.Struct("<QHHIQQ")
"""Time in ns, event, spare, environment, a, b."""
TRACE_SIZE: Final = FRAME_SIZE + TRACE_RECORDS * RECORD.size
