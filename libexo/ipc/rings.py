"""Rings: messages through memory that a binding's two threads share (`libexo.transport.ring`).

    open_ring(thread, server)       # the sender's side, done by `Interface.connect(..., transport="ring")`

The sender pays for the memory with an extent, which the kernel turns into memory of the binding that nobody can
take away (`kernel.rings`). It then tells the receiver, over the binding's socket; when that says that it has its
end, both use the ring from then on. A receiver that has too many rings already refuses, and the messages go on
through the socket: that is slower, and all else is the same.

What a broken ring brings is thrown away, it is closed and counted, and its binding falls, so that both sides know.
"""

import platform
from contextlib import suppress
from typing import TYPE_CHECKING

from kernel.abi.messages import IpcCode, Packet, Phase
from libexo.errors import BrokenRing, ExoError, IpcError, TrapRefused, error_word
from libexo.ipc.wire import ENCODE, REFUSED, RING, TAKEN
from libexo.transport.ring.ends import RingInbox
from libexo.transport.ring.spinning import Patience

if TYPE_CHECKING:
    from collections import Counter

    from libexo.environment import Environment
    from libexo.ipc.exchange import Link, Peer
    from libexo.ipc.peers import Peers
    from libexo.ipc.thread import Thread
    from libexo.transport.base import Inbox

PAGES = 33
"""Of a ring, unless the sender says otherwise: control words, and 64 KiB for each direction."""
ORDERED = ("x86_64", "AMD64")
"""Hosts on which others see stores in the order they were made, as `libexo.transport.ring.line` needs it."""
_NO_ROOM = error_word(IpcCode.OVERFLOW, Phase.SEND)


class Rings:
    """The rings to one thread."""

    def __init__(
        self,
        environment: "Environment",
        thread: int,
        peers: "Peers",
        inbox: "Inbox",
        statistics: "Counter[str]",
    ) -> None:
        """Receive beside *inbox*, as *thread* of *environment*, from the *peers* that have a ring."""
        self._environment = environment
        self._thread = thread
        self._peers = peers
        self._statistics = statistics
        self._epoch = 0
        """The binding epoch in which all of them were known to be there."""
        self.inbox = RingInbox(inbox, Patience(environment.host.looks), self._broken)

    def recheck(self) -> None:
        """Forget those whose binding fell, if any did since the last time: they would keep their memory here."""
        epoch = self._environment.kip.epoch
        if self._epoch != epoch:
            self._epoch = epoch
            for token in [token for token, _ in self.inbox.lines]:
                self._peers.identify(token, self._thread)

    def _broken(self, token: bytes, error: BrokenRing) -> None:
        """The sender of *token* does not keep to the rules."""
        self._statistics["broken_ring"] += 1
        with suppress(ExoError):
            self._environment.sys.unbind(token, self._thread)
        self._peers.forget(token)


def answer_ring(inbox: "Inbox", peer: "Peer", sequence: int) -> bool:
    """Tell *peer* whether we have our end of its ring: True. What is said after that goes through it."""
    kind, words = (TAKEN, ()) if peer.line is not None else (REFUSED, (_NO_ROOM,))
    inbox.send(peer.token, (ENCODE(Packet(kind, sequence, 0, words)),))
    return peer.line is not None


def open_ring(thread: "Thread", to: int, pages: int = PAGES) -> "Link":
    """Have the messages of *thread* to thread *to* go through a ring of that many *pages*.

    They do once the receiver has said so, which nobody waits for. The memory server gives the memory; it is the
    caller's as long as the binding stands. Raises NoPartner, RemoteError (no memory), ExoError on a host that does
    not keep stores in order.
    """
    from servers.memory.api import Memory  # noqa: PLC0415 - its stub needs this module

    if platform.machine() not in ORDERED:
        raise ExoError(
            f"rings need a host that keeps stores in order ({ORDERED[0]}), not {platform.machine()}"
        )
    return open_paid(thread, to, Memory.connect(thread.environment).allocate(pages).handle)


def open_paid(thread: "Thread", to: int, extent: int) -> "Link":
    """Do the same with the extent of that handle, which is used up. Raises TrapRefused when it cannot be."""
    sending = thread.core.sending
    try:
        link = sending.bind(to, extent)
    except (IpcError, TrapRefused):
        thread.environment.sys.drop(extent)
        raise
    link.paid = extent
    sending.prefer(link)
    sending.ask(link, RING)
    return link
