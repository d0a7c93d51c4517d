"""The moves two puppets make against each other: post, take, answer, and packets made by hand.

The one door of the tests to the rendezvous (`tools/architecture.py`): what it is made of is named here alone. Whose
is meant is said by a puppet, an environment, or a thread.
"""

import builtins
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from kernel.abi.ids import ANY_THREAD
from kernel.abi.messages import Packet, PacketKind, Phase
from libexo.environment import Environment
from libexo.ipc.exchange import Arrival, Exchange, Link, Outgoing
from libexo.ipc.message import Message, Origin
from libexo.ipc.peer import Peer
from libexo.ipc.peers import Peers
from libexo.ipc.receiving import PENDING, WITHDRAWN, Receiving
from libexo.ipc.rendezvous import Rendezvous
from libexo.ipc.sending import FORWARDS, OVERDUE, RECHECK
from libexo.transport.base import Inbox, Source, Ticket
from libexo.transport.ring.ends import RingInbox
from tests.kernel.puppets import Puppet

__all__ = ["FORWARDS", "OVERDUE", "PENDING", "RECHECK", "WITHDRAWN", "Peers", "Receiving"]

CALL, SEND = PacketKind.CALL, PacketKind.SEND


class Numbers:
    """The numbers of a link: *handler* runs when the next one is drawn, before anything is done with it."""

    def __init__(self, of: "Iterator[int]", handler: Callable[[], object]) -> None:
        self.of, self.handler = of, handler

    def __iter__(self) -> "Numbers":
        return self

    def __next__(self) -> int:
        number, handler, self.handler = builtins.next(self.of), self.handler, list
        handler()
        return number


class Slow:
    """A ticket at which somebody else is quicker, right after the first claim that finds something."""

    def __init__(self, ticket: Ticket, meanwhile: Callable[[], object]) -> None:
        self._ticket = ticket
        self._meanwhile: Callable[[], object] | None = meanwhile
        self.post, self.close = ticket.post, ticket.close

    def claim(self) -> int:
        claimed = self._ticket.claim()
        if claimed and self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()
        return claimed


class Threaded(Protocol):
    """A thread, of `libexo.ipc` or of `libexo.aio`."""

    core: Rendezvous


Where = Puppet | Environment | Threaded


def core(where: Where) -> Rendezvous:
    place = where.env if isinstance(where, Puppet) else where
    return (place.thread if isinstance(place, Environment) else place).core


# ------------------------------------------------------------------------------------------------------- to send


def post(a: Puppet, b: Puppet, *words: int, kind: PacketKind = CALL, timed: bool = False) -> Outgoing:
    return core(a).post(b.thread, Message(words=words), kind, timed=timed)


def post_message(where: Where, to: int, message: Message, kind: PacketKind, **how: Any) -> Outgoing:  # noqa: ANN401
    return core(where).post(to, message, kind, **how)


def packet(a: Puppet, b: Puppet, head: object, *strings: bytes) -> Link:
    """Put any frames into b's inbox, under a's binding."""
    link = core(a).link(b.thread)
    data = head if isinstance(head, bytes) else msgspec.msgpack.encode(head)
    assert link.channel.send((data, *strings))
    return link


def pump(where: Where) -> None:
    core(where).pump()


def pump_gate(where: Where) -> None:
    core(where).pump_gate()


def pump_link(where: Where, link: Link) -> None:
    core(where).pump_link(link)


def count_pumps(where: Where, counted: Callable[[], object]) -> None:
    """Have *counted* called each time that everything is taken in."""
    rendezvous = core(where)
    pump = rendezvous.pump

    def also() -> None:
        counted()
        pump()

    rendezvous.pump = also  # type: ignore[method-assign]


def pumped(a: Puppet, exchange: Outgoing) -> Outgoing:
    """Take in what has come back, and return *exchange*."""
    core(a).pump()
    return exchange


def came_back(link: Link) -> list[Packet]:
    """Return what has come back on *link*, before anybody looks at it."""
    packets = []
    while (frames := link.channel.receive()) is not None:
        packets.append(msgspec.msgpack.decode(frames[0], type=Packet))
    return packets


def withdraw(where: Where, exchange: Outgoing, only: Phase | None = None) -> Phase | None:
    return core(where).withdraw(exchange, only)


def give_up(where: Where, exchange: Outgoing, why: str) -> int:
    return core(where).give_up(exchange, why)


def abandon(where: Where, exchange: Outgoing) -> None:
    core(where).abandon(exchange)


def look_after(where: Where, exchange: Outgoing) -> Outgoing:
    """Find out what became of *exchange*, whose link fell, and return it."""
    core(where).look_after(exchange)
    return exchange


def link(where: Where, to: int) -> Link:
    return core(where).link(to)


def links(where: Where) -> dict[int, list[Link]]:
    """Return the bindings there are, by partner."""
    return core(where).links


def waiting(where: Where) -> list[Link]:
    """Return the links something may come back on."""
    return core(where).links.that_wait()


def bind(where: Where, to: int) -> Link:
    """Bind again, and send over that from now on."""
    made = core(where).links.bind(to)
    core(where).links.prefer(made)
    return made


def break_link(where: Where, link: Link) -> None:
    core(where).break_link(link)


def announce_ring(where: Where, link: Link) -> None:
    core(where).announce_ring(link)


def forwarded(where: Where) -> list[Outgoing]:
    """Return the calls that others are to answer."""
    return list(core(where)._forwarded)


# ------------------------------------------------------------------------------------------ to receive and answer


def open_inbox(where: Where) -> Inbox:
    return core(where).open_inbox()


def look(where: Where) -> None:
    """Take in what has arrived, to be held."""
    core(where).look()


def take(where: Where, sender: int = ANY_THREAD) -> tuple[int, Message] | None:
    return core(where).take(sender)


def take_plain(where: Where) -> tuple[int, int] | None:
    """Take the next message as a server does, if it is a plain request: return its kind and number."""
    found = core(where).get()
    return None if found is None else (found[1] >> 48 & 0xFFFF, found[2])


def taken(b: Puppet, sender: int = ANY_THREAD) -> tuple[int, ...] | None:
    """Take the next message; return its words."""
    found = core(b).take(sender)
    return found[1].words if found is not None else None


def message(b: Puppet, sender: int = ANY_THREAD) -> Message:
    """Take the next message, which is there."""
    found = core(b).take(sender)
    assert found is not None
    return found[1]


def origin(b: Puppet, sender: int = ANY_THREAD) -> Origin:
    """Take the next message; return the way back to its sender."""
    found = message(b, sender).origin
    assert found is not None
    return found


def next(where: Where, sender: int) -> Arrival | None:  # noqa: A001 - as the rendezvous has it
    return core(where).next(sender)


def has(where: Where, sender: int) -> bool:
    return core(where).has(sender)


def comes(where: Where, sender: int, since: int) -> bool:
    return core(where).comes(sender, since)


def held(where: Where) -> int:
    """Return how many messages are held."""
    return len(core(where).held)


def weight(where: Where) -> int:
    """Return what they weigh."""
    return core(where).held.weight


def held_back(where: Where) -> tuple[Peer, Origin]:
    """Return whose the one message is that is held, and the way back to its sender."""
    [arrival] = core(where).held
    assert arrival.peer is not None
    return arrival.peer, core(where).origin(arrival)


def claim_held(where: Where) -> bool:
    """Take the first message that is held, if its sender has it up still."""
    return core(where)._claim(core(where).held.popleft())


def hold_at_most(where: Where, room: int) -> None:
    core(where).holds = room


def want(where: Where, window: Callable[[Packet], int]) -> None:
    """Take as many capabilities with a message as *window* says."""
    core(where).window = window


def answer(where: Where, to: Origin | None, message: Message, **how: Any) -> Exchange:  # noqa: ANN401
    assert to is not None
    return core(where).answer(to, message, **how)


def back(b: Puppet, origin: Origin, head: object, *strings: bytes) -> None:
    """Send any frames back to the sender of what b took."""
    assert origin.peer is not None
    data = head if isinstance(head, bytes) else msgspec.msgpack.encode(head)
    assert core(b).send_back(origin.peer.token, (data, *strings))


def forward(where: Where, origin: Origin, to: int) -> Exchange | None:
    return core(where).forward(origin, to)


def recheck(where: Where, origin: Origin) -> None:
    core(where).recheck(origin)


def answers_under_way(where: Where) -> int:
    return len(core(where)._answers)


def peers(where: Where) -> list[Peer]:
    """Return the senders bound to us, as far as was taken in."""
    return list(core(where).peers.known.values())


def rings(where: Where) -> RingInbox | None:
    return core(where).rings


def counted(where: Where, what: str) -> int:
    """Return how often *what* was thrown away."""
    return core(where).statistics[what]


def changes(where: Where) -> int:
    """Return how often something was taken in."""
    return core(where).changes


def handle_before_waiting(where: Where, handler: Callable[[], object]) -> None:
    """Have *handler* run, as that of a signal, when the host is about to wait the next time, or waits."""
    its = core(where)
    wait = its.wait

    def interrupted(sources: Sequence[Source], deadline: int | None) -> bool:
        its.wait = wait
        handler()
        return wait(sources, deadline)

    its.wait = interrupted


def handle_before_sending(where: Where, handler: Callable[[], object]) -> None:
    """Have *handler* run between the number of the next message and its way."""
    for each in core(where).links.all():
        each.sequence = Numbers(each.sequence, handler)  # type: ignore[assignment]
