"""The bindings to one thread: the kernel hands them over, a few at a time, with their descriptors.

A binding is identified once in each binding epoch of the KIP: when the epoch changes, some binding fell. Peers that
are gone are forgotten when many others have come and gone, and some with each heartbeat.

A binding costs a few descriptors. While hardly any are left, the family that has the most bindings loses one, even
the one that has just come. A *family* is a program with all its descendants.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from kernel.abi import traps
from kernel.abi.messages import Packet, ShortPart
from libexo.errors import ExoError, GateClosed, TrapRefused
from libexo.ipc.endpoint import Endpoint
from libexo.ipc.exchange import Arrival
from libexo.ipc.packing import ENCODE, TIMED
from libexo.ipc.peer import Peer
from libexo.ipc.tickets import tickets
from libexo.transport.base import Descriptor, Frames, Inbox
from libexo.transport.ring.duplex import open_duplex

SWEEP = 32
"""Peers of an earlier epoch that make a sweep worth its trap."""
RINGS = 256
"""Rings to one thread at a time; later ones are refused."""
_ENDS = 3
"""Descriptors of a binding: its connection, two tickets."""
_RING_ENDS = 3
"""Further descriptors of a ring: its memory, two ends of doorbells."""


class Peers:
    """The bindings to one thread."""

    def __init__(self, own: Endpoint, gone: Callable[[Peer], None]) -> None:
        """Take the bindings to the thread of *own*; call *gone* with each peer that is found to be gone."""
        self.known: dict[bytes, Peer] = {}
        """By token."""
        self._own = own
        self._gone = gone

    def take_in(self, inbox: Inbox) -> None:
        """Admit to *inbox* some of the peers that were bound to us since the last time."""
        own = self._own
        epoch = own.kip.epoch
        arrived, descriptors = own.sys.incoming(own.thread)
        for each in arrived:
            count = _ENDS + (_RING_ENDS if each.who.ring else 0)
            given, descriptors = descriptors[:count], descriptors[count:]
            if len(given) < count:  # the host had no room for them here: they are lost
                self._close(given)
                self.end(each.token)
                continue
            peer = self.known[each.token] = self._meet(each.token, each.who, given[1:])
            peer.epoch = epoch
            is_last = not own.host.has_room(given[-1])
            peer.put = partial(_put, inbox.send, each.token)
            inbox.admit(each.token, given[0], peer.family)
            if is_last:
                self.end(self._of_whom_most())
        if arrived:
            self.sweep(SWEEP)

    def stands(self, peer: Peer) -> bool:
        """Say whether *peer* is still bound to us; the kernel is asked if a binding fell meanwhile."""
        return peer.epoch == self._own.kip.epoch or self.identify(peer.token) is not None

    def identify(self, token: bytes) -> Peer | None:
        """Ask the kernel whether the binding of *token* stands; return its peer, or None."""
        own, peer = self._own, self.known.get(token)
        if peer is None:
            return None
        epoch = own.kip.epoch
        try:
            own.sys.identify(token, own.thread)
        except (TrapRefused, GateClosed):
            self.forget(token)
            return None
        peer.epoch = epoch
        return peer

    def is_up(self, arrival: Arrival) -> bool:
        """Say whether *arrival* could be taken now. A sender that withdraws it at this moment has to try again."""
        peer, sequence = arrival.peer, arrival.packet.sequence
        if peer is None or not arrival.packet.flags & TIMED:
            return True
        return self.posted(peer) == sequence

    def posted(self, peer: Peer) -> int:
        """Return the number of the message that *peer* has up; 0: it has none, or is gone."""
        if not self.stands(peer):
            return 0
        posted = peer.tickets.take()
        peer.tickets.put_back(posted)
        return posted

    def _meet(self, token: bytes, who: traps.Identified, descriptors: list[Descriptor]) -> Peer:
        """Return a new peer, with our end of its ring if it has one and there is room for it."""
        host = self._own.host
        peer = Peer(
            who.thread, who.environment, token, tickets(host, descriptors), who.redirected, who.family
        )
        if who.ring:
            if sum(known.line is not None for known in self.known.values()) < RINGS:
                peer.line = open_duplex(host, who.ring, descriptors[2:], receiver=True)
            else:
                self._close(descriptors[2:])
        return peer

    def _close(self, descriptors: list[Descriptor]) -> None:
        for descriptor in descriptors:
            self._own.host.close_descriptor(descriptor)

    def _of_whom_most(self) -> bytes:
        """Return the youngest binding of the family that has the most."""
        most, _ = Counter(peer.family for peer in self.known.values()).most_common(1)[0]
        return next(peer.token for peer in reversed(self.known.values()) if peer.family == most)

    def end(self, token: bytes) -> None:
        """End the binding of *token*: its sender is told."""
        with suppress(ExoError):  # it fell meanwhile
            self._own.sys.unbind(token, self._own.thread)
        self.forget(token)

    def sweep(self, least: int = 1) -> None:
        """Forget some of the peers that are gone; for fewer than *least* candidates that is not worth its trap."""
        own, epoch = self._own, self._own.kip.epoch
        stale = [p.token for p in self.known.values() if p.epoch != epoch][:SWEEP]
        if len(stale) < least:
            return
        outcomes, _ = own.sys.batch([traps.Identify(token, own.thread) for token in stale])
        for token, outcome in zip(stale, outcomes, strict=True):
            if isinstance(outcome, TrapRefused):
                self.forget(token)
            else:
                self.known[token].epoch = epoch

    def forget(self, token: bytes) -> None:
        """Close and forget the peer of *token*."""
        peer = self.known.pop(token, None)
        if peer is not None:
            peer.close()
            self._gone(peer)

    def close(self) -> None:
        """Forget everybody."""
        for peer in self.known.values():
            peer.close()
        self.known.clear()


def _put(
    send: Callable[[bytes, Frames], bool], token: bytes, mark: int, sequence: int, label: int, string: bytes
) -> bool:
    """Write a plain answer back over the binding of *token*."""
    packet = Packet(mark >> 48, sequence, label, (mark >> 16 & 0xFFFF,), (ShortPart(string),))
    return send(token, (ENCODE(packet),))
