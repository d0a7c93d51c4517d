"""Fair by virtual run time, as Linux's CFS was (I. Molnar, 2007), after fair queueing (P. Goyal, OSDI 1996)."""

from collections.abc import Sequence

from libexo.sched import MAX_SLICE_US, MAX_SLICES, Member, Plan, microseconds
from servers.scheduler.policies.passes import Passes

MS = 1_000_000


class Fair:
    """Each round is divided by weight; who is behind has more of it, who is ahead less, or is left out.

    Who wakes is behind by half a round at most, however long it slept: what needs little has it soon.
    """

    name = "fair"

    def __init__(self, latency: int = 24 * MS, least: int = 1 * MS) -> None:
        """Let everyone run once in *latency* ns, if that gives each the *least*; otherwise a round is longer."""
        self._latency, self._least = microseconds(latency), microseconds(least)
        self._passes = Passes(credit=latency // 2)

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return one round."""
        del now
        passes = self._passes.update(members)
        awake = sorted((each for each in members if not each.asleep), key=lambda each: passes[each.thread])
        if len(awake) <= 1:
            return Plan([(each.thread, self._latency) for each in awake])
        period = max(self._latency, self._least * len(awake))
        total = sum(each.weight for each in awake)
        mean = sum(passes[each.thread] * each.weight for each in awake) / total
        slices: list[tuple[int, int]] = []
        for each in awake[:MAX_SLICES]:
            part, behind = period * each.weight / total, (mean - passes[each.thread]) * each.weight / 1000
            length = min(int(part + min(max(behind, -part), part)), MAX_SLICE_US)
            if length >= self._least or not slices:
                slices.append((each.thread, max(length, self._least)))
        return Plan.once(slices)
