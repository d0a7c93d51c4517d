"""Messages between threads: the packet, its items, the labels of kernel messages, the IPC error codes.

A packet is the first frame of a ZeroMQ message. A short string item is in the packet; a longer one follows as a
frame of its own, in order, and is not copied. The kernel takes no part in this exchange. Its own messages
(upcalls) have the same labels and words, so a receiver does not care which way one came.
"""

from enum import IntEnum, IntFlag
from typing import Annotated

import msgspec

from kernel.abi.limits import MAX_HANDLES, MAX_PARTS, MAX_WORDS, SHORT_STRING

Word = Annotated[int, msgspec.Meta(ge=0)]

LABEL_BITS = 48
STATUS_BIAS = 256
"""PARTNER_GONE adds this to an exit status, which is negative after a signal and would not fit a word."""


def kernel_label(number: int) -> int:
    """Return the label of kernel protocol *number* (negative): shifted left by 4, cut to 48 bits (X.2)."""
    return (number << 4) & ((1 << LABEL_BITS) - 1)


class Label(IntEnum):
    """Labels of kernel messages: those of L4 X.2, then ours."""

    INTERRUPT = kernel_label(-1)
    """No words. The answer acknowledges and unmasks the line."""
    PAGE_FAULT = kernel_label(-2)
    """Fault address, instruction pointer; the access (rights of an fpage) is in the low bits of the label. From the
    kernel, for who touched an object: handle of the object, page, and the instruction pointer is 0."""
    PREEMPTION = kernel_label(-3)
    """Per event three words: event, thread, and how long that had the processor in its slice, and slept, in ns."""
    SYSTEM_EXCEPTION = kernel_label(-4)
    """A preemption that overran its delay: the clock in two words; the answer resumes."""
    EXCEPTION = kernel_label(-5)
    """Instruction pointer, stack pointer, flags, exception number (a signal), error code, local id."""
    SIGMA0 = kernel_label(-6)
    """A request to sigma0."""
    IO_FAULT = kernel_label(-8)
    """As PAGE_FAULT, for an I/O port."""
    SIGMA0_EXTENDED = kernel_label(-1001)
    """Verbosity, or a dump of its pools."""
    PARTNER_GONE = kernel_label(-64)
    """The thread that ended. If its environment ended with it: the exit status plus STATUS_BIAS, and the fault."""
    DEATH = kernel_label(-65)
    """Thread, environment number, exit status; text: the fault, if there was one."""
    REVOKE = kernel_label(-66)
    """Handle wanted back, microseconds left, 0; or 0, microseconds left, frames wanted back, whichever."""
    REVOKED = kernel_label(-67)
    """Handle that was taken."""
    MOVED = kernel_label(-68)
    """Handle of an extent, first page, pages: those have new memory, map them again. By the handle alone: all."""
    SUCCEEDED = kernel_label(-70)
    """Thread that ended, thread that attached in its place: capabilities to the old one now lead to the new one."""

    BOUND = kernel_label(-73)
    """No words. A sender has bound and connected: `Incoming` hands it over. Told once until then."""

    THREAD = kernel_label(-71)
    """A thread of this environment was activated, changed or deleted: its id before (0: it is new), its id now
    (0: it is gone), pager, scheduler, UTCB location."""
    UNBOUND = kernel_label(-74)
    """One binding of this thread was ended, and others to the same receiver may stand: the receiver, and the token
    in two words, the lower half first."""
    WOKEN = kernel_label(-75)
    """Which clause of a predicate is true, or IMPOSSIBLE. The predicate's number is the version of the sender."""
    HEARTBEAT = kernel_label(-72)
    """Are you there? A server answers any caller; a root task answers the kernel by Acknowledge."""
    SLICE = kernel_label(-76)
    """A slice began, as the page of who asked for this shows it: when, and the CPU time at which it is over."""


class Preemption(IntEnum):
    """A change in an environment, or of the processor, as its scheduler is told."""

    READY = 1
    """It was created, or it woke up."""
    BLOCKED = 2
    """It sleeps: its slices are skipped until it wakes."""
    SLICE_END = 3
    """Its slice is over."""
    EXIT = 4
    """It ended, or was moved to another processor."""
    LEAVES = 5
    """A processor is taken out: move its members within a second. No thread; its number in place of the ns."""
    RETURNS = 6
    """A processor is back. As LEAVES."""
    LENT = 7
    """It slept, waited for another, and lent that one the rest of its slice: of it so many ns are gone."""
    BORROWED = 8
    """It ran, or slept, for so many ns in the slice of another. LENT, before it, says whose that was."""
    WAITS = 9
    """It sleeps, and says for whom it waits: the thread of that number, in place of the ns; 0: no one alone."""


class PacketKind(IntEnum):
    """The purpose of a packet."""

    SEND = 1
    """A message; TAKEN or REFUSED answers it."""
    CALL = 2
    """A message whose answer is the acknowledgement."""
    REPLY = 3
    """The answer to a CALL, with its sequence number."""
    TAKEN = 4
    """The message was received."""
    REFUSED = 5
    """The message was cut off: the first word is the X.2 error word, offset included."""
    TURN = 6
    """To the sender of a CALL: the answer will come from the thread in the first word instead."""
    TURNED = 7
    """The sender of the CALL waits for that thread now."""
    RING = 8
    """To the receiver, over its socket: from now on messages of this binding come through its ring; TAKEN or
    REFUSED answers."""
    TELL = 9
    """A message without answer or acknowledgement: its sender went on."""


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
    """The sender may withdraw. Claim the send ticket to take the message, and post the answer ticket of a call
    then; claim that to answer."""
    TELLS = 2
    """The sender of a CALL wants TAKEN beside the answer; the sender of a REPLY wants TAKEN or REFUSED."""
    PROPAGATED = 4
    """Sent for the thread in `virtual` (X.2: p); dropped where its sender may not speak for that thread."""


XFER_AT = 16
"""Bits 31..16 beside the flags: how long page faults may hold up its strings (X.2 Time; 0: Never)."""


class StringPart(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A string item: *size* bytes, in the next frame."""

    size: Word


class ShortPart(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """A string item of at most SHORT_STRING bytes: cheaper in the packet than in a frame of its own."""

    string: Annotated[bytes, msgspec.Meta(max_length=SHORT_STRING)]


class MapPart(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A capability to derive for the receiver: it accepts *offer*, a handle of the sender's."""

    offer: Word


class GrantPart(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """A capability to move to the receiver: it accepts *offer*, a handle of the sender's."""

    offer: Word


class FpagePart(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """The parts of an X.2 map or grant item: the extents of its fpage.

    Of each: its offset in bytes from the fpage's base, its size in bytes, and the offer of it.
    """

    extents: Annotated[tuple[tuple[Word, Word, Word], ...], msgspec.Meta(max_length=MAX_HANDLES)]


Part = StringPart | ShortPart | MapPart | GrantPart | FpagePart


class Packet(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first frame of every message between threads."""

    kind: int
    sequence: Word
    label: Word = 0
    words: Annotated[tuple[Word, ...], msgspec.Meta(max_length=MAX_WORDS)] = ()
    """Untyped words, then typed ones."""
    parts: Annotated[tuple[Part, ...], msgspec.Meta(max_length=MAX_PARTS)] = ()
    """The contents of its items: of X.2 items, one part for each string, map and grant item, in order."""
    flags: int = 0
    typed: int = 0
    """How many of the words are typed: the descriptors of X.2 items."""
    virtual: Word = 0
    """With PROPAGATED: the thread it is sent for."""
    intended: Word = 0
    """Under a redirected binding: the thread it was meant for."""
