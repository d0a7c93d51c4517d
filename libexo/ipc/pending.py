"""Messages that arrived and were not taken yet, and which of them are too many.

Each weighs its bytes, and a little more. While a thread waits for one partner, messages of others stay; beyond what
it may hold, the family that has the most loses its latest.
"""

from collections import Counter, deque

from kernel.abi.gate import Upcall
from kernel.abi.ids import ANY_LOCAL_THREAD
from kernel.abi.limits import SHORT_STRING
from kernel.abi.messages import Packet, ShortPart
from libexo.ipc.exchange import Arrival
from libexo.ipc.packing import SEND, plain


class Pending(deque[Arrival]):
    """Messages that arrived and were not taken yet, those of the kernel included."""

    def __init__(self) -> None:
        """Start with nothing."""
        super().__init__()
        self.weight = 0

    def append(self, arrival: Arrival) -> None:
        """Add *arrival* as the last."""
        super().append(arrival)
        self.weight += arrival.weight

    def popleft(self) -> Arrival:
        """Take the first."""
        arrival = super().popleft()
        self.weight -= arrival.weight
        return arrival

    def remove(self, arrival: Arrival) -> None:
        """Take *arrival*."""
        super().remove(arrival)
        self.weight -= arrival.weight

    def again(self, family: int) -> None:
        """Move the next message of *family*, if there is one, to the front."""
        for arrival in self:
            if arrival.peer is not None and arrival.peer.family == family:
                super().remove(arrival)
                super().appendleft(arrival)
                return

    def cut(self, room: int) -> list[Arrival]:
        """Keep what fits into *room*; return the others: the latest of the families that have most."""
        theirs: dict[int, list[Arrival]] = {}
        weight: Counter[int] = Counter()
        for arrival in self:
            if arrival.peer is not None:
                theirs.setdefault(arrival.peer.family, []).append(arrival)
                weight[arrival.peer.family] += arrival.weight
        gone: dict[Arrival, None] = {}
        while self.weight > room and weight:
            most = max(weight, key=weight.__getitem__)
            latest = theirs[most].pop()
            gone[latest] = None
            weight[most] -= latest.weight
            self.weight -= latest.weight
            if not theirs[most]:
                del weight[most]
        kept = [arrival for arrival in self if arrival not in gone]
        super().clear()
        super().extend(kept)
        return list(gone)


def is_from(arrival: Arrival, sender: int, environment: int) -> bool:
    """Say whether *arrival* is from *sender*; of ANY_LOCAL_THREAD, whether it is from *environment*."""
    if sender == arrival.sender:
        return True
    peer = arrival.peer
    if peer is None:
        return False
    if sender == ANY_LOCAL_THREAD:
        return peer.environment == environment
    return sender == peer.thread


def of_kernel(upcall: Upcall) -> Arrival:
    """Return a message of the kernel as one that arrived."""
    parts = (ShortPart(upcall.text.encode()[:SHORT_STRING]),) if upcall.text else ()
    packet = Packet(SEND, 0, upcall.label, upcall.words, parts)
    return Arrival(None, upcall.sender, packet, frames := [b""], plain(packet, frames))
