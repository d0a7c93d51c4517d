"""Messages that arrived and were not taken yet: in what order, and which of them are too many.

Each weighs its bytes, and a little for being there. While a thread waits for one partner, those of others stay;
beyond what it may hold, whoever has the most there loses its latest.
"""

from collections import Counter, deque
from collections.abc import Iterable
from operator import attrgetter

from kernel.abi.gate import Upcall
from kernel.abi.ids import ANY_LOCAL_THREAD
from kernel.abi.limits import SHORT_STRING
from kernel.abi.messages import Packet, ShortPart
from libexo.exchange import Arrival
from libexo.packing import plain
from libexo.wire import SEND

AHEAD = 20_000_000
"""How long a message may have waited unseen, in ns, to go before one that was seen: a backlog is its sender's."""
_SINCE = attrgetter("since")


def in_order(held: Iterable[Arrival], known: int, now: int) -> deque[Arrival]:
    """Return *held*, of which what came after the first *known* is moved to where it belongs."""
    all_held = list(held)
    came = sorted(all_held[known:], key=_SINCE)
    for arrival in came:
        arrival.since = min(max(arrival.since, now - AHEAD), now)
    return deque(sorted((*all_held[:known], *came), key=_SINCE))


def is_from(arrival: Arrival, sender: int, environment: int) -> bool:
    """Say whether *arrival* is from *sender*, be it anybody of *environment*, where it arrived."""
    if sender == arrival.sender:
        return True
    peer = arrival.peer
    if peer is None:
        return False
    if sender == ANY_LOCAL_THREAD:
        return peer.environment == environment
    return sender == peer.thread


def of_kernel(upcall: Upcall, now: int) -> Arrival:
    """Return a message of the kernel as one that arrived."""
    parts = (ShortPart(upcall.text.encode()[:SHORT_STRING]),) if upcall.text else ()
    packet = Packet(SEND, 0, upcall.label, upcall.words, parts)
    return Arrival(None, upcall.sender, packet, frames := [b""], plain(packet, frames), now)


def divide(held: Iterable[Arrival], room: int) -> tuple[deque[Arrival], list[Arrival]]:
    """Return those of *held* that stay, in *room* at most, and those whose senders are to have them back."""
    held = list(held)
    theirs: dict[int, list[Arrival]] = {}
    weight: Counter[int] = Counter()
    for arrival in held:
        if arrival.peer is not None:
            theirs.setdefault(arrival.peer.environment, []).append(arrival)
            weight[arrival.peer.environment] += arrival.weight
    refused: dict[Arrival, None] = {}
    over = weight.total() - room
    while over > 0:
        most = max(weight, key=weight.__getitem__)
        latest = theirs[most].pop()
        refused[latest] = None
        weight[most] -= latest.weight
        over -= latest.weight
    return deque(arrival for arrival in held if arrival not in refused), list(refused)
