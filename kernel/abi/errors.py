"""Every refusal and every fault, numbered once.

A *refusal* is a value: the trap changed nothing and the caller goes on. A *fault* is a broken contract: the
caller is ended and the kernel keeps a record. A *panic* is the kernel's own bug; it has no number, because it
is never sent to a caller. Numbers are grouped by subsystem, with gaps.
"""

from enum import IntEnum
from typing import Self


class Numbered(IntEnum):
    """A number with a meaning in words, `text`."""

    text: str

    def __new__(cls, number: int, text: str = "") -> Self:
        """Make a member that is its number and carries its text."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member


class Refusal(Numbered):
    """A number that comes back from a trap, with its meaning."""

    # arguments
    BAD_ARGUMENT = 1, "an argument is outside its range"
    BAD_DESCRIPTORS = 2, "the descriptors passed are not those the trap takes"
    HOST_FULL = 3, "the host lends the machine no more descriptors or memory"
    OVER_BUDGET = 4, "the system holds as much of that for the environment as its budget allows"
    # capabilities
    BAD_HANDLE = 16, "the handle names no slot of the caller's table"
    STALE_HANDLE = 17, "the handle is of an earlier generation: what it named was dropped or revoked"
    WRONG_KIND = 18, "the capability is to another kind of thing"
    MISSING_RIGHT = 19, "the capability does not carry the right the trap needs"
    TABLE_FULL = 20, "the capability table has no free slot"
    NO_SUCH_OFFER = 21, "the thread offers the caller no such capability, or has taken it back"
    TOO_DEEP = 22, "the capability is as many derivations deep as one may be"
    # memory
    NO_FRAMES = 32, "no free run of that many frames in the range"
    FRAME_BUSY = 33, "a frame of the range is already carved"
    NOT_WHOLE = 34, "this is passed on whole: only RAM and extents have parts"
    RING_MEMORY = 35, "the memory of a ring belongs to its binding: it cannot be mapped, passed on or shared"
    OVER_LIMIT = 36, "as much is carved from a capability to RAM as its holder's limit allows"
    NOT_PAGED = (
        37,
        "the caller's memory cannot be paged: start its program so (`exo run --paged`, ProgramSpec.paged)",
    )
    TOO_MANY_WINDOWS = 38, "the caller, or the object, has as many windows as it may"
    PAGER_CIRCLE = 39, "its pager would wait for itself, or pagers would wait for more others than may"
    # threads
    NO_SUCH_THREAD = 48, "no thread has that number"
    STALE_THREAD = 49, "the thread was restarted: look its new id up by name"
    MAY_NOT_BIND = 50, "the caller's environment may not call that thread"
    UNKNOWN_TOKEN = 51, "no binding to the caller carries that token"
    TOO_MANY_BINDINGS = 52, "the caller holds as many bindings as an environment may, in all or to one thread"
    NO_SUCH_MESSAGE = 53, "the kernel thread waits for no answer from the caller"
    NO_PRIVILEGE = 54, "only an environment that may create environments may do that (X.2: NoPrivilege)"
    NO_SUCH_SPACE = 55, "the space specifier names no thread, or a space that is not initialised"
    BAD_SCHEDULER = 56, "a new thread needs a scheduler that exists"
    BAD_UTCB = 57, "the UTCB location is taken, not aligned, or outside the space's UTCB area"
    BAD_KIP_AREA = 58, "the KIP area is too small, outside user addresses, or overlaps the UTCB area"
    NO_REDIRECTOR = 59, "the redirector of the caller's space is gone: its messages wait for the next"
    # environments
    TOO_MANY_ENVIRONMENTS = 64, "the system holds as many environments as it can"
    STILL_ALIVE = 65, "the environment to succeed is still alive"
    NAME_TAKEN = (
        66,
        "the name is another's: a living thread's, a successor's to come, or a topology server's",
    )
    GONE = 67, "the environment has ended"
    MAY_NOT_ATTACH = 68, "that user of the host may not attach under that name"
    ENDING = 69, "the system is ending: it starts nothing more"
    # processors
    BAD_SLICE = 80, "a slice names no scheduled thread of this processor, or no time"
    PLAN_FULL = 81, "the plan of that processor holds as many environments as it can"
    OVER_RESERVED = 82, "the processor, or the reservation, has less left to reserve"
    PROCESSOR_OFF = 83, "the processor was taken out: it takes nobody until it is back"
    PROCESSOR_NEEDED = 84, "it is the last processor, or the others have no room for those that it has"
    # interrupts
    LINE_BUSY = 96, "another thread handles that interrupt line"


class Fault(Numbered):
    """A broken contract between a caller and the kernel; the caller is ended."""

    MALFORMED_TRAP = 1, "the bytes sent through the gate are not a trap"
    TOO_LONG = 2, "the trap is longer than a trap may be"
    EXTRA_DESCRIPTORS = 3, "descriptors came with a trap that takes none"
    GATE_OVERRUN = 4, "the caller does not read its replies"
    NOT_STARTED = 5, "the program could not be started"
    NO_PAGE = 6, "it touched a page that its pager did not supply in time"
    HINDERS = 7, "it kept the host busy with memory that others wait for"
    UNRESPONSIVE = 16, "it did not answer its heartbeat"
    """The reason given by the watcher that ended it."""
