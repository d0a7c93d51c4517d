"""The memory of a ring binding, and the records in its rings: every number of it, once.

The first frame holds the control words of both directions, each word on cache lines that only one side
writes. The rest is two rings of bytes of equal size, the first of them for the messages of the binding's sender.
A ring holds *records*; each begins at a multiple of 32 bytes and lies in one piece:

    u32 size of the body   u16 form   u16 kind, or frames   u64 sequence, or total   u64 label   body

An abbreviated message has its one word in the upper half of the size, since it is short. The first word of a record
is its *mark*. It is written last, so the record is there when its mark is not 0; before that the writer has put a 0
where the mark of the next one will be. So the reader polls the very bytes it will read next: one cache line
travels, where an index beside the ring would be another. A writer whose record does not fit before the end of
the ring fills it up with a SKIP.
"""

from enum import IntEnum
from typing import Final

from kernel.abi.limits import FRAME_SIZE, MAX_STRING

HEADER: Final = 24
"""Bytes: mark, sequence, label."""
ALIGN: Final = 32
"""Of records, so that a header never lies across the end of a ring."""
CONTROL: Final = FRAME_SIZE
"""Bytes of the control words."""
DIRECTION: Final = 64
"""Words from the control words of the first direction to those of the second."""
WORDS: Final = 1 << 16
"""The word of an abbreviated message is below this; others are not abbreviated."""
LONGEST: Final = 64 * MAX_STRING
"""Bytes of a message, all frames together: more is a broken ring."""
MOST_FRAMES: Final = 4096
"""Frames of a message."""


class Word(IntEnum):
    """Control words of a direction. Cache lines come in pairs, so those of two writers lie 128 bytes apart."""

    FULL = 0
    """Written by the writer of the ring: the HEAD it sleeps for, when it wants room. Its doorbell is rung once."""
    HEAD = 16
    """By the reader: bytes ever read."""
    ASLEEP = 32
    """By the reader: 0 while it is awake; otherwise the number of its sleep. Its doorbell is rung once for each."""
    PROCESSOR = 33
    """By the reader: the processor on which it last woke, counted from 1; 0: it does not say."""


class Form(IntEnum):
    """The form of a record."""

    WHOLE = 1
    """A message: the sizes of its frames as u32, unless it is one frame alone, then the frames."""
    PART = 2
    """A piece of a message that is longer than a record may be; the first one gives the total in `sequence`."""
    LAST = 3
    """The last piece of one."""
    SHORT = 4
    """A message of one word and one string, nothing else, abbreviated: the reader makes its packet."""
    SKIP = 5
    """Nothing, up to the end of the ring."""


def capacity(size: int) -> int:
    """Return the bytes of each ring in *size* bytes of memory."""
    return (size - CONTROL) // 2 & -(2 * ALIGN)


def aligned(size: int) -> int:
    """Return *size* rounded up to a multiple of ALIGN."""
    return size + ALIGN - 1 & -ALIGN


def mark(size: int, form: int, kind: int) -> int:
    """Return the mark of a record."""
    return size | form << 32 | kind << 48


def short(kind: int, word: int) -> int:
    """Return the mark, without its size, of an abbreviated message of *kind* and *word*, which is below WORDS."""
    return mark(word << 16, Form.SHORT, kind)
