"""The receiving floor of the rendezvous: peers that send to us, and messages that wait to be taken.

Messages are taken one by one, as they are asked for; others stay. Messages of one binding are taken in the order
they were sent. The inbox hands over one message of each party in turn; a party is a program with all its
descendants (`libexo.transport.turns`). From the first sender with a ring on (`libexo.ipc.ring`), the inbox is that
of the rings. A broken ring is closed and counted, and its binding falls, so that both sides know.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from kernel.abi.gate import Upcall
from kernel.abi.ids import ANY_THREAD
from kernel.abi.kip import Head
from kernel.abi.limits import MAX_BATCH, MAX_OFFERS
from kernel.abi.messages import Label, Packet
from kernel.abi.traps import Unbind
from libexo.errors import BrokenRing, ExoError, TrapRefused
from libexo.ipc import packing
from libexo.ipc.endpoint import Endpoint
from libexo.ipc.exchange import BATCH, Arrival
from libexo.ipc.message import Message, Origin
from libexo.ipc.packing import CALL, PROPAGATED, REFUSED, RING, SEND, TAKEN, TELL, TELLS, TIMED, note
from libexo.ipc.peer import Peer
from libexo.ipc.peers import Peers
from libexo.ipc.pending import Pending, is_from, of_kernel
from libexo.transport.base import HELD
from libexo.transport.ring.ends import RingInbox
from libexo.transport.ring.spinning import SpinPolicy

if TYPE_CHECKING:
    from libexo.attachment import Attachment
    from libexo.transport.base import Frames, Inbox

PENDING = 4096
"""The most short messages held for later receives while a closed receive looks for its own.
As many of the kernel's are held apart from them: no sender keeps the kernel from being heard."""

WITHDRAWN = 16
"""Withdrawn messages of one party in a row that cost it no turn: a flood of them gets no more of our time."""
Plain = tuple[Peer, int, int, int, bytes]
"""A plain request: its sender, and as `Duplex.get`; the mark of one that can be withdrawn has WITHDRAWABLE."""
_PLAIN = (CALL, TELL)
_EPOCH = int(Head.BINDING_EPOCH)


class Receiving(Endpoint):
    """Receiving."""

    def __init__(self, environment: "Attachment", thread: int) -> None:
        """Receive as *thread* of *environment*."""
        super().__init__(environment, thread)
        self.inbox: Inbox | None = None
        self.news = True
        """There may be peers that we have not taken in."""
        self.holds = HELD
        """Bytes the inbox may hold, and messages that arrived may weigh: see `libexo.transport.base`."""
        self.window: Callable[[Packet], int] = lambda _packet: MAX_OFFERS
        """The most capabilities a message may bring: one with more is refused."""
        self.rings: RingInbox | None = None
        self._words = environment.kip.words
        self.peers = Peers(self, self.gone)
        self._peers = self.peers.known
        self.shows_all = False
        """A wait for the inbox shows whatever it holds."""
        self._rings_epoch = 0
        """The last binding epoch in which all peers with a ring were known to stand."""
        self.held = Pending()
        """Messages that arrived and were not taken yet."""
        self._withdrawn = 0
        """Withdrawn messages in a row that cost no party a turn."""

    def open_inbox(self) -> "Inbox":
        """Return the inbox, opened if need be."""
        if self.inbox is None:
            self.inbox = self.host.transport.inbox(self._broken)
            self.shows_all = getattr(self.inbox, "shows_all", False)
        return self.inbox

    def upcall(self, upcall: Upcall) -> None:
        """Take in one upcall: there are new peers, or it is a message of the kernel, held until it is received."""
        held = self.held
        if upcall.label == Label.BOUND:
            self.bound()
        elif len(held) >= PENDING and sum(arrival.peer is None for arrival in held) >= PENDING:
            self.statistics["kernel_message"] += 1
        else:
            held.append(of_kernel(upcall))

    def bound(self) -> None:
        """There are new peers: the kernel says so once, until we have asked for all of them."""
        self.news = True
        if self.rings is not None:
            self.rings.found_others = True

    def _broken(self, tokens: Sequence[bytes], _why: str) -> None:
        """The sender of *tokens* breaks the rules, and its connections are closed; without tokens, it had none."""
        if not tokens:
            self.statistics["unknown_token"] += 1
        self.statistics["broken_link"] += len(tokens)
        for first in range(0, len(tokens), MAX_BATCH):
            some = [Unbind(token, self.thread) for token in tokens[first : first + MAX_BATCH]]
            with suppress(ExoError):  # the kernel is gone; of one that fell meanwhile, the outcome says so
                self.sys.batch(some)
        for token in tokens:
            self.peers.forget(token)

    def _broken_ring(self, token: bytes, _error: BrokenRing) -> None:
        self.statistics["broken_ring"] += 1
        self.peers.end(token)

    def gone(self, peer: Peer) -> None:
        """*peer* is bound no longer: close its connection and its ring."""
        if self.rings is not None:
            self.rings.detach(peer.token)
        if self.inbox is not None:
            self.inbox.close_peer(peer.token)

    def must_look(self) -> bool:
        """Return whether there may be a message that a wait would not show."""
        return bool(self.held) or not self.shows_all or self.news

    # ------------------------------------------------------------------------------------------------ arrival

    def look(self) -> None:
        """Take in messages that have arrived, a batch at most, and hold them for later receives."""
        self._refresh()
        held = self.held
        for _ in range(BATCH):
            if held.weight > self.holds or (arrival := self._arrive()) is None:
                return
            held.append(arrival)
            self.noted()

    def _refresh(self) -> None:
        """Take in new peers, and forget those with a ring whose binding fell: its memory would be kept here."""
        if self.news:
            self._take_in()
        if self.rings is not None and self._rings_epoch != (epoch := self.kip.epoch):
            self._rings_epoch = epoch
            for token in [token for token, _ in self.rings.lines]:
                self.peers.identify(token)

    def _take_in(self) -> None:
        """Take in some of the new peers; if there are more, the kernel says so again."""
        self.news = False
        inbox = self.open_inbox()
        inbox.limit = self.holds
        self.peers.take_in(inbox)

    def _arrive(self) -> Arrival | None:
        """Return the next message that arrived. None: there is none, or a batch of packets that are none."""
        receive = (self.inbox or self.open_inbox()).receive
        for _ in range(BATCH):
            if (arrived := receive()) is None:
                break
            if (arrival := self._arrived(*arrived)) is not None:
                return arrival
        return None

    def get(self) -> "Plain | None":
        """Take the next message if it is a plain request. None: there is none, or it is not plain, and held."""
        if self.news:
            self._take_in()
        if self.held:
            return None
        receive = (self.inbox or self.open_inbox()).receive
        for _ in range(BATCH):
            if (arrived := receive()) is None:
                break
            if (found := self.plain(*arrived)) is not None or self.held:
                return found
        return None

    def plain(self, token: bytes, frames: list[bytes]) -> "Plain | None":
        """Take the packet that arrived under *token* if it is a plain request. Another message is held."""
        peer, found = self._peers.get(token), packing.read_plain(frames)
        if peer is not None and found is not None and peer.epoch == self._words[_EPOCH]:
            mark, sequence, label, string = found
            if sequence > peer.last and (mark >> 48 & 0xFFFF) in _PLAIN:
                peer.last = sequence
                timed = mark >= packing.WITHDRAWABLE
                if timed and not self._claims(peer, sequence, mark >> 48 & 0xFFFF):
                    self._again(peer)
                    return None
                self._withdrawn = 0
                return peer, mark, sequence, label, string
        if (arrival := self._arrived(token, frames)) is not None:
            self.held.append(arrival)
        return None

    def _arrived(self, token: bytes, frames: list[bytes]) -> Arrival | None:
        """Check a packet that arrived under *token*; return it, or count it and drop it."""
        peer = self._peers.get(token)
        if peer is None:
            self.statistics["unknown_token"] += 1
            return None
        try:
            packet = packing.DECODE(frames[0])
            items = packing.plain(packet, frames)
            if items is None:
                packing.check(packet)
        except packing.MALFORMED:
            self.statistics["malformed"] += 1
            return None
        if packet.kind not in (SEND, CALL, TELL):
            self.told(peer, packet)  # also if the binding fell: it may have been said before
            return None
        if peer.epoch != self.kip.epoch and self.peers.identify(token) is None:
            self.statistics["unknown_token"] += 1
            return None
        if packet.sequence <= peer.last:
            self.statistics["duplicate"] += 1
            return None
        peer.last = packet.sequence
        weight = sum(map(len, frames)) + self.holds // PENDING
        arrival = Arrival(peer, peer.thread, packet, frames, items, weight)
        if packet.flags & PROPAGATED and self.speaks_for(
            peer.environment, peer.thread, packet.virtual, self.environment.number
        ):
            arrival.sender, arrival.propagated = packet.virtual, True
        return arrival

    def told(self, peer: Peer, packet: Packet) -> None:
        """Take in a packet that is no message: here, that *peer* has a ring, which it uses after our answer."""
        if packet.kind != RING:
            self.statistics["malformed"] += 1
        elif peer.line is None or not self.peers.stands(peer):
            self.send_back(peer.token, note(REFUSED, packet.sequence, packing.NO_ROOM))
        else:
            self.send_back(peer.token, note(TAKEN, packet.sequence))
            if self.rings is None:
                self.rings = RingInbox(self.open_inbox(), SpinPolicy(self.host.spins), self._broken_ring)
                self.inbox = self.rings
            self.rings.attach(peer.token, peer.line, peer.family)
            peer.put = peer.line.put

    def speaks_for(self, environment: int, thread: int, virtual: int, to: int) -> bool:
        """Say whether *thread* of *environment* may send for thread *virtual* to environment *to* (propagation).

        It may for threads of its own environment, to threads of its own environment, and where it is in the chain
        of redirectors of *virtual*'s environment.
        """
        row = self.kip.thread(virtual)
        if row is None or environment in (row.environment, to):
            return row is not None
        seen: set[int] = set()
        while row is not None and row.redirector and row.redirector not in seen:
            if row.redirector == thread:
                return True
            seen.add(row.redirector)
            row = self.kip.thread(row.redirector)
        return False

    def send_back(self, token: bytes, frames: "Frames") -> bool:
        """Send *frames* back over the binding of *token*. False: it is gone or full, or nothing came so far."""
        return self.inbox is not None and self.inbox.send(token, frames)

    # ------------------------------------------------------------------------------------------------- taking

    def next(self, sender: int) -> Arrival | None:
        """Take the next message from *sender* (ANY_THREAD, ANY_LOCAL_THREAD: of many), for good; or None."""
        if sender == ANY_THREAD:
            return self._next()
        self.look()
        held, number = self.held, self.environment.number
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
            self._again(arrival.peer)
        return None

    def _again(self, peer: Peer | None) -> None:
        """A message of *peer* was withdrawn: its party's next takes the turn, unless the party floods with such."""
        self._withdrawn = (self._withdrawn + 1) % WITHDRAWN
        if self._withdrawn and peer is not None:
            if self.held:
                self.held.again(peer.family)
            elif self.inbox is not None:
                self.inbox.again(peer.token)

    def _make_room(self) -> None:
        """Refuse held messages if they are too many: the message that is waited for must find room."""
        for arrival in self.held.cut(self.holds * 3 // 4) if self.held.weight > self.holds else ():
            if self._claim(arrival):
                self.statistics["overflow"] += 1
                self.refuse(arrival, packing.NO_ROOM)

    def has(self, sender: int) -> bool:
        """Say whether a message from *sender* waits, not withdrawn so far."""
        self.look()
        number = self.environment.number
        if any(is_from(arrival, sender, number) and self.peers.is_up(arrival) for arrival in self.held):
            return True
        self._make_room()
        return False

    def _claim(self, arrival: Arrival) -> bool:
        """Take *arrival* for good. False: its sender withdrew it, or is gone."""
        peer, packet = arrival.peer, arrival.packet
        if peer is None:
            return True
        if peer.epoch != self.kip.epoch and self.peers.identify(peer.token) is None:
            self.statistics["unknown_token"] += 1
            return False
        return not packet.flags & TIMED or self._claims(peer, packet.sequence, packet.kind)

    def _claims(self, peer: Peer, sequence: int, kind: int) -> bool:
        """Take message *sequence* of *kind*, which *peer* may withdraw. False: it did."""
        claimed = peer.tickets.take()
        if claimed != sequence:
            peer.tickets.put_back(claimed)
            self.statistics["withdrawn"] += 1
            return False
        if kind == CALL:
            peer.tickets.owe(sequence)
        return True

    def take(self, sender: int, accepts: int | None = None) -> tuple[int, Message] | None:
        """Take the oldest message from *sender*, with all its items, and acknowledge it; or return None.

        It may bring as many capabilities as the window says, or *accepts*.
        """
        while (arrival := self.next(sender)) is not None:
            packet, items = arrival.packet, arrival.items
            if items is None:
                peer = arrival.peer.thread if arrival.peer is not None else 0
                wanted = self.window(packet) if accepts is None else accepts
                try:
                    items = packing.unpack(self.sys, packet, arrival.frames, peer, wanted)
                except (ValueError, TrapRefused):
                    self.statistics["malformed"] += 1
                    self.refuse(arrival, packing.NO_ROOM)
                    continue
            if packet.kind == SEND or packet.flags & TELLS:
                self.taken(arrival)
            return arrival.sender, packing.incoming(packet, items, self.origin(arrival))
        return None

    def origin(self, arrival: Arrival) -> Origin:
        """Return the way back to the sender of *arrival*."""
        peer, packet = arrival.peer, arrival.packet
        if peer is None:
            return Origin(None, arrival.sender, 0, answers=False)
        answers, timed = packet.kind == CALL, packet.flags & TIMED != 0
        actual = peer.thread if arrival.propagated else 0
        intended = packet.intended if peer.redirected else 0
        return Origin(peer, arrival.sender, packet.sequence, answers, timed, actual, intended)

    def taken(self, arrival: Arrival) -> None:
        """Acknowledge *arrival*, if its sender wants to know."""
        packet, peer = arrival.packet, arrival.peer
        if peer is not None and (packet.kind == SEND or packet.flags & TELLS):
            self.send_back(peer.token, note(TAKEN, packet.sequence))

    def refuse(self, arrival: Arrival, word: int) -> None:
        """Report to the sender of *arrival* that it was cut: *word* is the X.2 error word, with the offset."""
        if arrival.peer is not None:
            self.send_back(arrival.peer.token, note(REFUSED, arrival.packet.sequence, word))

    def close_inbox(self) -> None:
        """Close the inbox, and forget all peers."""
        self.peers.close()
        if self.inbox is not None:
            self.inbox.close()
        self.inbox = self.rings = None
