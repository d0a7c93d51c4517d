"""Traps on threads: end points, bindings, and the X.2 controls."""

from typing import Annotated

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.gate import Record, Small, Word
from kernel.abi.ids import NIL_HANDLE
from kernel.abi.limits import MAX_WORDS
from kernel.abi.program import Program
from kernel.abi.trap import HANDLE_REFUSALS, Token, Trap

_BINDING_ENDS = (
    "send ticket, answer ticket (eventfds); with a ring: its memory, doorbell to wait on, doorbell to ring"
)


class Endpoint(Trap, tag=0x20):
    """Hand over the listening socket of `thread`, bound to `ipc/NUMBER` in the run directory.

    `thread` is one of the caller's; 0: its first.
    """

    thread: Word = 0
    result = int
    gives_descriptors = "listening socket"
    refusals = (Refusal.NO_SUCH_THREAD, Refusal.STALE_THREAD, Refusal.HOST_FULL)


class Bound(Record):
    """A binding: the receiver's thread number names its socket, the token is the sender's routing id.

    `thread` is who receives: the thread asked for, or the redirector of the caller's space.
    """

    number: int
    token: bytes
    thread: int
    ring: int = 0
    """Bytes of the ring memory; 0: there is none."""


class Bind(Trap, tag=0x21):
    """Check once that the caller's thread `sender` (0: its first) may send to `thread`.

    The binding is then used without the kernel. Where the caller's space has a redirector and `thread` is of
    neither its own space nor the redirector's, the binding leads to the redirector (X.2).

    `ring` is an extent of the caller's (0: none), which nobody else holds and no offer is of: it becomes the
    memory of the binding, zeroed, that nobody can cut or take back, and every mapping of what it was ends in
    SIGBUS. While the binding stands, it can be inspected and dropped; its handle goes, and so does the binding,
    when it is dropped or taken. When the binding falls first, it is an ordinary extent again, of zeros. The
    doorbells are pipes: who waits on one reads it at its end when the other side is gone.
    """

    thread: Word
    sender: Word = 0
    ring: Small = NIL_HANDLE
    result = Bound
    gives_descriptors = _BINDING_ENDS
    refusals = (
        *HANDLE_REFUSALS,
        Refusal.BAD_ARGUMENT,
        Refusal.RING_MEMORY,
        Refusal.NO_SUCH_THREAD,
        Refusal.STALE_THREAD,
        Refusal.MAY_NOT_BIND,
        Refusal.NO_REDIRECTOR,
        Refusal.TOO_MANY_BINDINGS,
        Refusal.HOST_FULL,
    )


class Identified(Record):
    """Whose binding a token is; a redirected one carries messages that were meant for others."""

    thread: int
    environment: int
    redirected: bool
    ring: int = 0
    """Bytes of the ring memory; 0: there is none."""


class Identify(Trap, tag=0x22):
    """Say whose binding to the caller's thread `receiver` (0: its first) carries `token`."""

    token: Token
    receiver: Word = 0
    result = Identified
    gives_descriptors = _BINDING_ENDS
    refusals = (Refusal.UNKNOWN_TOKEN, Refusal.HOST_FULL)


class Unbind(Trap, tag=0x23):
    """Give a binding up: the caller's own, or one to its thread `receiver` (0: its first), whose sender is told."""

    token: Token
    receiver: Word = 0
    refusals = (Refusal.UNKNOWN_TOKEN,)


class Acknowledge(Trap, tag=0x24):
    """Answer a message of kernel thread `thread`: for an interrupt thread, unmask its line."""

    thread: Word
    words: Annotated[tuple[Word, ...], msgspec.Meta(max_length=MAX_WORDS)] = ()
    refusals = (Refusal.NO_SUCH_THREAD, Refusal.NO_SUCH_MESSAGE)


class ThreadControl(Trap, tag=0x25):
    """Create, activate, change, move or delete `thread`, or choose who handles an interrupt (X.2 ThreadControl).

    `space` names a thread of the space; 0 deletes; `thread` itself: a fresh space, or, for an interrupt thread,
    nothing but the association. A thread becomes active with its first pager and then waits for the pager's
    start message. `scheduler` and `pager` 0, and `utcb` all ones, leave as it is. A fresh space becomes an
    environment when its first thread is activated: `program` and the descriptors are what it runs then.
    """

    thread: Word
    space: Word
    scheduler: Word = 0
    pager: Word = 0
    utcb: Word = (1 << 64) - 1
    program: Program | None = None
    takes_descriptors = True
    refusals = (
        Refusal.NO_PRIVILEGE,
        Refusal.NO_SUCH_THREAD,
        Refusal.STALE_THREAD,
        Refusal.NO_SUCH_SPACE,
        Refusal.BAD_SCHEDULER,
        Refusal.BAD_UTCB,
        Refusal.BAD_ARGUMENT,
        Refusal.BAD_DESCRIPTORS,
        Refusal.LINE_BUSY,
        Refusal.HOST_FULL,
        Refusal.TABLE_FULL,
        Refusal.TOO_MANY_ENVIRONMENTS,
    )


class SpaceControl(Trap, tag=0x26):
    """Set the areas of a space that has no active thread yet, and its redirector (X.2 SpaceControl).

    `space` is any thread of it. `redirector` 0 leaves it, all ones (any thread) takes it away. The result is the
    old control word, which is 0: there is no architecture-specific control.
    """

    space: Word
    control: Word
    kip_area: Word
    utcb_area: Word
    redirector: Word = 0
    result = int
    refusals = (
        Refusal.NO_PRIVILEGE,
        Refusal.NO_SUCH_SPACE,
        Refusal.BAD_UTCB,
        Refusal.BAD_KIP_AREA,
        Refusal.BAD_ARGUMENT,
        Refusal.NO_SUCH_THREAD,
    )
