"""The rings to a thread of ours: what comes through them, and what becomes of one that is broken.

How a binding comes to its ring is told in `libexo.ipc.ring`. What a broken ring brings is thrown away, it is closed
and counted, and its binding falls, so that both sides know.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from kernel.abi.messages import IpcCode, Packet, Phase
from libexo.errors import BrokenRing, ExoError, error_word
from libexo.ipc.wire import ENCODE, REFUSED, TAKEN
from libexo.transport.ring.ends import RingInbox
from libexo.transport.ring.spinning import Patience

if TYPE_CHECKING:
    from collections import Counter

    from libexo.attachment import Attachment
    from libexo.ipc.peer import Peer
    from libexo.ipc.peers import Peers
    from libexo.transport.base import Inbox

_NO_ROOM = error_word(IpcCode.OVERFLOW, Phase.SEND)


class Rings:
    """The rings to one thread."""

    def __init__(
        self,
        environment: "Attachment",
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
