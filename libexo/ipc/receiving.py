"""The receiving half of the rendezvous: who sends to us, and what waits to be taken.

Messages are taken one by one, as they are asked for: what was not asked for stays. Those of one binding are taken
in the order they were sent; where many wait, the inbox hands them over in turn, one of each party: a program with
all its descendants (`libexo.transport.turns`).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from kernel.abi.gate import Upcall
from kernel.abi.ids import ANY_THREAD
from kernel.abi.kip import Head
from kernel.abi.limits import MAX_BATCH, MAX_OFFERS
from kernel.abi.messages import IpcCode, Packet, Phase
from kernel.abi.traps import Unbind
from libexo.errors import ExoError, TrapRefused, error_word
from libexo.ipc.answers import Answers
from libexo.ipc.exchange import Arrival
from libexo.ipc.message import Item, Message, Origin
from libexo.ipc.packing import check, plain, unpack
from libexo.ipc.peer import Peer
from libexo.ipc.peers import Peers
from libexo.ipc.pending import Pending, is_from, of_kernel
from libexo.ipc.rings import Rings, answer_ring
from libexo.ipc.sending import BATCH
from libexo.ipc.speaking import speaks_for
from libexo.ipc.wire import (
    CALL,
    DECODE,
    ENCODE,
    MALFORMED,
    PROPAGATED,
    REFUSED,
    RING,
    SEND,
    TAKEN,
    TELL,
    TELLS,
    TIMED,
    TURNED,
    read_plain,
)
from libexo.transport.base import HELD

if TYPE_CHECKING:
    from collections import Counter

    from libexo.attachment import Attachment
    from libexo.transport.base import Frames, Inbox

PENDING = 4096
"""Messages held at most for later receives while a closed one looks for its own, if they are short.
As many of the kernel's, for themselves: no sender keeps the kernel from being heard."""

WITHDRAWN = 16
"""Withdrawn messages of one party in a row that cost it no turn: who floods with such has no more of our time."""
_PLAIN = (CALL, TELL)
_EPOCH = int(Head.BINDING_EPOCH)
_MESSAGES, _OUTCOMES = (SEND, CALL, TELL), (TAKEN, REFUSED, TURNED)


class Receiving:
    """What one thread receives."""

    def __init__(self, environment: "Attachment", thread: int, statistics: "Counter[str]") -> None:
        """Receive as *thread* of *environment*."""
        self.inbox: Inbox | None = None
        self.news = True
        """Somebody may be bound to us whom we have not taken in."""
        self.holds = HELD
        """How many bytes the inbox holds for others, and what arrived may weigh: see `libexo.transport.base`."""
        self.window: Callable[[Packet], int] = lambda _packet: MAX_OFFERS
        """How many capabilities of a message are wanted: one that brings more is refused."""
        self._environment = environment
        self._host = environment.host
        self._kip = environment.kip
        self._words = environment.kip.words
        self._sys = environment.sys
        self.thread = thread
        self._statistics = statistics
        self.shows_all = False
        """To wait for the inbox shows whatever it holds."""
        self.rings: Rings | None = None
        """From the first sender that has a ring on; the inbox is its then."""
        self.peers = Peers(environment, self._gone)
        self._peers, self._identify = self.peers.known, self.peers.identify
        self.held = Pending()
        """What arrived and was not taken yet."""
        self._withdrawn = 0
        """Withdrawn messages in a row, that cost nobody a turn so far."""
        self.answers = Answers(environment, thread, self.peers, statistics, self.send_back)

    def open_inbox(self) -> "Inbox":
        """Open the receiving end, if it is not open yet."""
        if self.inbox is None:
            self.inbox = self._host.transport.inbox(self._broken)
            self.shows_all = getattr(self.inbox, "shows_all", False)
        return self.inbox

    def bound(self) -> None:
        """Somebody is bound to us: the kernel says so once, until we have asked for all there are."""
        self.news = True
        if self.rings is not None:
            self.rings.inbox.found_others = True

    def _take_in(self) -> None:
        """Take in some of those who were bound to us; if there are more, the kernel says so again."""
        self.news = False
        inbox = self.open_inbox()
        inbox.limit = self.holds
        self.peers.take_in(self.thread, inbox)

    def _broken(self, tokens: Sequence[bytes], _why: str) -> None:
        """The sender of *tokens* does not keep to the rules, and its connections are closed; or it had no token."""
        if not tokens:
            self._statistics["unknown_token"] += 1
        self._statistics["broken_link"] += len(tokens)
        for first in range(0, len(tokens), MAX_BATCH):
            some = [Unbind(token, self.thread) for token in tokens[first : first + MAX_BATCH]]
            with suppress(ExoError):  # the kernel is gone; of one that fell meanwhile, the outcome says so
                self._sys.batch(some)
        for token in tokens:
            self.peers.forget(token)

    def must_look(self) -> bool:
        """Whether there may be a message that waiting would not show."""
        return bool(self.held) or not self.shows_all or self.news

    # ------------------------------------------------------------------------------------------------ arrival

    def look(self) -> None:
        """Take in what has arrived, a batch at most, to be held for later receives."""
        self._refresh()
        held = self.held
        for _ in range(BATCH):
            if held.weight > self.holds or (arrival := self._arrive()) is None:
                return
            held.append(arrival)

    def _refresh(self) -> None:
        """Take in who was bound to us, and forget whose binding fell."""
        if self.news:
            self._take_in()
        if self.rings is not None:
            self.rings.recheck()

    def _arrive(self) -> Arrival | None:
        """Return the next message that arrived. None: there is none, or a batch of what is none."""
        receive = (self.inbox or self.open_inbox()).receive
        for _ in range(BATCH):
            if (arrived := receive()) is None:
                break
            if (arrival := self._arrived(*arrived)) is not None:
                return arrival
        return None

    def get(self) -> "tuple[Peer, int, int, int, bytes] | None":
        """Take the next message if it is a plain one (`libexo.ipc.plain`): who sent it, and what `Line.get` says.

        None: there is none, or another, which is held.
        """
        if self.news:
            self._take_in()
        if self.held:
            return None
        receive = (self.inbox or self.open_inbox()).receive
        for _ in range(BATCH):
            if (arrived := receive()) is None:
                break
            token, frames = arrived
            peer = self._peers.get(token)
            if peer is not None and peer.epoch == self._words[_EPOCH] and (found := read_plain(frames)):
                mark, sequence, _, _ = found
                if sequence > peer.last and mark >> 48 in _PLAIN:
                    peer.last = sequence
                    return peer, *found
            if (arrival := self._arrived(token, frames)) is not None:
                self.held.append(arrival)
                break
        return None

    def hold(self, upcall: Upcall) -> None:
        """Keep a message of the kernel until somebody receives it."""
        held = self.held
        if len(held) >= PENDING and sum(arrival.peer is None for arrival in held) >= PENDING:
            self._statistics["kernel_message"] += 1
            return
        held.append(of_kernel(upcall))

    def _arrived(self, token: bytes, frames: list[bytes]) -> Arrival | None:
        """Check what arrived under *token*; return it, or count it and drop it."""
        peer = self._peers.get(token)
        if peer is not None and peer.epoch != self._kip.epoch:
            peer = self._identify(token, self.thread)
        if peer is None:
            self._statistics["unknown_token"] += 1
            return None
        try:
            packet = DECODE(frames[0])
            items = plain(packet, frames)
            if items is None:
                check(packet)
        except MALFORMED:
            self._statistics["malformed"] += 1
            return None
        kind = packet.kind
        if kind not in _MESSAGES:
            self._told(peer, packet)
            return None
        if packet.sequence <= peer.last:
            self._statistics["duplicate"] += 1
            return None
        peer.last = packet.sequence
        weight = sum(map(len, frames)) + self.holds // PENDING
        arrival = Arrival(peer, peer.thread, packet, frames, items, weight)
        if packet.flags & PROPAGATED and self.speaks_for(
            peer.environment, peer.thread, packet.virtual, self._environment.number
        ):
            arrival.sender, arrival.propagated = packet.virtual, True
        return arrival

    def _told(self, peer: Peer, packet: Packet) -> None:
        """Take in what is no message: how an answer of ours was taken, or that the sender has a ring."""
        if packet.kind in _OUTCOMES:
            self.answers.heard(peer, packet)
        elif packet.kind == RING and self.inbox is not None:
            if answer_ring(self.inbox, peer, packet.sequence):
                self._attach(peer)
        else:
            self._statistics["malformed"] += 1

    def _attach(self, peer: Peer) -> None:
        """Receive from the ring of *peer* from now on."""
        assert peer.line is not None
        if self.rings is None:
            assert self.inbox is not None
            self.rings = Rings(self._environment, self.thread, self.peers, self.inbox, self._statistics)
            self.inbox = self.rings.inbox
        self.rings.inbox.attach(peer.token, peer.line, peer.family)
        peer.put = peer.line.put

    def speaks_for(self, environment: int, thread: int, virtual: int, to: int) -> bool:
        """Say whether *thread* of *environment* may send for *virtual* to environment *to*; else for itself."""
        return speaks_for(self._environment.kip, environment, thread, virtual, to)

    def send_back(self, token: bytes, frames: "Frames") -> bool:
        """Send *frames* back over the binding of *token*. False: it is gone or full, or nothing came so far."""
        return self.inbox is not None and self.inbox.send(token, frames)

    def _gone(self, peer: Peer) -> None:
        """What *peer* was to say of answers of ours will not be said; its connection and its ring are closed."""
        if self.rings is not None:
            self.rings.inbox.detach(peer.token)
        if self.inbox is not None:
            self.inbox.close_peer(peer.token)
        self.answers.gone(peer)

    # ------------------------------------------------------------------------------------------------- taking

    def next(self, sender: int) -> Arrival | None:
        """Take the next message from *sender* (ANY_THREAD, ANY_LOCAL_THREAD: of many), for good; or None."""
        if sender == ANY_THREAD:
            return self._next()
        self.look()
        held, number = self.held, self._environment.number
        for arrival in [arrival for arrival in held if is_from(arrival, sender, number)]:
            held.remove(arrival)
            if self._claim(arrival):
                return arrival
        self._make_room()
        return None

    def _next(self) -> Arrival | None:
        """Take the next of what is held, or of what arrives. None: there is none, or a batch of withdrawn ones."""
        self._refresh()
        held = self.held
        for _ in range(BATCH):
            arrival = held.popleft() if held else self._arrive()
            if arrival is None or self._claim(arrival):
                self._withdrawn = 0
                return arrival
            self._again(arrival)
        return None

    def _again(self, arrival: Arrival) -> None:
        """*arrival* was withdrawn: the next of its party comes in its place, but for one that floods with such."""
        peer = arrival.peer
        self._withdrawn = (self._withdrawn + 1) % WITHDRAWN
        if self._withdrawn and peer is not None:
            if self.held:
                self.held.again(peer.family)
            elif self.inbox is not None:
                self.inbox.again(peer.token)

    def _make_room(self) -> None:
        """Refuse some of what is held, where that is too much: what is waited for must find room."""
        for arrival in self.held.cut(self.holds * 3 // 4) if self.held.weight > self.holds else ():
            if self._claim(arrival):
                self._statistics["overflow"] += 1
                self.refuse(arrival, error_word(IpcCode.OVERFLOW, Phase.SEND))

    def has(self, sender: int) -> bool:
        """Say whether a message from *sender* waits, not withdrawn so far."""
        self.look()
        number = self._environment.number
        if any(is_from(it, sender, number) and self.peers.is_up(it, self.thread) for it in self.held):
            return True
        self._make_room()
        return False

    def _claim(self, arrival: Arrival) -> bool:
        """Take *arrival* for good. False: its sender withdrew it, or is gone."""
        peer, packet = arrival.peer, arrival.packet
        if peer is None or peer.kept == packet.sequence:
            return True
        if peer.epoch != self._environment.kip.epoch and self._identify(peer.token, self.thread) is None:
            self._statistics["unknown_token"] += 1
            return False
        if not packet.flags & TIMED:
            return True
        claimed = peer.tickets.take()
        if claimed != packet.sequence:
            self.peers.put_back(peer, claimed, self.thread)
            self._statistics["withdrawn"] += 1
            return False
        if packet.kind == CALL:
            peer.tickets.owe(packet.sequence)
        return True

    def take(self, sender: int, accepts: int | None = None) -> tuple[int, Message] | None:
        """Take the oldest message from *sender*, with all its items, and acknowledge it; or return None.

        It may bring as many capabilities as the window says, or *accepts*.
        """
        while (arrival := self.next(sender)) is not None:
            packet, items = arrival.packet, arrival.items
            if items is None:
                try:
                    items = self._unpack(arrival, accepts)
                except (ValueError, TrapRefused):
                    self._statistics["malformed"] += 1
                    self.refuse(arrival, error_word(IpcCode.OVERFLOW, Phase.SEND))
                    continue
            if packet.kind == SEND or packet.flags & TELLS:
                self.taken(arrival)
            words, origin = packet.words, self.origin(arrival)
            if not packet.typed:
                return arrival.sender, Message(packet.label, words, items, origin)
            untyped = len(words) - packet.typed
            return arrival.sender, Message(packet.label, words[:untyped], items, origin, words[untyped:])
        return None

    def _unpack(self, arrival: Arrival, accepts: int | None) -> tuple[Item, ...]:
        """Take the items of *arrival*. Raises ValueError, TrapRefused."""
        packet, peer = arrival.packet, arrival.peer
        accepts = self.window(packet) if accepts is None else accepts
        return unpack(self._sys, packet, arrival.frames, peer.thread if peer is not None else 0, accepts)

    def origin(self, arrival: Arrival) -> Origin:
        """Return the way back to the sender of *arrival*."""
        peer, packet = arrival.peer, arrival.packet
        if peer is None:
            return Origin(None, arrival.sender, 0, answers=False)
        return Origin(
            peer,
            arrival.sender,
            packet.sequence,
            packet.kind == CALL,
            packet.flags & TIMED != 0,
            peer.thread if arrival.propagated else 0,
            packet.intended if peer.redirected else 0,
        )

    def taken(self, arrival: Arrival) -> None:
        """Acknowledge *arrival*."""
        packet, peer = arrival.packet, arrival.peer
        if peer is not None and (packet.kind == SEND or packet.flags & TELLS):
            self.send_back(peer.token, (ENCODE(Packet(TAKEN, packet.sequence)),))

    def refuse(self, arrival: Arrival, word: int) -> None:
        """Tell the sender of *arrival* that it was cut: *word* is the X.2 error word, offset included."""
        if arrival.peer is not None:
            self.send_back(
                arrival.peer.token, (ENCODE(Packet(REFUSED, arrival.packet.sequence, 0, (word,))),)
            )

    def close(self) -> None:
        """Close the inbox, and forget everybody."""
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()
        if self.inbox is not None:
            self.inbox.close()
        self.inbox = self.rings = None
