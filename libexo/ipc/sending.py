"""The sending half of the rendezvous: links to partners, messages under way, and what comes back for them.

A sender binds once; its link to the partner holds the channel and two tickets. A message is posted and becomes
an `Exchange`, which ends when its answer, its acknowledgement or bad news arrives, or when it is withdrawn. What
it offered and its receiver did not take is offered no longer when it ends otherwise than well.
"""

import struct
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from kernel.abi.errors import Refusal
from kernel.abi.ids import show_thread
from kernel.abi.limits import MAX_OFFERS
from kernel.abi.messages import STATUS_BIAS, XFER_AT, IpcCode, Packet, Phase
from libexo.errors import (
    BrokenRing,
    BrokenStream,
    ExoError,
    IpcError,
    IpcTimeout,
    NoPartner,
    NoRedirector,
    TrapRefused,
    error_word,
    transfer_error,
)
from libexo.ipc import message as messages
from libexo.ipc.exchange import Exchange, Link, Links
from libexo.ipc.message import Message
from libexo.ipc.packing import NOBODY, check, pack, plain, take_back, unpack
from libexo.ipc.standing import Row
from libexo.ipc.turning import Turning
from libexo.ipc.wire import (
    CALL,
    DECODE,
    ENCODE,
    MALFORMED,
    PROPAGATED,
    REFUSED,
    REPLY,
    RING,
    SEND,
    TAKEN,
    TELLS,
    TIMED,
    TURN,
)
from libexo.transport.ring.line import open_line
from libexo.transport.ring.spinning import Patience

if TYPE_CHECKING:
    from collections import Counter

    from libexo.attachment import Attachment
    from libexo.transport.base import Source

RECHECK = 1_000_000
"""After a withdrawal found nothing, how long until it is tried again, in ns: see `rendezvous`, *Withdrawing*."""
OVERDUE = 1_000_000_000
"""How long what the partner claimed may be on its way, in ns: after that, he does not keep to the rules."""
BATCH = 1024
"""Packets taken in at a time: however fast a partner sends, there is an end to that."""

_TOKEN = struct.Struct("<QQ")
_ANSWER = {CALL: REPLY, SEND: TAKEN, RING: TAKEN}


class Sending:
    """What one thread sends."""

    def __init__(
        self,
        environment: "Attachment",
        thread: int,
        statistics: "Counter[str]",
        news: Callable[[], None],
    ) -> None:
        """Send as *thread* of *environment*; *news* takes in what the kernel has to say."""
        self._environment = environment
        self._host = environment.host
        self._kip = environment.kip
        self._sys = environment.sys
        self.thread = thread
        self._statistics = statistics
        self._news = news
        self.row = Row(environment.page, thread)
        self._links = Links()
        self.known, self.links, self.prefer = self._links.known, self._links.all, self._links.prefer
        self._fallen: list[Link] = []
        """Links that fell; on some of them something is under way even so."""
        self.turning = Turning(environment, self)
        self.epoch = 0
        """The binding epoch in which every link was known to stand."""

    # ------------------------------------------------------------------------------------------------- links

    def link(self, to: int, *, timed: bool = False) -> Link:
        """Return a link to thread *to*, binding if need be; a *timed* message wants one with free tickets.

        Raises NoPartner; NoRedirector while messages of this environment wait for another redirector.
        """
        if self.epoch != self._kip.epoch:
            # A binding fell, perhaps that to a server just restarted: better to know before a message is sent.
            self.epoch = self._environment.kip.epoch
            self._news()
        links = self._links.get(to)
        if links is not None:
            for link in links:
                if not timed or link.timed is None or self._resolved(link, link.timed):
                    return link
        return self.bind(to)

    def _resolved(self, link: Link, exchange: Exchange) -> bool:
        """Say whether the tickets of *link* are free: the one they were up for is deserted, and has ended now."""
        if exchange.deserted:
            self.pump(link)
            self.withdraw(exchange)
        return link.timed is None

    def bind(self, to: int, ring: int = 0) -> Link:
        """Return a new link to thread *to*; *ring*: handle of the extent that pays for one, which is not used yet.

        Raises NoPartner, NoRedirector; TrapRefused when that extent is none for a ring.
        """
        try:
            bound, descriptors = self._sys.bind(to, self.thread, ring)
        except TrapRefused as refused:
            if ring and refused.refusal not in NOBODY:
                raise
            error = NoRedirector if refused.refusal == Refusal.NO_REDIRECTOR else NoPartner
            raise error(Phase.SEND, f"thread {show_thread(to)}: {refused}") from refused
        host = self._host
        channel = host.transport.channel(bound.address, bound.token)
        tickets = host.ticket(descriptors[0]), host.ticket(descriptors[1])
        link = Link(to, bound.thread, bound.token, channel, tickets)
        if ring:
            link.line = open_line(host, bound.ring, descriptors[2:], receiver=False)
        self._links.setdefault(to, []).append(link)
        return link

    def break_link(self, link: Link) -> None:
        """Use *link* no more: its partner does not keep to the rules, and hears no more of what is under way."""
        if link in self._links.get(link.partner, ()):
            self.unlink(link)
        elif not link.fallen:
            return  # it is just falling
        self._statistics["broken_link"] += 1
        text = f"thread {show_thread(link.partner)} does not keep to the rules"
        for exchange in list(link.exchanges.values()):
            self.fail(exchange, exchange.cut_off(text))

    def unlink(self, link: Link) -> None:
        """Give *link* up; it closes when nothing is under way on it."""
        self._links.discard(link)
        with suppress(ExoError):  # it fell meanwhile
            self._sys.unbind(link.token)
        self._let_fall(link)

    def unlink_idle(self, to: int) -> None:
        """Give up the links to thread *to* on which nothing is under way."""
        for link in [link for link in self._links.get(to, ()) if not link.exchanges]:
            self.unlink(link)

    def _let_fall(self, link: Link) -> None:
        link.fallen = True
        if link.paid:
            with suppress(ExoError):  # it may have gone with us
                self._sys.drop(link.paid)
        self._fallen = [fallen for fallen in (*self._fallen, link) if fallen.exchanges]
        if not link.exchanges:
            link.settle()

    # ---------------------------------------------------------------------------------------------- messages

    def post(
        self,
        to: int,
        message: Message,
        kind: int,
        *,
        timed: bool,
        tells: bool = False,
        virtual: int = 0,
        apart: bool = False,
        accepts: int = MAX_OFFERS,
    ) -> Exchange:
        """Send *message* on its way. Raises NoPartner, ValueError, TrapRefused (for its capabilities).

        *timed*: it may be withdrawn. *tells*: a call's receiver says when it took it. *virtual*: the thread it
        is sent for (X.2 propagation). *apart*: the answer is left as a packet, its items not taken yet.
        *accepts*: how many capabilities the answer may bring.
        """
        messages.check(message)
        link = self.link(to, timed=timed)
        parts, strings, given = pack(self._sys, message, link.receiver)
        exchange = Exchange(link, int(kind), next(link.sequence), timed, apart, given, accepts, virtual)
        flags = message.xfer << XFER_AT | (TIMED if timed else 0)
        if tells or virtual:
            flags |= (TELLS if tells else 0) | (PROPAGATED if virtual else 0)
        words, typed = message.words, message.typed
        packet = Packet(
            exchange.kind,
            exchange.sequence,
            message.label,
            words + typed if typed else words,
            parts,
            flags,
            len(typed),
            virtual,
            to if link.receiver != to else 0,
        )
        if timed:
            link.timed = exchange
            link.send_ticket.post(exchange.sequence)
        link.exchanges[exchange.sequence] = exchange
        encoded = ENCODE(packet)
        if not link.channel.send((encoded, *strings) if strings else (encoded,)):
            self.fail(exchange, IpcError(IpcCode.OVERFLOW, Phase.SEND, f"queue to {show_thread(to)} is full"))
        return exchange

    def ask(self, link: Link, kind: int) -> Exchange:
        """Send a message of *kind* that says nothing more over *link*."""
        exchange = Exchange(link, kind, next(link.sequence), False, False, (), 0)
        link.exchanges[exchange.sequence] = exchange
        link.channel.send((ENCODE(Packet(kind, exchange.sequence)),))
        return exchange

    def withdraw(self, exchange: Exchange, only: Phase | None = None) -> Phase | None:
        """Try to take a timed message back, or to wait no longer for its answer; *only* one of them.

        Returns the phase it was in; None: it is being taken, or answered, just now, or not in *only* that phase.
        """
        if exchange.sequence not in exchange.link.exchanges:
            return None
        if exchange.claimed is None:
            exchange.claim(only)
        if exchange.claimed is not None:
            self._end(exchange)
            exchange.over = True
        return exchange.claimed

    def give_up(self, exchange: Exchange, why: str, only: Phase | None = None) -> int:
        """The time is up: withdraw the message, or find that it was taken; *only*: as for `withdraw`.

        Raises IpcTimeout, or returns how long to wait before this is called again, in ns.
        """
        who = show_thread(exchange.link.partner)
        phase = self.withdraw(exchange, only)
        if phase is Phase.SEND:
            raise IpcTimeout(phase, f"thread {who} did not take the message {why}")
        if phase is Phase.RECEIVE:
            raise IpcTimeout(phase, f"thread {who} took the message, but did not answer {why}")
        now = self._host.now()
        exchange.overdue = exchange.overdue or now
        if now - exchange.overdue > OVERDUE:
            self._end(exchange)
            self.break_link(exchange.link)
            if exchange.kind == CALL:
                raise IpcTimeout(Phase.RECEIVE, f"thread {who} claimed the answer, and was silent then {why}")
            exchange.taken = exchange.done = True  # he has it; that he does not say so changes nothing
        return RECHECK

    def abandon(self, exchange: Exchange) -> None:
        """Wait for the answer no longer: the message is withdrawn if it can be, what comes is thrown away."""
        if exchange.timed and self.withdraw(exchange) is None:
            exchange.deserted = True  # its tickets are in the receiver's hands just now
        else:
            self._end(exchange)

    # ----------------------------------------------------------------------------------------- what comes back

    def links_that_wait(self) -> list[Link]:
        """Return the links something may come back on."""
        return [link for link in self.links() + self._fallen if link.exchanges]

    def pump(self, link: Link) -> None:
        """Take in what has come back on *link*, a batch at most."""
        for _ in range(BATCH):
            try:
                if not link.exchanges or (frames := link.channel.receive()) is None:
                    return
            except (BrokenRing, BrokenStream):
                self.break_link(link)
                return
            try:
                packet = DECODE(frames[0])
            except MALFORMED:
                self._statistics["malformed"] += 1
                continue
            exchange = link.exchanges.get(packet.sequence)
            if exchange is not None and packet.kind == _ANSWER[exchange.kind]:
                self._answered(exchange, packet, frames)
            else:
                self._came(link, exchange, packet)

    def _came(self, link: Link, exchange: Exchange | None, packet: Packet) -> None:
        """Take in what ends no message well."""
        kind = packet.kind
        if exchange is None:
            self._unexpected(link, packet)
        elif kind == TAKEN:
            exchange.taken = True
        elif kind == REFUSED and packet.words:
            self._refused(exchange, packet.words[0])
        elif kind == TURN and exchange.kind == CALL and packet.words:
            if not self.turning.turn(exchange, packet.words[0]):
                self._unexpected(link, packet)
        else:
            self._unexpected(link, packet)

    def _unexpected(self, link: Link, packet: Packet) -> None:
        """Throw away what nobody waits for."""
        self._statistics["unexpected_answer"] += 1
        self.acknowledge(link, packet, refused=error_word(IpcCode.ABORTED, Phase.SEND))

    def _answered(self, exchange: Exchange, packet: Packet, frames: list[bytes]) -> None:
        items = plain(packet, frames)
        if items is not None and exchange.kind == CALL and not (
            packet.flags or exchange.apart or exchange.deserted
        ):  # fmt: skip
            exchange.reply = Message(packet.label, packet.words, items)
        elif not self._take_answer(exchange, packet, frames):
            return
        exchange.taken = exchange.done = True
        if exchange.link.standing is not None:
            exchange.link.standing.doubted = False
        if exchange.kind == RING:
            exchange.link.use_ring(Patience(self._host.looks))
        self._close(exchange)

    def _take_answer(self, exchange: Exchange, packet: Packet, frames: list[bytes]) -> bool:
        """Take *packet* for the answer it is. False: it could not be taken, and both sides know."""
        if exchange.link.fallen and packet.flags & TELLS:  # who gave it knows that the way fell
            text = f"the binding to thread {show_thread(exchange.link.partner)} fell"
            self.fail(exchange, NoPartner(Phase.RECEIVE, text))
            return False
        try:
            check(packet)
            if exchange.deserted:
                self._unexpected(exchange.link, packet)
            elif exchange.apart:
                exchange.answer = packet, frames
            elif exchange.kind == CALL:
                exchange.reply = self._read(exchange, packet, frames)
        except (ValueError, TrapRefused) as error:
            self._cut(exchange, packet, error)
            return False
        return True

    def _read(self, exchange: Exchange, packet: Packet, frames: list[bytes]) -> Message:
        """Return the answer *packet* is, and say that it was taken. Raises ValueError, TrapRefused."""
        words, typed = packet.words, packet.typed
        items = unpack(self._sys, packet, frames, exchange.link.receiver, exchange.accepts)
        if packet.flags:
            self.acknowledge(exchange.link, packet)
        if not typed:
            return Message(packet.label, words, items)
        untyped = len(words) - typed
        return Message(packet.label, words[:untyped], items, typed=words[untyped:])

    def _cut(self, exchange: Exchange, packet: Packet, error: Exception) -> None:
        """The answer could not be taken: say so to both sides."""
        self._statistics["malformed"] += 1
        self.acknowledge(exchange.link, packet, refused=error_word(IpcCode.OVERFLOW, Phase.SEND))
        text = f"the answer of thread {show_thread(exchange.link.receiver)} could not be taken: {error}"
        self.fail(exchange, IpcError(IpcCode.OVERFLOW, Phase.RECEIVE, text))

    def acknowledge(self, link: Link, packet: Packet, refused: int = 0) -> None:
        """Tell who sent the answer *packet*, if he asked, that it was taken, or *refused* with an error word."""
        if packet.kind == REPLY and packet.flags & TELLS:
            kind, words = (REFUSED, (refused,)) if refused else (TAKEN, ())
            link.channel.send((ENCODE(Packet(kind, packet.sequence, 0, words)),))

    def _refused(self, exchange: Exchange, word: int) -> None:
        if exchange.kind == RING:
            self._statistics["ring_refused"] += 1
        text = f"thread {show_thread(exchange.link.partner)} could not take the whole message"
        self.fail(exchange, transfer_error(word, Phase.SEND, text))

    def partner_gone(self, thread: int, status: int = 0, fault: int = 0) -> None:
        """End every exchange with *thread*; what it answered before it went is still taken.

        *status* and *fault*: how its environment ended, if it did, as the kernel tells it.
        Where only the way to it changed (another redirector), a call that was turned to it, or that it is answering
        just now, goes on.
        """
        self.turning.ended(thread)
        end = (status - STATUS_BIAS, fault) if status else ()
        lives = self._kip.thread(thread) is not None
        for link in self._links.take(thread):
            self._fell(link, f"thread {show_thread(thread)} ended meanwhile", end, lives=lives)

    def unbound(self, receiver: int, *token: int) -> None:
        """Our binding of *token* to *receiver* was ended; others stand. What was answered before is still taken."""
        for link in self._links.take(receiver, _TOKEN.pack(*token)):
            self._fell(link, f"the binding to thread {show_thread(receiver)} was ended")

    def _fell(self, link: Link, why: str, end: tuple[int, ...] = (), *, lives: bool = False) -> None:
        self.pump(link)
        link.end = end
        for exchange in [exchange for exchange in link.exchanges.values() if not exchange.turned]:
            if not (lives and exchange.is_coming()):
                self.fail(exchange, exchange.cut_off(why))
        self._let_fall(link)

    def fail(self, exchange: Exchange, error: IpcError | None) -> None:
        """End *exchange* with *error*; None: it was taken, and that is all its receiver will ever say of it."""
        if exchange.link.timed is exchange:
            exchange.link.send_ticket.claim()
            exchange.link.answer_ticket.claim()
        exchange.error, exchange.done, exchange.taken = error, True, exchange.taken or error is None
        self._end(exchange) if error else self._close(exchange)

    def _end(self, exchange: Exchange) -> None:
        """End *exchange* otherwise than well: what it offered is offered no longer."""
        self._close(exchange)
        if exchange.given:
            take_back(self._sys, exchange.given)

    def _close(self, exchange: Exchange) -> None:
        link = exchange.link
        link.exchanges.pop(exchange.sequence, None)
        if link.timed is exchange:
            link.timed = None
        if exchange.turned:
            self.turning.calls.pop(exchange, None)
        if not link.exchanges:
            link.settle()

    def sources(self) -> "list[Source]":
        """Return everything that may bring something."""
        return [link.channel for link in self.links_that_wait()]

    def close(self) -> None:
        """Close every link."""
        for link in self.links() + [fallen for fallen in self._fallen if fallen.exchanges]:
            link.close()
        self._links.clear()
        self._fallen.clear()
        self.turning.calls.clear()
