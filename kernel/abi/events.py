"""The event ring: what happened in the kernel, readable by all, one 32-byte record an event.

Word 0 of the ring counts the records ever written; record *n* lies at slot ``n % TRACE_RECORDS`` behind the
one-page head. A reader that falls behind by more than the ring's length has lost records, and can tell.
"""

import struct
from collections.abc import Iterator
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
    """a: microseconds of the slice; b: processor, and from bit 32 on the microseconds of it that are left to it:
    less what it used too much in slices before, or more; detail, DIRECTED: not by the plan, its scheduler directs
    it; LENT: the slice is of another, which sleeps and waits for it."""
    PREEMPTED = 8
    """a: consumed nanoseconds; b: processor, and from bit 32 on the microseconds of the slice that it slept.
    detail, added up: 1: before it had used its slice, by the clock, or the scheduler gave the rest away; 2: it was
    alone, and its slice had no end."""
    FALLBACK = 9
    """a: processor: its scheduler is gone, or, if the record names it, has sent no plan for too long. The kernel
    walks a fixed round robin, until the next PLANNED."""
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
    READY = 16
    """It came under the plan of a processor, or woke, and waits for a slice. a: nanoseconds consumed since it fell
    asleep, b: processor."""
    BLOCKED = 17
    """It sleeps, and its slice is over. As PREEMPTED; detail: the number of the thread for which its first thread
    says that it waits; 0: none, ANYBODY: for any. Again, with a 0, if that says another while it sleeps."""
    STOPPED = 18
    """As BLOCKED, but by others: a signal or a debugger stopped it."""
    CONTINUED = 19
    """As PREEMPTED, but it goes on at once."""
    RESERVED = 20
    """As SWITCHED, which follows: the slice is of its reservation."""
    PLANNED = 21
    """By a scheduler, a plan. a: microseconds of a round, b: processor. Not if the kernel takes out who ended."""
    PART = 22
    """A plan has other slices of it than before. a: microseconds of such a slice; detail: how many more, with its
    sign (16 bits, two's complement); b: processor."""
    LOST = 23
    """Something was taken from it by force. a: handle, b: kind."""
    NAME = 24
    """What an environment that ended now was called, 16 bytes a record, from byte *detail* on."""
    WOKEN = 25
    """It waited for a predicate. a: the clause that is true, or 8 when none can be any more; b: its number."""


RECORD = struct.Struct("<QHHIQQ")
"""Time in ns, event, detail, environment, a, b."""
DIRECTED: Final = 1
LENT: Final = 2
"""Details of SWITCHED."""
ANYBODY: Final = 0xFFFF
"""In place of the number of a thread: any of several."""
TRACE_SIZE: Final = FRAME_SIZE + TRACE_RECORDS * RECORD.size


def name_words(name: str) -> Iterator[tuple[int, int, int]]:
    """Yield for each record of *name* its detail, and its two words."""
    data = name.encode()
    for at in range(0, len(data), 16):
        yield at, *struct.unpack("<QQ", data[at : at + 16].ljust(16, b"\0"))
