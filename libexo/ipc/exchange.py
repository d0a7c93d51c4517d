"""What the rendezvous keeps account of: bindings of ours, bindings to us, and messages under way.

What every message has one of is a msgspec Struct: to make one costs a third of what an `__init__` does.
"""

from itertools import count
from typing import TYPE_CHECKING

import msgspec

from kernel.abi.messages import Packet, PacketKind, Phase
from libexo.errors import IpcError, NoPartner
from libexo.ipc.message import Item, Message
from libexo.ipc.peer import Peer
from libexo.transport.ring.ends import RingChannel

if TYPE_CHECKING:
    from libexo.ipc.standing import Standing
    from libexo.transport.base import Channel, Ticket
    from libexo.transport.ring.line import Line
    from libexo.transport.ring.spinning import Patience


class Link:
    """A binding of ours: the way to one partner."""

    __slots__ = (
        "answer_ticket", "channel", "end", "exchanges", "fallen", "line", "paid", "partner", "receiver",
        "send_ticket", "sequence", "shows_all", "socket", "standing", "timed", "token",
    )  # fmt: skip

    def __init__(
        self, partner: int, receiver: int, token: bytes, channel: "Channel", tickets: "tuple[Ticket, Ticket]"
    ) -> None:
        """Send to *partner* through *channel*; a redirector in between is the *receiver*."""
        self.partner = partner
        self.receiver = receiver
        self.token = token
        self.channel = channel
        self.shows_all = getattr(channel, "shows_all", False)
        self.send_ticket, self.answer_ticket = tickets
        self.sequence = count(1)
        self.exchanges: dict[int, Exchange] = {}
        self.timed: Exchange | None = None
        """The message the tickets are up for: a second one that may be withdrawn needs another link."""
        self.fallen = False
        """The binding fell; it stays open for messages whose answer comes from elsewhere."""
        self.end: tuple[int, ...] = ()
        """How the partner's environment ended: exit status and fault; nothing: it lives, as far as is known."""
        self.line: Line | None = None
        """Our end of the ring, where the binding has one; it is not used before the receiver has its own."""
        self.socket: Channel | None = None
        """The channel there was before the ring, for as long as it is needed."""
        self.standing: Standing | None = None
        """What the receiver says of itself, once that was of interest."""
        self.paid = 0
        """The handle of the extent that paid for it."""

    @property
    def rings(self) -> bool:
        """Whether messages go through the ring."""
        return self.line is not None and isinstance(self.channel, RingChannel)

    def use_ring(self, patience: "Patience") -> None:
        """Send and receive through the ring from now on, as the receiver does.

        What was sent through the socket before may still be on its way, so it stays open until that is answered.
        """
        assert self.line is not None
        self.socket, self.channel = self.channel, RingChannel(self.line, patience)
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
        self.send_ticket.close()
        self.answer_ticket.close()


class Links(dict[int, list[Link]]):
    """The links of one thread, by partner; the first of each is used before the others."""

    def known(self, to: int) -> Link | None:
        """Return a link to thread *to*, if there is one: one that ended has none."""
        return next(iter(self.get(to, ())), None)

    def all(self) -> list[Link]:
        """Return every link."""
        return [link for links in self.values() for link in links]

    def take(self, receiver: int, token: bytes = b"") -> list[Link]:
        """Return the links that lead to thread *receiver*, or the one of *token* alone, and know them no more."""
        found = [link for link in self.all() if receiver in (link.partner, link.receiver)]
        found = [link for link in found if not token or link.token == token]
        for link in found:
            self.discard(link)
        return found

    def prefer(self, link: Link) -> None:
        """Have what goes to the partner of *link* go over it."""
        links = self[link.partner]
        links.insert(0, links.pop(links.index(link)))

    def discard(self, link: Link) -> None:
        """Know *link* no more."""
        links = self[link.partner]
        links.remove(link)
        if not links:
            del self[link.partner]


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


class Exchange(msgspec.Struct, eq=False):
    """A message of ours under way."""

    link: Link
    kind: int
    sequence: int
    timed: bool
    apart: bool
    """The answer is left as a packet in `answer`."""
    given: tuple[int, ...]
    """The offers made for it."""
    accepts: int
    """How many capabilities its answer may bring."""
    virtual: int = 0
    """The thread it is sent for."""
    claimed: Phase | None = None
    """In which phase its ticket was taken back: it is as good as withdrawn."""
    over: bool = False
    """It was withdrawn, or its answer is waited for no longer."""
    deserted: bool = False
    """Nobody waits for it any more, but its tickets are in the receiver's hands."""
    taken: bool = False
    """The receiver has it; a call is told only if it asked to be."""
    turned: int = 0
    """The thread that is to answer instead of the receiver."""
    held: int = 0
    """When its time was over, and its receiver may have waited for it even so."""
    overdue: int = 0
    """When it was first found neither withdrawn nor done after its time."""
    answer: tuple[Packet, list[bytes]] | None = None
    """The packet that answered it, with its frames."""
    reply: Message | None = None
    error: IpcError | None = None
    done: bool = False
    """It has ended, well or not."""

    def cut_off(self, why: str) -> NoPartner | None:
        """Return the error that the end of its way is; None: it was taken, and more was not to come of it.

        The phase of a call is the latest it has come to, or may have for all that is known here. Its send ticket is
        gone then.
        """
        phase = self.claimed  # another thread of ours, which aborts it, may have the ticket
        if phase is None:
            posted = self.timed and self.link.send_ticket.claim() == self.sequence
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
        link = self.link
        if only is not Phase.RECEIVE and link.send_ticket.claim() == self.sequence:
            self.claimed = Phase.SEND
        elif only is Phase.SEND or self.kind != PacketKind.CALL:
            return
        elif self.turned or link.answer_ticket.claim() == self.sequence:
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


class Answer:
    """An answer of ours whose receiver is to say whether he could take it."""

    __slots__ = ("done", "error", "given", "to")

    def __init__(self, to: int, given: tuple[int, ...]) -> None:
        """Follow the answer to thread *to*."""
        self.to = to
        self.given = given
        self.error: IpcError | None = None
        self.done = False
