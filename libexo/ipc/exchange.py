"""Records of the rendezvous: our bindings, messages that arrived, and messages of ours under way.

All are msgspec Structs: to make one costs a third of what an `__init__` does.
"""

from enum import IntEnum
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from kernel.abi.messages import Packet, PacketKind, Phase
from libexo.errors import IpcError, NoPartner
from libexo.ipc.message import Item, Message
from libexo.ipc.peer import Peer
from libexo.ipc.tickets import Tickets
from libexo.transport.ring.ends import RingChannel

if TYPE_CHECKING:
    from libexo.ipc.standing import Standing
    from libexo.transport.base import Channel
    from libexo.transport.ring.duplex import Duplex
    from libexo.transport.ring.spinning import SpinPolicy


BATCH = 1024
"""Packets taken in at a time, however fast a partner sends."""


class Link(msgspec.Struct, eq=False):
    """A binding of ours: the way to one *partner*; a redirector in between is the *receiver*."""

    partner: int
    receiver: int
    token: bytes
    channel: "Channel"
    tickets: Tickets
    line: "Duplex | None" = None
    """Our end of the ring, if the binding has one; it is used once the receiver has its own end."""
    shows_all: bool = False
    """A wait for the channel looks into it."""
    sequence: "count[int]" = msgspec.field(default_factory=lambda: count(1))
    exchanges: "dict[int, Outgoing]" = {}
    timed: "Outgoing | None" = None
    """The message that has the tickets: a second one that may be withdrawn needs another link."""
    taken: bool = False
    """A plain call is under way on it, or it is being written or read: a signal's handler takes another link."""
    fallen: bool = False
    """The binding fell; the link stays open for messages that another thread answers."""
    end: tuple[int, ...] = ()
    """Exit status and fault of the partner's environment; empty while it lives, as far as is known."""
    socket: "Channel | None" = None
    """The channel used before the ring, while answers may still come over it."""
    standing: "Standing | None" = None
    """The receiver's row in its environment page, once it was read."""
    paid: int = 0
    """The handle of the extent that paid for the ring."""

    @property
    def rings(self) -> bool:
        """Whether messages go through the ring."""
        return self.line is not None and isinstance(self.channel, RingChannel)

    def use_ring(self, spinning: "SpinPolicy") -> None:
        """Send and receive through the ring from now on; the socket stays open until nothing is under way there."""
        assert self.line is not None
        self.socket, self.channel = self.channel, RingChannel(self.line, spinning)
        self.shows_all = True

    def settle(self) -> None:
        """Nothing is under way: close what is not needed any more."""
        if self.fallen:
            self.close()
        elif self.socket is not None:
            self.socket.close()
            self.socket = None

    def close(self) -> None:
        """Send no more."""
        self.channel.close()
        if self.socket is not None:
            self.socket.close()
        if self.line is not None:
            self.line.close()
        if self.standing is not None:
            self.standing.close()
        self.tickets.close()


class Arrival(msgspec.Struct, eq=False):
    """A message that arrived and was not taken yet."""

    peer: Peer | None
    """None: a message of the kernel."""
    sender: int
    packet: Packet
    frames: list[bytes]
    items: tuple[Item, ...] | None
    """None: they must be unpacked."""
    weight: int = 0
    """Its share of the room for such messages: see `libexo.ipc.pending`."""
    propagated: bool = False
    """The peer sent it in the name of *sender*."""


class State(IntEnum):
    """The state of a message of ours. It only advances, except from FORWARDED back to TAKEN."""

    POSTED = 0
    """It is on its way; if it may be withdrawn, its ticket is up."""
    TAKEN = 1
    """Its receiver said that it has it; the receiver of a call says so only if asked."""
    FORWARDED = 2
    """Another thread will answer instead of its receiver (X.2 propagation)."""
    OVER = 3
    """It ended: well, with an error, or given up."""


class Exchange(msgspec.Struct, eq=False):
    """A message of ours under way: an answer, or the request that a caller wait for another's; or `Outgoing`."""

    kind: int
    sequence: int
    to: int
    given: tuple[int, ...] = ()
    """Its offers of capabilities."""
    state: State = State.POSTED
    forwarded_to: int = 0
    """The thread that will answer a call that was forwarded, perhaps its receiver after all; else 0."""
    error: IpcError | None = None

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return self.state is State.OVER


class Outgoing(Exchange, kw_only=True):
    """One over a *link* of ours: a message, a call, or the announcement of a ring."""

    link: Link
    timed: bool = False
    """It may be withdrawn: it has the tickets of its link."""
    accepts: int = 0
    """The most capabilities its answer may bring."""
    virtual: int = 0
    """The thread in whose name it is sent."""
    apart: bool = False
    """Its answer is left as a packet, with items not taken."""
    claimed: Phase | None = None
    """The phase whose ticket was taken back: it is as good as withdrawn."""
    deserted: bool = False
    """No operation waits for it, but its receiver has the tickets."""
    held: int = 0
    """When its time was over while its receiver seemed to wait for it."""
    overdue: int = 0
    """When it was first found neither withdrawn nor done, after its time or after its link fell."""
    answer: tuple[Packet, list[bytes]] | None = None
    """The answer as a packet and its frames, if that is left apart."""
    reply: Message | None = None

    def cut_off(self, why: str) -> NoPartner | None:
        """Return the error for the loss of its link; None: it was taken, and nothing more was to come.

        A call is taken to be in the latest phase that it may have reached. Its send ticket is gone then.
        """
        phase = self.claimed  # another thread of ours, which aborts it, may have the ticket
        if phase is None:
            posted = self.timed and self.link.tickets.withdraw(self.sequence)
            phase = Phase.SEND if posted else Phase.RECEIVE
        if phase is Phase.RECEIVE and self.kind != PacketKind.CALL:
            if self.timed:
                return None
            phase, why = Phase.SEND, f"{why}; whether it took the message is not known"
        return NoPartner(phase, why, *self.link.end)

    def claim(self, only: Phase | None = None) -> None:
        """Take back the ticket of a timed message, or of its answer; *only* one of them.

        Any strand may do so; the sender's own then withdraws the message.
        """
        tickets = self.link.tickets
        if only is not Phase.RECEIVE and tickets.withdraw(self.sequence):
            self.claimed = Phase.SEND
        elif only is Phase.SEND or self.kind != PacketKind.CALL:
            return
        elif self.state is State.FORWARDED or tickets.forgo(self.sequence):
            self.claimed = Phase.RECEIVE

    def is_in_hand(self) -> bool:
        """Say whether its receiver has its ticket at this moment, of a call both, though its link fell.

        Then that one takes it, or answers it, and says so; or it looks at another message, and puts the ticket up
        again. If False, it is withdrawn, or its answer given up.
        """
        if not self.timed or self.deserted:
            return False
        if self.claimed is None:
            self.claim()
        return self.claimed is None
