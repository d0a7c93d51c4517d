"""Answers to messages we received: given, or left to another thread.

An answer whose receiver reports how much of it it took, and the request that a caller wait for another's answer,
are messages of ours under way until that report.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.abi.ids import show_thread
from kernel.abi.messages import IpcCode, Packet, Phase
from libexo.errors import IpcError, IpcTimeout, NoPartner
from libexo.ipc import message as messages
from libexo.ipc import packing
from libexo.ipc.exchange import Exchange, State
from libexo.ipc.message import Message, Origin
from libexo.ipc.packing import ENDS, REFUSED, REPLY, TAKEN, TELLS, TURN, TURNED, note, outgoing, take_back
from libexo.ipc.peer import Peer
from libexo.ipc.receiving import Receiving

if TYPE_CHECKING:
    from libexo.attachment import Attachment
    from libexo.transport.base import Frames

ANSWERS = 1024
"""Answers under way at a time; of more, the oldest is given up."""
_OVER = Exchange(REPLY, 0, 0, state=State.OVER)


class Answering(Receiving):
    """Receiving, and answering."""

    def __init__(self, environment: "Attachment", thread: int) -> None:
        """Answer as *thread* of *environment*."""
        super().__init__(environment, thread)
        self.on_ring: Callable[[], None] | None = None
        """Called when an answer goes into a ring, in which it may wait for room."""
        self._answers: dict[tuple[bytes, int], Exchange] = {}
        """Answers under way, by token and sequence number of the message they answer, the oldest first."""
        self.hesitant: dict[int, None] = {}
        """Parties, the earliest first, of which a thread let the time pass in which to confirm that another is to
        answer it, and none has confirmed that since."""
        self._epoch = 0
        """The binding epoch when it was last found out who is to report on them."""

    def answer(self, origin: Origin, message: Message, *, tells: bool = False, virtual: int = 0) -> Exchange:
        """Answer a received message, for thread *virtual* if that is given (X.2 propagation).

        With *tells* the returned exchange is over when the receiver reported how much of it it took; else at once.
        Raises NoPartner when the receiver is gone or waits for no answer, IpcTimeout when it gave up waiting.
        """
        peer = origin.peer
        if peer is None:
            self.sys.acknowledge(origin.sender, message.words)
            return _OVER
        messages.check(message)
        if peer.line is not None:
            self.recheck(origin)  # a ring takes an answer even when its reader is gone
            if self.on_ring is not None:
                self.on_ring()
        if not self._waits(origin):
            raise NoPartner(Phase.SEND, f"thread {show_thread(peer.thread)} waits for no answer")
        sequence, flags = origin.sequence, TELLS if tells else 0
        frames, given = outgoing(self.sys, message, REPLY, sequence, peer.thread, flags, virtual)
        if origin.timed and not peer.tickets.pay(sequence):
            take_back(self.sys, given)
            raise IpcTimeout(Phase.SEND, f"thread {show_thread(peer.thread)} waits no longer")
        if not self._give(origin, frames):
            take_back(self.sys, given)
            raise NoPartner(Phase.SEND, f"thread {show_thread(peer.thread)} is gone")
        return self._follow(peer, Exchange(REPLY, sequence, peer.thread, given)) if tells else _OVER

    def forward(self, origin: Origin, to: int) -> Exchange | None:
        """Have the caller of *origin* wait for an answer of thread *to* instead; *to* itself takes that back.

        The returned exchange is over when the caller confirms it. None: the caller waits no longer.
        """
        peer, sequence, back = origin.peer, origin.sequence, to == self.thread
        self.recheck(origin)
        if peer is None or not self._waits(origin):
            return None
        if origin.timed and not back and not peer.tickets.pay(sequence):
            return None
        if not self._give(origin, note(TURN, sequence, to), owed=not back):
            return None
        return self._follow(peer, Exchange(TURN, sequence, peer.thread))

    def hesitates(self, peer: Peer) -> None:
        """*peer* let the time pass in which to confirm that another is to answer it."""
        self.hesitant[peer.family] = None
        if len(self.hesitant) > ANSWERS:
            del self.hesitant[next(iter(self.hesitant))]

    def recheck(self, origin: Origin) -> None:
        """Find out whether the sender of *origin* is still there, if a binding fell meanwhile."""
        if origin.peer is not None:
            self.peers.stands(origin.peer)

    def recheck_answers(self) -> None:
        """Find out whether who is to report on an answer of ours is still there, if a binding fell meanwhile.

        That is, before the last time that this was called: a report that was under way then has arrived.
        """
        before, self._epoch = self._epoch, self.kip.epoch
        for token in {token for token, _ in self._answers}:
            if (peer := self.peers.known.get(token)) is not None and peer.epoch < before:
                self.peers.stands(peer)

    def _waits(self, origin: Origin) -> bool:
        """Say whether the sender of *origin* waits for an answer, as far as is known without its ticket."""
        return origin.answers and origin.peer is not None and origin.peer.token in self.peers.known

    def _give(self, origin: Origin, frames: "Frames", *, owed: bool = True) -> bool:
        """Send the answer whose ticket we took. False: that failed, and the answer is *owed* as before."""
        assert origin.peer is not None
        if self.send_back(origin.peer.token, frames):
            return True
        if origin.timed and owed:
            origin.peer.tickets.owe(origin.sequence)  # the caller may still be there, with a full queue
        return False

    def _follow(self, peer: Peer, exchange: Exchange) -> Exchange:
        """Remember *exchange* until *peer* reports on it; of too many, give up the oldest."""
        self._answers[peer.token, exchange.sequence] = exchange
        if len(self._answers) > ANSWERS:
            text = "nothing was said about the answer"
            self._ended(next(iter(self._answers)), IpcError(IpcCode.ABORTED, Phase.SEND, text))
        return exchange

    def told(self, peer: Peer, packet: Packet) -> None:
        """Take in a report: how an answer of ours was taken, or that *peer* waits for another thread's."""
        if packet.kind not in (TAKEN, REFUSED, TURNED):
            super().told(peer, packet)
            return
        key = peer.token, packet.sequence
        exchange = self._answers.get(key)
        if exchange is None or packet.kind not in (ENDS[exchange.kind], REFUSED):
            self.statistics["unexpected_answer"] += 1
        elif packet.kind == REFUSED:
            self._ended(key, packing.refused(packet, exchange.to))
        else:
            self.hesitant.pop(peer.family, None)
            self._ended(key)

    def _ended(self, key: tuple[bytes, int], error: IpcError | None = None) -> None:
        """End an answer of ours; with an *error*, take its offers back."""
        exchange = self._answers.pop(key)
        if error is not None:
            take_back(self.sys, exchange.given)
        exchange.error, exchange.state = error, State.OVER

    def gone(self, peer: Peer) -> None:
        """*peer* is bound no longer: it will not report on answers of ours."""
        super().gone(peer)
        text = f"thread {show_thread(peer.thread)} ended meanwhile"
        for key in [key for key in self._answers if key[0] == peer.token]:
            self._ended(key, NoPartner(Phase.SEND, text))
