"""Lottery scheduling: C. A. Waldspurger and W. E. Weihl, OSDI 1994."""

from collections.abc import Sequence
from random import Random

from libexo.sched import QUANTUM, Member, Plan, microseconds
from servers.scheduler.policies.drawing import draw


class Lottery:
    """Each quantum goes to the holder of a ticket that is drawn; who is awake has as many as its weight."""

    name = "lottery"

    def __init__(self, quantum: int = QUANTUM * 1000, seed: int | None = None) -> None:
        """Draw for each *quantum* ns, by *seed*: by the host's randomness without one."""
        self._quantum = microseconds(quantum)
        self._random = Random(seed)

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return the winners of the next quanta."""
        del now
        holders = [each for each in members if not each.asleep]
        if not holders:
            return Plan([])
        threads, tickets = [each.thread for each in holders], [each.weight for each in holders]
        return draw(lambda: self._random.choices(threads, tickets)[0], self._quantum, holders)
