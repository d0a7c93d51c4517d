"""Layout of the extent of a publish channel, and its errors.

Words are 8 bytes, in the byte order of the machine. The first `CONTROL` bytes are the publisher's words; the rest
is the ring. A *position* counts the bytes published since the channel began; in the ring it is at its remainder
by the ring's size. Records begin at multiples of `GRAIN`, lie in one piece, and look like this:

    number      8 bytes: of the record, from 0
    length      8 bytes: of the content; or FILLER: the record of that number is at the beginning of the ring
    content     filled up to a multiple of GRAIN

At the position HEAD, where the next record will be, its number is there already.
"""

import struct

from libexo.errors import ExoError

MAGIC = int.from_bytes(b"exopubl1", "little")

MAGIC_WORD = 0
"""Index of the word that holds MAGIC."""
GENERATION = 1
"""Not 0; changed whenever the publisher starts over, in new memory or as a successor."""
CLOSED = 2
"""1: nothing follows any more."""
HEAD = 3
"""Position after the newest record."""
TAIL = 4
"""Position of the oldest record that is kept; earlier ones may be overwritten at any time."""
CONTROL = 64
"""Bytes of the publisher's words."""
RING = CONTROL // 8
"""Index of the ring's first word."""

GRAIN = 16
RECORD = struct.Struct("=QQ")
"""Number and length of a record."""
FILLER = (1 << 64) - 1


def space(length: int) -> int:
    """Return the bytes of the ring that a record of *length* bytes takes."""
    return RECORD.size + (length + GRAIN - 1) // GRAIN * GRAIN


def largest(size: int) -> int:
    """Return the length of the largest record of a ring of *size* bytes: two of them fit, wherever they begin."""
    return size // 2 // GRAIN * GRAIN - 2 * RECORD.size


class BrokenChannel(ExoError):
    """The memory is not a publish channel, or not as its publisher should write it."""


class ChannelEnded(ExoError):
    """The publisher ended or closed the channel, and all readable records were read."""


class MemoryCut(Exception):
    """The memory under a view was taken or replaced, or its publisher started over; never leaves the package."""
