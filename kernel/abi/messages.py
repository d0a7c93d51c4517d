"""What travels between threads: the packet, its items, the labels of kernel messages, the IPC error codes.

A packet is the first frame of a ZeroMQ message. A short string item is in the packet; a longer one follows as a
frame of its own, in order, and is not copied. The kernel takes no part in this exchange, but its own messages
(upcalls) have the same labels and words, so a receiver does not care which way one came.
"""

from enum import IntEnum, IntFlag
from typing import Annotated

import msgspec

from kernel.abi.limits import MAX_WORDS, SHORT_STRING

Word = Annotated[int, msgspec.Meta(ge=0)]

LABEL_BITS = 48


def kernel_label(number: int) -> int:
    """Return the label of kernel protocol *number* (negative): shifted left by 4, cut to 48 bits (X.2)."""
    return (number << 4) & ((1 << LABEL_BITS) - 1)


class Label(IntEnum):
    """Labels of kernel messages; the first five have the numbers of L4 X.2, the rest are ours."""

    INTERRUPT = kernel_label(-1)
    """No words. The answer acknowledges and unmasks the line."""
    PAGE_FAULT = kernel_label(-2)
    """Fault address, instruction pointer."""
    PREEMPTION = kernel_label(-3)
    """Per event three words: event, thread, CPU time consumed in nanoseconds."""
    EXCEPTION = kernel_label(-5)
    """Generic register layout."""
    SIGMA0 = kernel_label(-6)
    """A request to sigma0."""
    PARTNER_GONE = kernel_label(-64)
    """The thread that ended, and the one that took its name, if any."""
    DEATH = kernel_label(-65)
    """Thread, environment number, exit status; text: the fault, if there was one."""
    REVOKE = kernel_label(-66)
    """Handle wanted back, microseconds left."""
    REVOKED = kernel_label(-67)
    """Handle that was taken."""
    MOVED = kernel_label(-68)
    """Handle of an extent whose backing was replaced: map it again."""
    SUCCEEDED = kernel_label(-70)
    """Thread that ended, thread that took its place by attaching: capabilities to the old are to the new."""


class Preemption(IntEnum):
    """What happened to an environment, as its scheduler is told."""

    READY = 1
    """It was created, or it woke up."""
    BLOCKED = 2
    """It sleeps: its slices are skipped until it wakes."""
    SLICE_END = 3
    """Its slice is over."""
    EXIT = 4
    """It ended."""


class PacketKind(IntEnum):
    """What a packet is for."""

    SEND = 1
    """A message; TAKEN or REFUSED answers it."""
    CALL = 2
    """A message whose answer is the acknowledgement."""
    REPLY = 3
    """The answer to a CALL, with its sequence number."""
    TAKEN = 4
    """The message was received."""
    REFUSED = 5
    """The message was not received; the first word is an IpcCode."""


class IpcCode(IntEnum):
    """Why an IPC failed: bits 3..1 of the X.2 error word (bit 0 is the phase: 0 send, 1 receive)."""

    TIMEOUT = 1
    NO_PARTNER = 2
    CANCELLED = 3
    OVERFLOW = 4
    XFER_TIMEOUT_HERE = 5
    XFER_TIMEOUT_THERE = 6
    ABORTED = 7


class Phase(IntEnum):
    """The half of an IPC in which it failed."""

    SEND = 0
    RECEIVE = 1


class PacketFlags(IntFlag):
    """Bits of a packet."""

    TIMED = 1
    """The sender may withdraw the message: take its claim from the ticket before taking the message."""


class StringPart(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A string item: *size* bytes, in the next frame."""

    size: Word


class ShortPart(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """A string item of at most SHORT_STRING bytes: it costs less in the packet than in a frame of its own."""

    string: Annotated[bytes, msgspec.Meta(max_length=SHORT_STRING)]


class MapPart(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A capability derived for the receiver: *handle* in its own table; the sender keeps its own."""

    handle: Word


class GrantPart(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """A capability moved to the receiver: *handle* in its own table."""

    handle: Word


Part = StringPart | ShortPart | MapPart | GrantPart


class Packet(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first frame of every message between threads."""

    kind: int
    sequence: Word
    label: Word = 0
    words: Annotated[tuple[Word, ...], msgspec.Meta(max_length=MAX_WORDS)] = ()
    parts: tuple[Part, ...] = ()
    flags: int = 0
