"""Answers that their receivers are to say something about: that they were taken, or could not be."""

from typing import TYPE_CHECKING

from kernel.abi.ids import show_thread
from kernel.abi.messages import IpcCode, Packet, Phase
from libexo.errors import IpcError, NoPartner, transfer_error
from libexo.ipc.exchange import Answer
from libexo.ipc.packing import take_back
from libexo.ipc.peer import Peer
from libexo.ipc.wire import REFUSED

if TYPE_CHECKING:
    from collections import Counter

    from libexo.attachment import Attachment

FOLLOWED = 1024
"""Answers followed at a time; beyond, the one that its receiver has been silent about for longest is given up."""


class Followed:
    """Those of one thread."""

    def __init__(self, environment: "Attachment", statistics: "Counter[str]") -> None:
        """Take back what an answer of *environment* offered, when it was not taken."""
        self._sys = environment.sys
        self._statistics = statistics
        self.answers: dict[tuple[bytes, int], Answer] = {}
        """By the token and the sequence number of what they answer."""

    def follow(self, peer: Peer, sequence: int, given: tuple[int, ...]) -> Answer:
        """Return an answer that ends when *peer* says how it went."""
        answer = self.answers[peer.token, sequence] = Answer(peer.thread, given)
        if len(self.answers) > FOLLOWED:
            longest = next(iter(self.answers))
            self._give_up(longest, IpcError(IpcCode.ABORTED, Phase.SEND, "nothing was said about the answer"))
        return answer

    def heard(self, token: bytes, packet: Packet) -> None:
        """The receiver of an answer says how it went."""
        answer = self.answers.pop((token, packet.sequence), None)
        if answer is None:
            self._statistics["unexpected_answer"] += 1
            return
        if packet.kind == REFUSED:
            take_back(self._sys, answer.given)
            word = packet.words[0] if packet.words else 0
            text = f"thread {show_thread(answer.to)} could not take the whole answer"
            answer.error = transfer_error(word, Phase.SEND, text)
        answer.done = True

    def gone(self, peer: Peer) -> None:
        """What *peer* was to say will not be said."""
        for key in [key for key in self.answers if key[0] == peer.token]:
            self._give_up(key, NoPartner(Phase.SEND, f"thread {show_thread(peer.thread)} ended meanwhile"))

    def _give_up(self, key: tuple[bytes, int], error: IpcError) -> None:
        answer = self.answers.pop(key)
        take_back(self._sys, answer.given)
        answer.error, answer.done = error, True
