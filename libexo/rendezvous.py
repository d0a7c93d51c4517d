"""The rendezvous: the non-blocking core of IPC, under both faces (`libexo.ipc` waits, `libexo.aio` awaits).

*Theory of operation.* A sender binds once; its link to the partner holds the channel and the ticket. A message
is posted and becomes an `Exchange`, which ends when its answer, its acknowledgement or bad news arrives. A
receiver takes messages out of its inbox one by one, as it asks for them: what it did not ask for stays there.

*Withdrawing.* Taking a message and giving up on it exclude each other by the ticket, a counter both ends hold.
The sender of a message that may be withdrawn posts the sequence number into it; whoever claims it decides. A
receiver that claims another number than it wanted (the message in its hand was withdrawn, the number is of a
later one) puts it back; the sender, finding nothing, asks again. So a withdrawn message is never delivered
later, and a taken one is never reported as timed out.

*Trust.* The token a message comes under is identified by the kernel, once; the memory of it is dropped when the
KIP's binding epoch changes. A capability that a message names must, by the kernel's word, come from its sender.
Everything else in a packet is the sender's claim: what does not decode is counted and thrown away.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from kernel.abi import traps
from kernel.abi.gate import Upcall
from kernel.abi.ids import ANY_THREAD, show_thread
from kernel.abi.limits import SHORT_STRING, TOKEN_BYTES
from kernel.abi.messages import (
    GrantPart,
    IpcCode,
    Label,
    MapPart,
    Packet,
    PacketFlags,
    PacketKind,
    Part,
    Phase,
    ShortPart,
    StringPart,
)
from libexo import message as messages
from libexo.errors import GateClosed, IpcError, NoPartner, TrapRefused
from libexo.exchange import Exchange, Link, Peer
from libexo.message import GrantItem, Item, MapItem, Message, Origin

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.host.base import Source
    from libexo.transport.base import Inbox

PENDING = 4096
"""Messages held for later receives while a closed one looks for its own; beyond, the oldest sender waits."""

SWEEP = 32
"""Peers of an earlier epoch that make a sweep worth its trap."""

# Plain numbers: msgspec writes them faster than members of an enum, and Python compares them faster.
_SEND, _CALL, _REPLY, _TAKEN = (
    int(kind) for kind in (PacketKind.SEND, PacketKind.CALL, PacketKind.REPLY, PacketKind.TAKEN)
)
_ANSWER = {_CALL: _REPLY, _SEND: _TAKEN}
_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(Packet).decode
_UPCALL = msgspec.msgpack.Decoder(Upcall)
_TIMED = int(PacketFlags.TIMED)


class Rendezvous:
    """One thread's sending and receiving, without waiting."""

    def __init__(self, environment: "Environment", thread: int) -> None:
        """Be the core of *thread* of *environment*."""
        self.thread = thread
        self.statistics: Counter[str] = Counter()
        """What was thrown away, and why."""
        self._environment = environment
        self._host = environment.host
        self._links: dict[int, list[Link]] = {}
        self._inbox: Inbox | None = None
        self._shows_all = False
        self._epoch = 0
        self._peers: dict[bytes, Peer] = {}
        self._held: deque[tuple[int, Message]] = deque()
        """Messages that arrived while another was looked for, and messages of the kernel."""

    # ------------------------------------------------------------------------------------------------ sending

    def post(self, to: int, message: Message, kind: PacketKind, *, timed: bool) -> Exchange:
        """Send *message* on its way. Raises NoPartner, ValueError, TrapRefused (for its capabilities)."""
        messages.check(message)
        link = self.link(to, timed=timed)
        parts, strings, given = self._parts(message, to, timed=timed)
        link.given += given
        exchange = Exchange(link, kind, timed=timed, given=given)
        flags = _TIMED if timed else 0
        packet = Packet(exchange.kind, exchange.sequence, message.label, message.words, parts, flags)
        if timed:
            link.timed = True
            link.ticket.post(exchange.sequence)
        link.exchanges[exchange.sequence] = exchange
        if not link.channel.send((_ENCODE(packet), *strings)):
            self._fail(
                exchange, IpcError(IpcCode.OVERFLOW, Phase.SEND, f"queue to {show_thread(to)} is full")
            )
        return exchange

    def link(self, to: int, *, timed: bool = False) -> Link:
        """Return a link to thread *to*, binding if need be; a *timed* message wants one with a free ticket."""
        if self._epoch != self._environment.kip.epoch:
            # A binding fell, perhaps that to a server just restarted: better to know before a message is sent.
            self._epoch = self._environment.kip.epoch
            self.pump_gate(surely=True)
        links = self._links.get(to)
        if links is not None:
            for link in links:
                if not (timed and link.timed):
                    return link
        return self._bind(to)

    def linked(self, to: int) -> bool:
        """Say whether there is a link to thread *to*: one that ended has none."""
        return to in self._links

    def _bind(self, to: int) -> Link:
        try:
            bound, ticket = self._environment.sys.bind(to)
        except TrapRefused as refused:
            raise NoPartner(Phase.SEND, f"thread {show_thread(to)}: {refused}") from refused
        channel = self._host.transport.channel(bound.number, bound.token)
        link = Link(to, bound.token, channel, self._host.ticket(ticket))
        self._links.setdefault(to, []).append(link)
        return link

    def withdraw(self, exchange: Exchange) -> bool:
        """Try to take a timed message back. False: it was taken, and its exchange goes on."""
        claimed = exchange.link.ticket.claim()
        if claimed != exchange.sequence:
            return False
        self._close(exchange)
        for handle in exchange.given:
            exchange.link.given.remove(handle)
            self._environment.sys.drop(handle)
        return True

    def abandon(self, exchange: Exchange) -> None:
        """Wait for the answer no longer: if it comes, it is thrown away."""
        self._close(exchange)

    def answer(self, origin: Origin, message: Message) -> None:
        """Answer a received message. Raises NoPartner when its sender is gone or waits for none."""
        if origin.peer is None:
            self._environment.sys.acknowledge(origin.sender, message.words)
            return
        messages.check(message)
        if not origin.answers or self._inbox is None:
            raise NoPartner(Phase.SEND, f"thread {show_thread(origin.sender)} waits for no answer")
        parts, strings, _ = self._parts(message, origin.sender, timed=False)
        packet = Packet(_REPLY, origin.sequence, message.label, message.words, parts)
        if not self._inbox.send(origin.peer.token, (_ENCODE(packet), *strings)):
            raise NoPartner(Phase.SEND, f"thread {show_thread(origin.sender)} is gone")

    def _parts(
        self, message: Message, to: int, *, timed: bool
    ) -> tuple[tuple[Part, ...], Sequence[bytes], tuple[int, ...]]:
        """Return the parts for *message*'s items, its strings, and the capabilities derived for it.

        What a *timed* message maps goes through a derivative of our own, so that it can be withdrawn.
        """
        items = message.items
        if not items:
            return (), (), ()
        if len(items) == 1 and type(items[0]) is bytes and len(items[0]) <= SHORT_STRING:
            return (ShortPart(items[0]),), (), ()  # what stubs send, nearly always
        parts: list[Part] = []
        strings: list[bytes] = []
        given: list[int] = []
        sys = self._environment.sys
        for item in items:
            if isinstance(item, MapItem):
                through = item.handle
                if timed:
                    through = sys.derive(item.handle, sys.inspect(item.handle).rights)
                    given.append(through)
                parts.append(MapPart(sys.transfer(through, to, item.rights)))
            elif isinstance(item, GrantItem):
                parts.append(GrantPart(sys.transfer(item.handle, to, item.rights, grant=True)))
            elif len(item) <= SHORT_STRING:
                parts.append(ShortPart(bytes(item)))
            else:
                parts.append(StringPart(len(item)))
                strings.append(item)
        return tuple(parts), strings, tuple(given)

    # ---------------------------------------------------------------------------------------------- receiving

    def take(self, sender: int) -> tuple[int, Message] | None:
        """Return the next message from *sender* (ANY_THREAD: from anybody), or None."""
        if self._held and (found := self._take_held(sender)) is not None:
            return found
        inbox = self._inbox or self.open_inbox()
        while len(self._held) < PENDING and (arrived := inbox.receive()) is not None:
            received = self._accept(*arrived)
            if received is None:
                continue
            if sender in (ANY_THREAD, received[0]):
                if self._claim(received[1]):
                    return received
            else:
                self._held.append(received)
        return None

    def must_look(self) -> bool:
        """Whether there may be a message that waiting would not show."""
        return not self._shows_all or bool(self._held)

    def open_inbox(self) -> "Inbox":
        """Open the receiving end, if it is not open yet."""
        if self._inbox is None:
            number, descriptor = self._environment.sys.endpoint()
            self._inbox = self._host.transport.inbox(number, descriptor)
            self._shows_all = getattr(self._inbox, "shows_all", False)
        return self._inbox

    def _take_held(self, sender: int) -> tuple[int, Message] | None:
        kept: deque[tuple[int, Message]] = deque()
        found = None
        while self._held and found is None:
            source, message = self._held.popleft()
            if sender not in (ANY_THREAD, source):
                kept.append((source, message))
            elif self._claim(message):
                found = source, message
        self._held.extendleft(reversed(kept))
        return found

    def _accept(self, token: bytes, frames: list[bytes]) -> tuple[int, Message] | None:
        """Check what arrived under *token*; return it as a message, or count and drop it."""
        peer = self._peers.get(token)
        if peer is None or peer.epoch != self._environment.kip.epoch:
            peer = self._identify(token, peer)
        if peer is None:
            self._throw_away("unknown_token")
            return None
        try:
            packet = _DECODE(frames[0])
            items = self._items(packet, frames, peer.thread) if packet.parts or len(frames) > 1 else ()
        except (msgspec.DecodeError, ValueError, IndexError, TrapRefused):
            self._throw_away("malformed")
            return None
        is_call = packet.kind == _CALL
        is_message = is_call or packet.kind == _SEND
        if not is_message or packet.sequence <= peer.last:
            self._throw_away("duplicate" if is_message else "malformed")
            return None
        peer.last = packet.sequence
        origin = Origin(peer, peer.thread, packet.sequence, is_call, bool(packet.flags & _TIMED))
        return peer.thread, Message(packet.label, packet.words, items, origin)

    def _throw_away(self, why: str) -> None:
        self.statistics[why] += 1

    def _identify(self, token: bytes, peer: Peer | None) -> Peer | None:
        """Ask the kernel whose binding *token* is; *peer* is what it was in an earlier epoch."""
        epoch = self._environment.kip.epoch
        if len(token) != TOKEN_BYTES:
            return None  # chosen by a sender that has no binding: to ask the kernel about it would be a fault
        try:
            identified, ticket = self._environment.sys.identify(token)
        except (TrapRefused, GateClosed):
            self._forget(token)
            return None
        if peer is not None:
            self._host.close_descriptor(ticket)
        else:
            peer = self._peers[token] = Peer(identified.thread, token, self._host.ticket(ticket))
            self._sweep(epoch)
        peer.epoch = epoch
        return peer

    def _sweep(self, epoch: int) -> None:
        """Forget peers that are gone, a batch at a time, so that those who come and go leave nothing behind."""
        stale = [p.token for p in self._peers.values() if p.epoch != epoch and p.epoch][:SWEEP]
        if len(stale) < SWEEP:
            return
        outcomes, tickets = self._environment.sys.batch([traps.Identify(token) for token in stale])
        for token, outcome in zip(stale, outcomes, strict=True):
            if isinstance(outcome, TrapRefused):
                self._forget(token)
            else:
                self._peers[token].epoch = epoch
        for ticket in tickets:
            self._host.close_descriptor(ticket)

    def _forget(self, token: bytes) -> None:
        peer = self._peers.pop(token, None)
        if peer is not None:
            peer.ticket.close()

    def _items(self, packet: Packet, frames: list[bytes], sender: int) -> tuple[Item, ...]:
        """Return the items of *packet*. Raises ValueError when a part is not what it says."""
        parts = packet.parts
        if len(parts) == 1 and len(frames) == 1 and type(parts[0]) is ShortPart:
            return (parts[0].string,)
        strings = iter(frames[1:])
        items = tuple(self._item(part, strings, sender) for part in parts)
        if next(strings, None) is not None:
            raise ValueError("a frame that no part speaks of")
        return items

    def _item(self, part: Part, strings: Iterator[bytes], sender: int) -> Item:
        if isinstance(part, StringPart):
            string = next(strings, None)
            if string is None or len(string) != part.size:
                raise ValueError("a string was cut")
            return string
        if isinstance(part, ShortPart):
            return part.string
        inspection = self._environment.sys.inspect(part.handle)
        if inspection.origin != sender:
            raise ValueError(f"capability {part.handle:#x} did not come from the sender")
        item = GrantItem if isinstance(part, GrantPart) else MapItem
        return item(part.handle, inspection.rights)

    def _claim(self, message: Message) -> bool:
        """Take *message* for good, and acknowledge it. False: its sender withdrew it."""
        origin = message.origin
        if origin is None or origin.peer is None or self._inbox is None:
            return True
        if origin.timed:
            claimed = origin.peer.ticket.claim()
            if claimed != origin.sequence:
                if claimed:
                    origin.peer.ticket.post(claimed)
                self._throw_away("withdrawn")
                return False
        if not origin.answers:
            self._inbox.send(origin.peer.token, (_ENCODE(Packet(_TAKEN, origin.sequence)),))
        return True

    # ------------------------------------------------------------------------------------------------ pumping

    def pump(self) -> None:
        """Take in whatever has arrived: answers on every link, and upcalls. Raises GateClosed."""
        for links in list(self._links.values()):
            for link in links:
                if link.exchanges:
                    self.pump_link(link)
        self.pump_gate()

    def pump_link(self, link: Link) -> None:
        """Take in the answers that have arrived on *link*."""
        while link.exchanges and (frames := link.channel.receive()) is not None:
            try:
                packet = _DECODE(frames[0])
                items = self._items(packet, frames, link.partner) if packet.parts or len(frames) > 1 else ()
            except (msgspec.DecodeError, ValueError, IndexError, TrapRefused):
                self._throw_away("malformed")
                continue
            exchange = link.exchanges.get(packet.sequence)
            if exchange is None or packet.kind != _ANSWER[exchange.kind]:
                self._throw_away("unexpected_answer")
                continue
            exchange.reply, exchange.done = Message(packet.label, packet.words, items), True
            self._close(exchange)

    def pump_gate(self, *, surely: bool = False) -> None:
        """Take in the upcalls that have arrived, *surely* all of them. Raises GateClosed."""
        for data in self._environment.gate.upcalls(surely=surely):
            upcall = _UPCALL.decode(memoryview(data)[1:])
            if upcall.label == Label.PARTNER_GONE:
                self._partner_gone(upcall.words[0])
            elif not self._environment.upcall(upcall):
                self._hold(upcall)

    def _hold(self, upcall: Upcall) -> None:
        """Keep a message of the kernel until somebody receives it."""
        if len(self._held) >= PENDING:
            self._throw_away("kernel_message")
            return
        items = (upcall.text.encode(),) if upcall.text else ()
        origin = Origin(None, upcall.sender, 0, answers=False)
        self._held.append((upcall.sender, Message(upcall.label, upcall.words, items, origin)))

    def _partner_gone(self, thread: int) -> None:
        """End every exchange with *thread*; what it answered before it went is still taken."""
        for link in self._links.pop(thread, ()):
            self.pump_link(link)
            for exchange in list(link.exchanges.values()):
                phase = Phase.RECEIVE if exchange.kind == PacketKind.CALL else Phase.SEND
                self._fail(exchange, NoPartner(phase, f"thread {show_thread(thread)} ended meanwhile"))
            for handle in link.given:
                with suppress(TrapRefused):  # it went with what it was derived from
                    self._environment.sys.drop(handle)
            link.channel.close()
            link.ticket.close()

    def _fail(self, exchange: Exchange, error: IpcError) -> None:
        exchange.error, exchange.done = error, True
        self._close(exchange)

    def _close(self, exchange: Exchange) -> None:
        exchange.link.exchanges.pop(exchange.sequence, None)
        if exchange.timed:
            exchange.link.timed = False

    # ------------------------------------------------------------------------------------------------ waiting

    def sources(self) -> list["Source"]:
        """Return everything that may bring something: the gate, the inbox if open, links that wait."""
        sources: list[Source] = [self._environment.gate]
        if self._inbox is not None:
            sources.append(self._inbox)
        sources += (link.channel for links in self._links.values() for link in links if link.exchanges)
        return sources

    def close(self) -> None:
        """Close every link and the inbox."""
        for link in [link for links in self._links.values() for link in links]:
            link.channel.close()
            link.ticket.close()
        for peer in self._peers.values():
            peer.ticket.close()
        if self._inbox is not None:
            self._inbox.close()
        self._links.clear()
        self._peers.clear()
        self._inbox = None
