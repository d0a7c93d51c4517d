"""The order of messages that wait to be taken: whose sender has waited longest is first."""

from collections import Counter, deque
from operator import attrgetter

from libexo.exchange import Arrival

EACH = 1024
"""Messages held of one family for later receives, beyond which it waits while there are many (`PENDING`)."""
_SINCE = attrgetter("since")


def put_in_order(held: deque[Arrival], now: int) -> None:
    """Put *held* in order. Nobody can claim to have begun to wait later than *now*."""
    if len(held) > 1:
        for arrival in held:
            arrival.since = min(arrival.since, now)
        ordered = sorted(held, key=_SINCE)
        held.clear()
        held.extend(ordered)


def crowd(held: deque[Arrival]) -> set[int]:
    """Return the families that have more than EACH messages among *held*."""
    counts = Counter(arrival.peer.family for arrival in held if arrival.peer is not None)
    return {family for family, count in counts.items() if count >= EACH}


def is_enough(held: deque[Arrival], most: int, statistics: Counter[str]) -> bool:
    """Say whether *held* is enough to find who has waited longest: *most*, or two of one sender.

    Who sends a second message while the first waits does not wait with it yet. Withdrawn ones do not count.
    """
    if not _is_enough(held, most):
        return False
    if len(held) < 2 * most:
        statistics["withdrawn"] += drop_withdrawn(held)
    return _is_enough(held, most)


def _is_enough(held: deque[Arrival], most: int) -> bool:
    if len(held) >= most:
        return True
    senders = [arrival.peer for arrival in held if arrival.peer is not None]
    return len(set(senders)) < len(senders)


def drop_withdrawn(held: deque[Arrival]) -> int:
    """Forget those of *held* that could not be taken any more; return how many these were."""
    up = [arrival for arrival in held if arrival.is_up()]
    if gone := len(held) - len(up):
        held.clear()
        held.extend(up)
    return gone
