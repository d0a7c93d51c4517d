"""Traps on capabilities: derive, offer and accept, revoke, drop."""

from kernel.abi.errors import Refusal
from kernel.abi.gate import Record, Small, Word
from kernel.abi.ids import ANY_FRAME
from kernel.abi.rights import ALL_RIGHTS, Rights
from kernel.abi.trap import HANDLE_REFUSALS, Frame, Trap


class Derive(Trap, tag=0x40):
    """Make a capability with fewer rights, or to part of the range. `count` 0: to the end.

    Of RAM, `first` is a frame. Of an extent, it is a page, counted from where the capability begins; this needs
    the right to transfer. The part, and what is above it in the extent, get memory of their own first, so that a
    holder of the part can map no more: who has that mapped is told MOVED, and an access by an old mapping is a
    SIGBUS. Each new piece of memory counts as a descriptor of the caller's, until the extent is free. Of an
    object, who waits for a page that moves tries again; its pager is told of pages by their numbers in the object,
    whoever touches them.

    Of a processor or a reservation it is a reservation: `first` microseconds of CPU time in each `count` of the
    clock. Of a processor RESERVABLE_US in each 100 ms can be reserved, in MAX_RESERVATIONS; a part of a reservation
    is taken out of it, and comes back when no capability to the part is left.
    """

    capability: Small
    rights: Small
    first: Frame = ANY_FRAME
    count: Word = 0
    result = int
    needs = (None, Rights(0))
    refusals = (
        *HANDLE_REFUSALS,
        Refusal.BAD_ARGUMENT,
        Refusal.NOT_WHOLE,
        Refusal.RING_MEMORY,
        Refusal.TABLE_FULL,
        Refusal.OVER_BUDGET,
        Refusal.TOO_DEEP,
        Refusal.HOST_FULL,
        Refusal.OVER_RESERVED,
    )


class Transfer(Trap, tag=0x41):
    """Offer the receiver a derived capability (map), or the capability itself (grant).

    A grant of fewer rights narrows the capability only: what was derived from it before moves along with the rights
    it has. The new holder sees it (Inspect), and can take it back (Revoke, which needs no right).

    The result is the handle of the offer in the caller's own table; the receiver takes it by Accept. Dropping
    the offer withdraws it, and so does taking the capability it is of, or granting that by another offer. An
    offer can be inspected and dropped; for every other trap it is of the wrong kind.
    """

    capability: Small
    to: Word
    rights: Small
    grant: bool = False
    result = int
    needs = (None, Rights.TRANSFER)
    refusals = (
        *HANDLE_REFUSALS,
        Refusal.NO_SUCH_THREAD,
        Refusal.STALE_THREAD,
        Refusal.MAY_NOT_BIND,
        Refusal.RING_MEMORY,
        Refusal.TABLE_FULL,
        Refusal.OVER_BUDGET,
        Refusal.TOO_DEEP,
        Refusal.BAD_ARGUMENT,
    )


class Revoke(Trap, tag=0x42):
    """Take back everything derived from the capability; the caller keeps the capability itself.

    With `microseconds` the holders are asked first, and what is left at the deadline is taken. Mappings
    cannot be taken from one holder only, so an extent that a loser has mapped gets new backing: the reply
    carries its descriptor (the caller maps it again), and an access by any old mapping is a SIGBUS; holders
    are told MOVED, and map it again. No store is lost, where each page of a memory file is by itself on the host.

    With `first` only the extent that begins at that frame is taken, from all and at once, if it was carved below
    the capability. With `frames` too nothing is taken: the environment to which that extent counts is told to give
    back so many frames, whichever, within `microseconds`. The result is how many frames the extent has, or 0.

    With `rights` of an extent's capability only these are taken, at once: derivatives stay, with the others. The
    memory moves, and all who have it mapped are told, the caller too.
    """

    capability: Small
    microseconds: Small = 0
    first: Frame = ANY_FRAME
    frames: Small = 0
    rights: Small = 0
    result = int
    needs = (None, Rights(0))
    gives_descriptors = "new backing of the extent, if it was replaced"
    refusals = (*HANDLE_REFUSALS[:3], Refusal.OVER_BUDGET, Refusal.HOST_FULL)


class Drop(Trap, tag=0x43):
    """Give a capability up, and everything derived from it; the last one to an extent frees its frames.

    Dropping an offer withdraws it.
    """

    capability: Small
    needs = (None, Rights(0))
    takes_offers = True
    refusals = (*HANDLE_REFUSALS[:2], Refusal.HOST_FULL)


class Holder(Record):
    """One direct derivative of a capability."""

    thread: int
    rights: int


class Inspection(Record):
    """A description of a capability. Fields that do not apply to its kind are zero."""

    kind: int
    rights: int
    origin: int
    """The thread that transferred it here, 0 when it came from the kernel."""
    first: int
    """First frame; CPU number; interrupt line; thread id of an environment; microseconds of a reservation."""
    count: int
    """Frames; the `Activity` of an environment, 0 once it has ended; period of a reservation, in microseconds."""
    status: int
    """How a dead environment ended, as `os.waitstatus_to_exitcode` counts; the processor of a reservation."""
    fault: int
    """The `Fault` a dead environment ended with, or 0."""
    text: str
    """An environment's name, and behind a colon the detail of its fault; of a reservation, who runs by it."""
    holders: tuple[Holder, ...]


class Inspect(Trap, tag=0x44):
    """Describe a capability, and name the holders of its derivatives; an offer has no holder."""

    capability: Small
    result = Inspection
    needs = (None, Rights(0))
    takes_offers = True
    refusals = (*HANDLE_REFUSALS[:2],)


class Inventory(Trap, tag=0x45):
    """List the handles of the caller's table."""

    result = tuple[int, ...]


class Accepted(Record):
    """A capability that was accepted: its handle in the caller's table, its kind, its rights."""

    handle: int
    kind: int
    rights: int
    count: int
    """Frames of an extent."""


class Accept(Trap, tag=0x46):
    """Take what thread `sender` offers the caller; `rights` may narrow it further, but must leave one.

    A full table leaves the offer standing.
    """

    sender: Word
    offer: Small
    rights: Small = int(ALL_RIGHTS)
    result = Accepted
    refusals = (
        Refusal.NO_SUCH_OFFER,
        Refusal.TABLE_FULL,
        Refusal.OVER_BUDGET,
        Refusal.BAD_ARGUMENT,
        Refusal.HOST_FULL,
    )
