"""Who is bound to us: the kernel says so, once, for each token that messages come under.

What it said is remembered until the KIP's binding epoch changes, for then some binding fell. A peer that is found
again is the same; one that is gone is forgotten, at the latest when many others have come and gone.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.abi import traps
from kernel.abi.limits import TOKEN_BYTES
from libexo.errors import GateClosed, TrapRefused
from libexo.exchange import Peer
from libexo.host.base import Descriptor
from libexo.transport.ring.line import open_line

if TYPE_CHECKING:
    from libexo.environment import Environment

SWEEP = 32
"""Peers of an earlier epoch that make a sweep worth its trap."""
RINGS = 256
"""Rings to one thread at a time; who comes later is served as those without."""


class Peers:
    """The bindings to one thread, as far as they were used."""

    def __init__(self, environment: "Environment", gone: Callable[[Peer], None]) -> None:
        """Ask the kernel of *environment*; call *gone* for each that is found to be."""
        self.known: dict[bytes, Peer] = {}
        """By token."""
        self._environment = environment
        self._gone = gone

    def identify(self, token: bytes, thread: int) -> Peer | None:
        """Return whose binding to *thread* the *token* is, by what the kernel says now; None: nobody's."""
        environment, peer = self._environment, self.known.get(token)
        epoch = environment.kip.epoch
        if len(token) != TOKEN_BYTES:
            return None  # chosen by a sender that has no binding: to ask the kernel about it would be a fault
        try:
            identified, descriptors = environment.sys.identify(token, thread)
        except (TrapRefused, GateClosed):
            self.forget(token)
            return None
        if peer is not None:
            self._close(descriptors)
        else:
            peer = self.known[token] = self._meet(token, identified, descriptors)
            self._sweep(epoch, thread)
        peer.epoch = epoch
        return peer

    def _meet(self, token: bytes, identified: traps.Identified, descriptors: list[Descriptor]) -> Peer:
        """Return a peer that was not known, with our end of its ring if it has one and there is room for it."""
        host = self._environment.host
        tickets = host.ticket(descriptors[0]), host.ticket(descriptors[1])
        peer = Peer(
            identified.thread, identified.environment, token, tickets, redirected=identified.redirected
        )
        if identified.ring:
            if sum(known.line is not None for known in self.known.values()) < RINGS:
                peer.line = open_line(host, identified.ring, descriptors[2:], receiver=True)
            else:
                self._close(descriptors[2:])
        return peer

    def _close(self, descriptors: list[Descriptor]) -> None:
        for descriptor in descriptors:
            self._environment.host.close_descriptor(descriptor)

    def _sweep(self, epoch: int, thread: int) -> None:
        """Forget peers that are gone, a batch at a time, so that those who come and go leave nothing behind."""
        stale = [p.token for p in self.known.values() if p.epoch != epoch and p.epoch][:SWEEP]
        if len(stale) < SWEEP:
            return
        outcomes, descriptors = self._environment.sys.batch(
            [traps.Identify(token, thread) for token in stale]
        )
        for token, outcome in zip(stale, outcomes, strict=True):
            if isinstance(outcome, TrapRefused):
                self.forget(token)
            else:
                self.known[token].epoch = epoch
        self._close(descriptors)

    def forget(self, token: bytes) -> None:
        """Nothing comes under *token* any more."""
        peer = self.known.pop(token, None)
        if peer is not None:
            peer.close()
            self._gone(peer)
