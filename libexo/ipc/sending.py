"""The sending floor of the rendezvous: messages under way, and the packets that come back for them.

A message is posted and becomes an `Outgoing` exchange, which ends when its answer, its acknowledgement or bad news
arrives, or when it is withdrawn. If it ends with an error, its offers are taken back.

*Forwarding.* The receiver of a call may have its sender wait for another thread's answer (X.2: propagation turns
the from-specifier). That answer arrives as a message of its own; we bind to that thread, to hear when it is gone.
"""

import struct
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from kernel.abi.gate import Upcall
from kernel.abi.ids import show_thread
from kernel.abi.limits import MAX_OFFERS
from kernel.abi.messages import STATUS_BIAS, IpcCode, Label, Packet, Phase
from libexo.errors import BrokenRing, BrokenStream, ExoError, IpcError, IpcTimeout, NoPartner, TrapRefused
from libexo.ipc import message as messages
from libexo.ipc import packing
from libexo.ipc.answers import Answering
from libexo.ipc.exchange import BATCH, Link, Outgoing, State
from libexo.ipc.links import Links
from libexo.ipc.message import Message
from libexo.ipc.packing import CALL, ENDS, REFUSED, REPLY, RING, TAKEN, TELLS, TIMED, TURN, TURNED, note
from libexo.transport.ring.spinning import SpinPolicy

if TYPE_CHECKING:
    from libexo.attachment import Attachment

RECHECK = 1_000_000
"""How long after a withdrawal that found nothing the next is tried, in ns: see `rendezvous`, *Withdrawing*."""
OVERDUE = 1_000_000_000
"""How long an answer that the partner claimed may be on its way, in ns; after that, it breaks the rules."""
FORWARDS = 16
"""Threads to which partners forwarded our calls and to which we stay bound, so as to hear of their ends."""

_TOKEN = struct.Struct("<QQ")


class Sending(Answering):
    """Receiving, answering and sending."""

    def __init__(self, environment: "Attachment", thread: int) -> None:
        """Send as *thread* of *environment*."""
        super().__init__(environment, thread)
        self.links = Links(self)
        self._forwarded: dict[Outgoing, None] = {}
        self._heard: deque[int] = deque()
        """Threads we are bound to only because a call was forwarded to them, the oldest first."""

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
    ) -> Outgoing:
        """Send *message* on its way. Raises NoPartner, ValueError, TrapRefused (for its capabilities).

        *timed*: it may be withdrawn. *tells*: the receiver of a call reports when it took it. *virtual*: the thread
        in whose name it is sent (X.2 propagation). *apart*: the answer is left as a packet, its items not taken.
        *accepts*: the most capabilities the answer may bring.
        """
        messages.check(message)
        link = self.link(to, timed=timed)
        link.taken = True  # from its number until it is written: messages go in the order of their numbers
        try:
            kind, sequence, receiver = int(kind), next(link.sequence), link.receiver
            flags = (TIMED if timed else 0) | (TELLS if tells else 0)
            intended = to if receiver != to else 0
            frames, given = packing.outgoing(
                self.sys, message, kind, sequence, receiver, flags, virtual, intended
            )
            exchange = link.exchanges[sequence] = Outgoing(
                kind,
                sequence,
                receiver,
                given,
                link=link,
                timed=timed,
                accepts=accepts,
                virtual=virtual,
                apart=apart,
            )
            if timed:
                link.timed = exchange
                link.tickets.post(sequence)
            sent = link.channel.send(frames)
        finally:
            link.taken = False
        if not sent:
            self.pump_link(link)  # it says so, too, of a receiver that breaks the rules
            if exchange.state is not State.OVER:
                text = f"queue to {show_thread(to)} is full"
                self.fail(exchange, IpcError(IpcCode.OVERFLOW, Phase.SEND, text))
        return exchange

    def link(self, to: int, *, timed: bool = False) -> Link:
        """Return a link to thread *to*, binding if need be; a *timed* message wants one with free tickets.

        Raises NoPartner; NoRedirector while messages of this environment wait for another redirector.
        """
        links = self.links
        if links.epoch != self.kip.epoch:
            links.refresh()
        for link in links.get(to, ()):
            if link.taken:
                continue
            if timed and link.timed is not None and link.timed.deserted:
                self.pump_link(link)  # it may be over by now
                if link.timed is not None:
                    self.withdraw(link.timed)
            if not timed or link.timed is None:
                return link
        return links.bind(to)

    def expect(self, link: Link, kind: int, sequence: int, *, timed: bool = False) -> Outgoing:
        """Return the exchange of message *sequence* of *kind* over *link*. *timed*: its ticket is up."""
        exchange = link.exchanges[sequence] = Outgoing(kind, sequence, link.receiver, link=link, timed=timed)
        if timed:
            link.timed = exchange
        return exchange

    def announce_ring(self, link: Link) -> Outgoing:
        """Announce a ring to the receiver of *link*; it is used once the receiver has answered."""
        exchange = self.expect(link, RING, next(link.sequence))
        link.channel.send(note(RING, exchange.sequence))
        return exchange

    def withdraw(self, exchange: Outgoing, only: Phase | None = None) -> Phase | None:
        """Try to take a timed message back, or to give up on its answer; *only* one of them.

        Returns the phase it was in; None: it is being taken or answered just now, or is not in *only* that phase.
        """
        if exchange.sequence not in exchange.link.exchanges:
            return None
        if exchange.claimed is None:
            exchange.claim(only)
        if exchange.claimed is not None:
            self._end(exchange)
        return exchange.claimed

    def give_up(self, exchange: Outgoing, why: str, only: Phase | None = None) -> int:
        """Withdraw a message whose time is over, or find that it was taken; *only*: as for `withdraw`.

        Raises IpcTimeout, or returns when to call this again, in ns from now.
        """
        who = show_thread(exchange.link.partner)
        phase = self.withdraw(exchange, only)
        if phase is Phase.SEND:
            raise IpcTimeout(phase, f"thread {who} did not take the message {why}")
        if phase is Phase.RECEIVE:
            raise IpcTimeout(phase, f"thread {who} took the message, but did not answer {why}")
        self.bear_with(exchange, why)
        return RECHECK

    def bear_with(self, exchange: Outgoing, why: str) -> None:
        """Bear with a receiver that has the tickets of *exchange* and is silent, for OVERDUE. Raises IpcTimeout."""
        now = self.now()
        exchange.overdue = exchange.overdue or now
        if now - exchange.overdue > OVERDUE:
            self._end(exchange)  # a message was taken: the partner has it, and its silence changes nothing
            self.break_link(exchange.link)
            if exchange.kind == CALL:
                who = show_thread(exchange.link.partner)
                raise IpcTimeout(Phase.RECEIVE, f"thread {who} claimed the answer, and was silent then {why}")

    def abandon(self, exchange: Outgoing) -> None:
        """Give up: the message is withdrawn if it can be, its answer thrown away."""
        if exchange.timed and self.withdraw(exchange) is None and not exchange.link.fallen:
            exchange.deserted = True  # its tickets are in the receiver's hands just now
        else:
            self._end(exchange)

    # ----------------------------------------------------------------------------------------- what comes back

    def pump_link(self, link: Link) -> None:
        """Take in the packets that came back on *link*, a batch at most; one that is taken has its own reader."""
        if link.taken:
            return
        link.taken = True
        try:
            for _ in range(BATCH):
                if not link.exchanges or (frames := link.channel.receive()) is None:
                    return
                self.take_in(link, frames)
        except (BrokenRing, BrokenStream):
            self.break_link(link)
        finally:
            link.taken = False

    def take_in(self, link: Link, frames: list[bytes]) -> None:
        """Take in a packet that came back on *link*: it ends its message, or reports on it."""
        self.noted()
        try:
            packet = packing.DECODE(frames[0])
        except packing.MALFORMED:
            self.statistics["malformed"] += 1
            return
        kind, words = packet.kind, packet.words
        exchange = link.exchanges.get(packet.sequence)
        if exchange is None:
            self._unexpected(link, packet)
        elif kind == ENDS[exchange.kind]:
            self._answered(exchange, packet, frames)
        elif kind == TAKEN:
            exchange.state = max(exchange.state, State.TAKEN)
        elif kind == REFUSED and words:
            if exchange.kind == RING:
                self.statistics["ring_refused"] += 1
            self.fail(exchange, packing.refused(packet, link.partner))
        elif not (kind == TURN and exchange.kind == CALL and words and self._forward(exchange, words[0])):
            self._unexpected(link, packet)

    def _unexpected(self, link: Link, packet: Packet) -> None:
        """Throw away a packet that no message waits for."""
        self.statistics["unexpected_answer"] += 1
        self.acknowledge(link, packet, packing.GONE_ON)

    def _answered(self, exchange: Outgoing, packet: Packet, frames: list[bytes]) -> None:
        items = packing.plain(packet, frames)
        if items is not None and exchange.kind == CALL and not (
            packet.flags or exchange.apart or exchange.deserted
        ):  # fmt: skip
            exchange.reply = Message(packet.label, packet.words, items)
        elif not self._take_answer(exchange, packet, frames):
            return
        if exchange.link.standing is not None:
            exchange.link.standing.doubted = False
        if exchange.kind == RING:
            exchange.link.use_ring(SpinPolicy(self.host.spins))
        self._close(exchange)

    def _take_answer(self, exchange: Outgoing, packet: Packet, frames: list[bytes]) -> bool:
        """Take the answer *packet*. False: it could not be taken, and both sides know."""
        link, who = exchange.link, show_thread(exchange.to)
        if link.fallen and packet.flags & TELLS:  # its sender was told that the link fell
            text = f"the binding to thread {show_thread(link.partner)} fell"
            self.fail(exchange, NoPartner(Phase.RECEIVE, text))
            return False
        try:
            packing.check(packet)
            if exchange.deserted:
                self._unexpected(link, packet)
            elif exchange.kind != CALL:
                pass
            elif exchange.apart:
                exchange.answer = packet, frames
            else:
                items = packing.unpack(self.sys, packet, frames, exchange.to, exchange.accepts)
                self.acknowledge(link, packet)
                exchange.reply = packing.incoming(packet, items)
        except (ValueError, TrapRefused) as error:
            self.statistics["malformed"] += 1
            self.acknowledge(link, packet, packing.NO_ROOM)
            text = f"the answer of thread {who} could not be taken: {error}"
            self.fail(exchange, IpcError(IpcCode.OVERFLOW, Phase.RECEIVE, text))
            return False
        return True

    def acknowledge(self, link: Link, packet: Packet, refused: int = 0) -> None:
        """Report to the sender of the answer *packet*, if it asked, that it was taken, or *refused* with a word."""
        if packet.kind == REPLY and packet.flags & TELLS:
            sequence = packet.sequence
            link.channel.send(note(REFUSED, sequence, refused) if refused else note(TAKEN, sequence))

    # -------------------------------------------------------------------------------------------- forwarded calls

    def _forward(self, exchange: Outgoing, thread: int) -> bool:
        """Wait for an answer of *thread*, or of the receiver after all. False: that cannot be."""
        back = thread == exchange.to  # a partner called through a redirector may answer by itself
        if back != (exchange.state is State.FORWARDED):
            return False  # not from this state
        lives = back or self.kip.thread(thread) is not None
        if lives:
            self.row.receives(thread)
            exchange.forwarded_to = thread
        if back:
            exchange.state = State.TAKEN
            del self._forwarded[exchange]
            if exchange.timed:
                exchange.link.tickets.owe(exchange.sequence)
        elif lives:
            exchange.state = State.FORWARDED
            self._forwarded[exchange] = None
            self._hear_of(thread)
        exchange.link.channel.send(note(TURNED, exchange.sequence))  # its receiver goes on at once
        if not lives:
            text = f"it is to be answered by {show_thread(thread)}"
            self.fail(exchange, NoPartner(Phase.RECEIVE, text))
        return True

    def _hear_of(self, thread: int) -> None:
        """Bind to *thread*, so that the kernel reports its end. Partners cannot fill our table by that."""
        if self.links.known(thread) is not None:
            return
        with suppress(ExoError):  # without a binding, it has to answer, or our time runs out
            self.link(thread)
            self._heard.append(thread)
        if len(self._heard) > FORWARDS:
            oldest = self._heard.popleft()
            if all(exchange.forwarded_to != oldest for exchange in self._forwarded):
                self.links.unlink_idle(oldest)

    # ------------------------------------------------------------------------------------------ what ends otherwise

    def upcall(self, upcall: Upcall) -> None:
        """Take in one upcall: here, the end of a partner, or of a binding."""
        self.noted()
        if upcall.label == Label.PARTNER_GONE:
            self._partner_gone(*upcall.words)
        elif upcall.label == Label.UNBOUND:
            receiver, *token = upcall.words
            for link in self.links.take(receiver, _TOKEN.pack(*token)):
                self._fell(link, f"the binding to thread {show_thread(receiver)} was ended")
        else:
            super().upcall(upcall)

    def _partner_gone(self, thread: int, status: int = 0, fault: int = 0) -> None:
        """End every exchange with *thread*; answers it gave before are still taken.

        *status* and *fault*: how its environment ended, if it did. If only the way to it changed (another
        redirector), a call that was forwarded to it, or that it is answering just now, goes on.
        """
        end = (status - STATUS_BIAS, fault) if status else ()
        lives = self.kip.thread(thread) is not None
        for exchange in [each for each in self._forwarded if not lives and each.forwarded_to == thread]:
            self.fail(exchange, NoPartner(Phase.RECEIVE, f"thread {show_thread(thread)} ended"))
        for link in self.links.take(thread):
            self._fell(link, f"thread {show_thread(thread)} ended meanwhile", end, lives=lives)

    def _fell(self, link: Link, why: str, end: tuple[int, ...] = (), *, lives: bool = False) -> None:
        """End what is under way on *link*, which fell; answers given before are still taken.

        What its receiver has in its hands just now is looked after (`Rendezvous.look_after`) if that one *lives*.
        """
        self.pump_link(link)
        link.end = end
        for exchange in list(link.exchanges.values()):
            if exchange.state is not State.FORWARDED and not (lives and exchange.is_in_hand()):
                self.fail(exchange, exchange.cut_off(why))
        self.links.let_fall(link)

    def break_link(self, link: Link) -> None:
        """Give up *link*, whose partner breaks the rules, and everything under way on it."""
        if link in self.links.get(link.partner, ()):
            self.links.unlink(link)
        elif not link.fallen:
            return  # it is just falling
        self.statistics["broken_link"] += 1
        text = f"thread {show_thread(link.partner)} does not keep to the rules"
        for exchange in list(link.exchanges.values()):
            self.fail(exchange, exchange.cut_off(text))

    def fail(self, exchange: Outgoing, error: IpcError | None) -> None:
        """End *exchange* with *error*; None: it was taken, and its receiver will report no more."""
        if exchange.link.timed is exchange:
            exchange.link.tickets.clear()
        exchange.error = error
        self._end(exchange) if error else self._close(exchange)

    def _end(self, exchange: Outgoing) -> None:
        """End *exchange* with an error: take its offers back."""
        self._close(exchange)
        if exchange.given:
            packing.take_back(self.sys, exchange.given)

    def _close(self, exchange: Outgoing) -> None:
        link = exchange.link
        if exchange.state is State.FORWARDED:
            self._forwarded.pop(exchange, None)
        exchange.state = State.OVER
        link.exchanges.pop(exchange.sequence, None)
        if link.timed is exchange:
            link.timed = None
        if not link.exchanges:
            link.settle()
