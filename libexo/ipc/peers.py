"""Who is bound to us: the kernel hands them over, a few at a time, with all that belongs to each.

What it said is remembered until the KIP's binding epoch changes, for then some binding fell. A peer that is found
again is the same; one that is gone is forgotten, at the latest when many others have come and gone, or, where
somebody asks whether we are there, some each time.

Each costs a few descriptors. While hardly any are left, the family gives one of its bindings up that has the most,
be it the one that has just come. A *family* is a program with all its descendants.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from kernel.abi import traps
from kernel.abi.messages import Packet, ShortPart
from libexo.errors import ExoError, GateClosed, TrapRefused
from libexo.ipc.exchange import Arrival
from libexo.ipc.peer import Peer
from libexo.ipc.tickets import Tickets
from libexo.ipc.wire import ENCODE, TIMED
from libexo.transport.base import Descriptor, Frames
from libexo.transport.ring.line import open_line

if TYPE_CHECKING:
    from libexo.attachment import Attachment
    from libexo.transport.base import Inbox

SWEEP = 32
"""Peers of an earlier epoch that make a sweep worth its trap."""
RINGS = 256
"""Rings to one thread at a time; who comes later is served as those without."""
_ENDS = 3
"""Descriptors of a binding: where its connection waits, two tickets."""
_RING_ENDS = 3
"""What one with a ring has besides: its memory, two ends of doorbells."""


class Peers:
    """The bindings to one thread that it took."""

    def __init__(self, environment: "Attachment", gone: Callable[[Peer], None]) -> None:
        """Ask the kernel of *environment*; call *gone* for each that is found to be."""
        self.known: dict[bytes, Peer] = {}
        """By token."""
        self._environment = environment
        self._gone = gone

    def take_in(self, thread: int, inbox: "Inbox") -> None:
        """Have *inbox* hear those who were bound to *thread* since the last time, a few at most."""
        environment = self._environment
        epoch = environment.kip.epoch
        arrived, descriptors = environment.sys.incoming(thread)
        for each in arrived:
            count = _ENDS + (_RING_ENDS if each.who.ring else 0)
            given, descriptors = descriptors[:count], descriptors[count:]
            if len(given) < count:  # the host had no room for them here: they are lost
                self._close(given)
                self._refuse(each.token, thread)
                continue
            peer = self.known[each.token] = self._meet(each.token, each.who, given[1:])
            peer.epoch = epoch
            is_last = not environment.host.has_room(given[-1])
            peer.put = partial(_put, inbox.send, each.token)
            inbox.admit(each.token, given[0], peer.family)
            if is_last:
                self._refuse(self._of_whom_most(), thread)
        if arrived:
            self.sweep(thread, SWEEP)

    def identify(self, token: bytes, thread: int) -> Peer | None:
        """Return whose binding to *thread* the *token* is, by what the kernel says now; None: nobody's."""
        environment, peer = self._environment, self.known.get(token)
        if peer is None:
            return None
        epoch = environment.kip.epoch
        try:
            environment.sys.identify(token, thread)
        except (TrapRefused, GateClosed):
            self.forget(token)
            return None
        peer.epoch = epoch
        return peer

    def is_up(self, arrival: Arrival, thread: int) -> bool:
        """Say whether *thread* could take *arrival* now. A sender that wants it back at this moment asks again."""
        peer, sequence = arrival.peer, arrival.packet.sequence
        if peer is None or not arrival.packet.flags & TIMED or peer.kept == sequence:
            return True
        return self.posted(peer, thread) == sequence

    def posted(self, peer: Peer, thread: int) -> int:
        """Return the number of the message to *thread* that *peer* has up; 0: it has none, or is gone."""
        if peer.epoch != self._environment.kip.epoch and self.identify(peer.token, thread) is None:
            return 0
        posted = peer.tickets.take()
        self.put_back(peer, posted, thread)
        return posted

    def put_back(self, peer: Peer, sequence: int, thread: int) -> None:
        """Put up again the send ticket of message *sequence*, which was in our hands for a moment.

        *peer* was known to be bound before that. Whose way to us falls in that moment takes the message for taken,
        and does not ask again. So it is.
        """
        while sequence:
            peer.tickets.put_back(sequence)
            if peer.epoch == self._environment.kip.epoch:
                return
            sequence = peer.tickets.take()
            if self.identify(peer.token, thread) is None:
                peer.kept = sequence
                return

    def _meet(self, token: bytes, who: traps.Identified, descriptors: list[Descriptor]) -> Peer:
        """Return a new peer, with our end of its ring if it has one and there is room for it."""
        host = self._environment.host
        tickets = Tickets(host.ticket(descriptors[0]), host.ticket(descriptors[1]))
        peer = Peer(who.thread, who.environment, token, tickets, redirected=who.redirected, family=who.family)
        if who.ring:
            if sum(known.line is not None for known in self.known.values()) < RINGS:
                peer.line = open_line(host, who.ring, descriptors[2:], receiver=True)
            else:
                self._close(descriptors[2:])
        return peer

    def _close(self, descriptors: list[Descriptor]) -> None:
        for descriptor in descriptors:
            self._environment.host.close_descriptor(descriptor)

    def _of_whom_most(self) -> bytes:
        """Return the youngest binding of the family that has the most."""
        most, _ = Counter(peer.family for peer in self.known.values()).most_common(1)[0]
        return next(peer.token for peer in reversed(self.known.values()) if peer.family == most)

    def _refuse(self, token: bytes, thread: int) -> None:
        """End the binding of *token*: its sender is told."""
        with suppress(ExoError):  # it fell meanwhile
            self._environment.sys.unbind(token, thread)
        self.forget(token)

    def sweep(self, thread: int, least: int = 1) -> None:
        """Forget peers that are gone, a batch at a time, so that those who come and go leave nothing behind.

        Where fewer than *least* may be, it is not worth its trap.
        """
        epoch = self._environment.kip.epoch
        stale = [p.token for p in self.known.values() if p.epoch != epoch][:SWEEP]
        if len(stale) < least:
            return
        outcomes, _ = self._environment.sys.batch([traps.Identify(token, thread) for token in stale])
        for token, outcome in zip(stale, outcomes, strict=True):
            if isinstance(outcome, TrapRefused):
                self.forget(token)
            else:
                self.known[token].epoch = epoch

    def forget(self, token: bytes) -> None:
        """Nothing comes under *token* any more."""
        peer = self.known.pop(token, None)
        if peer is not None:
            peer.close()
            self._gone(peer)


def _put(
    send: Callable[[bytes, Frames], bool], token: bytes, mark: int, sequence: int, label: int, string: bytes
) -> bool:
    """Write a plain answer back over the binding of *token*."""
    packet = Packet(mark >> 48, sequence, label, (mark >> 16 & 0xFFFF,), (ShortPart(string),))
    return send(token, (ENCODE(packet),))
