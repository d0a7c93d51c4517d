"""Plans by rank: the first that is awake has the processor, until it sleeps or one before it wakes."""

from collections.abc import Sequence

from libexo.sched import MAX_SLICE_US, MAX_SLICES, QUANTUM, Member, Plan
from servers.scheduler.policies.round_robin import RoundRobin


def by_rank(
    ranked: Sequence[Member], others: Sequence[Member], now: int, quantum: int = QUANTUM * 1000
) -> Plan:
    """Return a plan in which the first of *ranked* that is awake runs; when none is, *others* go in turn.

    The slices of the ranked are of no account: the plan is renewed before the first is used up, and begins again.
    """
    turns = RoundRobin(quantum).plan(others, now).slices
    slices = [*((each.thread, MAX_SLICE_US) for each in ranked), *turns][:MAX_SLICES]
    if all(each.asleep for each in ranked):
        return Plan(slices)
    return Plan(slices, MAX_SLICE_US // 2, now=True)
