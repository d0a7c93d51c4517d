"""What the rendezvous keeps account of: our bindings, what arrived, and messages of ours under way.

What every message has one of is a msgspec Struct: to make one costs a third of what an `__init__` does.
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
"""Packets taken in at a time: however fast a partner sends, there is an end to that."""


class Link(msgspec.Struct, eq=False):
    """A binding of ours: the way to one *partner*; a redirector in between is the *receiver*."""

    partner: int
    receiver: int
    token: bytes
    channel: "Channel"
    tickets: Tickets
    line: "Duplex | None" = None
    """Our end of the ring, where the binding has one; it is not used before the receiver has its own."""
    shows_all: bool = False
    """To wait for its channel is to look into it."""
    sequence: "count[int]" = msgspec.field(default_factory=lambda: count(1))
    exchanges: "dict[int, Outgoing]" = {}
    timed: "Outgoing | None" = None
    """The message the tickets are up for: a second one that may be withdrawn needs another link."""
    fallen: bool = False
    """The binding fell; it stays open for messages whose answer comes from elsewhere."""
    end: tuple[int, ...] = ()
    """How the partner's environment ended: exit status and fault; nothing: it lives, as far as is known."""
    socket: "Channel | None" = None
    """The channel there was before the ring, for as long as it is needed."""
    standing: "Standing | None" = None
    """What the receiver says of itself, once that was of interest."""
    paid: int = 0
    """The handle of the extent that paid for it."""

    @property
    def rings(self) -> bool:
        """Whether messages go through the ring."""
        return self.line is not None and isinstance(self.channel, RingChannel)

    def use_ring(self, spinning: "SpinPolicy") -> None:
        """Send and receive through the ring from now on, as the receiver does.

        What was sent through the socket before may still be on its way, so it stays open until that is answered.
        """
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
    """A message that arrived: not taken yet."""

    peer: Peer | None
    """None: it is of the kernel."""
    sender: int
    packet: Packet
    frames: list[bytes]
    items: tuple[Item, ...] | None
    """None: they must be unpacked."""
    weight: int = 0
    """What it takes of the room for such: see `libexo.ipc.pending`."""
    propagated: bool = False
    """The sender is not the peer, who speaks for it."""


class State(IntEnum):
    """What has become of a message of ours; it only goes on from one to a later one, but back from FORWARDED."""

    POSTED = 0
    """On its way; if it may be withdrawn, its ticket is up."""
    TAKEN = 1
    """Its receiver has it, and said so; a call's receiver says so only where it was asked to."""
    FORWARDED = 2
    """Another thread than its receiver is to answer (X.2 propagation)."""
    OVER = 3
    """Well, or with an error, or given up."""


class Exchange(msgspec.Struct, eq=False):
    """A message of ours under way: an answer, or the wish that its caller wait for another's; or `Outgoing`."""

    kind: int
    sequence: int
    to: int
    """The thread it goes to."""
    given: tuple[int, ...] = ()
    """The offers made for it."""
    state: State = State.POSTED
    forwarded_to: int = 0
    """The thread that is to answer a call that was forwarded, perhaps its receiver after all; 0: it was not."""
    error: IpcError | None = None

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return self.state is State.OVER


class Outgoing(Exchange, kw_only=True):
    """One over a binding of ours: a message, a call, the announcement of a ring."""

    link: Link
    timed: bool = False
    """It may be withdrawn: it has the tickets of its binding."""
    accepts: int = 0
    """How many capabilities its answer may bring."""
    virtual: int = 0
    """The thread it is sent for."""
    apart: bool = False
    """The answer is left as it arrived: its items are not taken yet."""
    claimed: Phase | None = None
    """In which phase its ticket was taken back: it is as good as withdrawn."""
    deserted: bool = False
    """Nobody waits for it any more, but its tickets are in the receiver's hands."""
    held: int = 0
    """When its time was over, and its receiver may have waited for it even so."""
    overdue: int = 0
    """When it was first found neither withdrawn nor done after its time."""
    answer: tuple[Packet, list[bytes]] | None = None
    """The packet that answered it, with its frames, where that is left apart."""
    reply: Message | None = None

    def cut_off(self, why: str) -> NoPartner | None:
        """Return the error that the end of its way is; None: it was taken, and more was not to come of it.

        The phase of a call is the latest it has come to, or may have for all that is known here. Its send ticket is
        gone then.
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
        """Take the ticket of a timed message, or of its answer, back: nothing can come of it any more.

        *only* one of them. Any strand may do so; the sender's own then withdraws it.
        """
        tickets = self.link.tickets
        if only is not Phase.RECEIVE and tickets.withdraw(self.sequence):
            self.claimed = Phase.SEND
        elif only is Phase.SEND or self.kind != PacketKind.CALL:
            return
        elif self.state is State.FORWARDED or tickets.forgo(self.sequence):
            self.claimed = Phase.RECEIVE

    def is_coming(self) -> bool:
        """Say whether a call whose way fell is being answered: then both its tickets are in the receiver's hands.

        Nobody can withdraw such an answer, so it is waited for. If not, it cannot be answered any more.
        """
        if not self.timed or self.kind != PacketKind.CALL or self.deserted:
            return False
        if self.claimed is None:
            self.claim()
        return self.claimed is None
