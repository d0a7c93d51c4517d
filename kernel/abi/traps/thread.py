"""Traps on threads: end points, bindings, and the X.2 controls."""

from typing import Annotated

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.gate import Record, Small, Word
from kernel.abi.ids import NIL_HANDLE
from kernel.abi.limits import MAX_WORDS
from kernel.abi.predicates import Clauses
from kernel.abi.program import Program
from kernel.abi.trap import HANDLE_REFUSALS, Token, Trap

_BINDING_ENDS = (
    "send ticket, answer ticket (pipes); with a ring: its memory, doorbell to wait on, doorbell to ring"
)


class Bound(Record):
    """A binding: the end point where its sender connects, once, and the token that identifies it there.

    `thread` is the receiver: the thread asked for, or the redirector of the caller's space.
    """

    address: str
    """A name in `ipc` of the run directory, which the kernel gives to nobody else. It goes with the connection."""
    token: bytes
    thread: int
    ring: int = 0
    """Bytes of the ring memory; 0: there is none."""


class Bind(Trap, tag=0x21):
    """Check once that the caller's thread `sender` (0: its first) may send to `thread`.

    The receiver is told when the sender has connected. From then on it has the other end of everything, and the
    binding is used without the kernel. If the caller's space has a redirector and `thread` is neither of its own
    space nor of the redirector's, the binding leads to the redirector (X.2).

    `ring` is an extent of the caller's (0: none), without another holder or an offer: it becomes the
    memory of the binding, zeroed, that nobody can cut or take back; accesses by its old mappings end in
    SIGBUS. While the binding stands, the extent can be inspected and dropped. When it is dropped or taken, its
    handle and the binding go. When the binding falls first, it is an ordinary extent again, of zeros. The
    doorbells are pipes: the side that waits on one reads end of file when the other side is gone.
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
        Refusal.OVER_BUDGET,
        Refusal.HOST_FULL,
    )


class Identified(Record):
    """The owner of a token; a redirected binding carries messages that were meant for others."""

    thread: int
    environment: int
    redirected: bool
    ring: int = 0
    """Bytes of the ring memory; 0: there is none."""
    family: int = 0
    """Receivers are fair between families. A program and its descendants share one, as in the environment's row of
    the interface page; negative: the sender belongs to none, and no other has this number."""


class Arrived(Record):
    """A binding its receiver had not been told of."""

    token: bytes
    who: Identified


class Incoming(Trap, tag=0x20):
    """Hand over the bindings to the caller's thread `receiver` (0: its first) that have connected, oldest first.

    At most MAX_INCOMING at a time; if there are more, the caller is told again. Each is handed over once, and
    what belongs to it is the receiver's from then on.
    """

    receiver: Word = 0
    result = tuple[Arrived, ...]
    gives_descriptors = "for each: the socket of its one connection, then as for Bind"
    refusals = (Refusal.NO_SUCH_THREAD, Refusal.STALE_THREAD, Refusal.HOST_FULL)


class Identify(Trap, tag=0x22):
    """Name the owner of the binding to the caller's thread `receiver` (0: its first) that carries `token`."""

    token: Token
    receiver: Word = 0
    result = Identified
    refusals = (Refusal.UNKNOWN_TOKEN,)


class Unbind(Trap, tag=0x23):
    """Give a binding up: the caller's own, or one to its thread `receiver` (0: its first), whose sender is told."""

    token: Token
    receiver: Word = 0
    refusals = (Refusal.UNKNOWN_TOKEN,)


class Acknowledge(Trap, tag=0x24):
    """Answer a message of kernel thread `thread`: for an interrupt thread, unmask its line.

    For the kernel thread of environments, by a root task: say that it is there. Then it is asked again and again.
    """

    thread: Word
    words: Annotated[tuple[Word, ...], msgspec.Meta(max_length=MAX_WORDS)] = ()
    refusals = (Refusal.NO_SUCH_THREAD, Refusal.NO_SUCH_MESSAGE)


class WaitPage(Trap, tag=0x27):
    """Hand over the environment page of `thread`, which says for whom its threads wait (`kernel.abi.kip.Wait`).

    The caller must be bound to a thread of that environment.
    """

    thread: Word
    gives_descriptors = "environment page (read-only)"
    refusals = (Refusal.NO_SUCH_THREAD, Refusal.STALE_THREAD, Refusal.MAY_NOT_BIND, Refusal.HOST_FULL)


class Sends(Trap, tag=0x28):
    """Say whether `thread` has a message up for `to` that was not taken yet.

    A thread may say that it sends before it receives (`kernel.abi.kip.Wait`), and not know yet that its message was
    taken: this decides whether it receives. The caller must be bound to a thread of its environment.
    """

    thread: Word
    to: Word
    result = bool
    refusals = (Refusal.NO_SUCH_THREAD, Refusal.STALE_THREAD, Refusal.MAY_NOT_BIND)


class ThreadControl(Trap, tag=0x25):
    """Create, activate, change, move or delete `thread`, or choose the handler of an interrupt (X.2 ThreadControl).

    `space` names a thread of the space. 0 deletes; `thread` itself: a fresh space, or, for an interrupt thread,
    nothing but the association. A thread becomes active with its first pager and then waits for the pager's
    start message. `scheduler` and `pager` 0, and `utcb` all ones, leave it as it is. A fresh space becomes an
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
        Refusal.OVER_BUDGET,
        Refusal.TOO_MANY_ENVIRONMENTS,
        Refusal.PLAN_FULL,
        Refusal.ENDING,
    )


class SpaceControl(Trap, tag=0x26):
    """Set the areas of a space that has no active thread yet, and its redirector (X.2 SpaceControl).

    `space` is any of its threads. `redirector` 0 leaves it, all ones (any thread) removes it. The result is the
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


class WakeWhen(Trap, tag=0x29):
    """Send the caller's `thread` a WOKEN once all terms of one clause are true; no clauses: not any more.

    What it waited for under the same `number` is forgotten. Returns the clause that is true already: then nothing
    is sent; or WAITS. Without clauses it returns WAITS if the thread waited, and hears nothing any more; or NONE.
    A time is waited for exactly, and words are looked at every few milliseconds. What may be read is decided at
    each look: a clause with a word that may not be read does not come true any more.
    """

    number: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]
    clauses: Clauses
    thread: Word = 0
    result = int
    refusals = (
        *HANDLE_REFUSALS,
        Refusal.BAD_ARGUMENT,
        Refusal.RING_MEMORY,
        Refusal.NO_SUCH_THREAD,
        Refusal.STALE_THREAD,
        Refusal.OVER_BUDGET,
    )
