"""Rate monotonic: C. L. Liu and J. W. Layland, Journal of the ACM 20, 1973."""

from collections.abc import Sequence

from libexo.sched import QUANTUM, Member, Plan
from servers.scheduler.policies.ranks import by_rank
from servers.scheduler.policies.saying import time
from servers.scheduler.policies.stride import Stride


class RateMonotonic:
    """Of those that are awake, the one of the shortest `period` has the processor, as soon as it wakes.

    Those without a period divide by weight what is left while all others sleep.
    """

    name = "rate-monotonic"

    def __init__(self, quantum: int = QUANTUM * 1000) -> None:
        """Divide among those without a period by *quantum* ns."""
        self._others = Stride(quantum)

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return the order of periods."""
        periods = {each.thread: time(each, "period") or 0 for each in members}
        ranked = sorted((each for each in members if periods[each.thread]), key=lambda m: periods[m.thread])
        others = [each for each in members if not periods[each.thread]]
        return by_rank(ranked, self._others.plan(others, now))
