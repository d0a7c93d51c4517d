"""Plans by rank: the first that is awake has the processor, until it sleeps or one before it wakes."""

from collections.abc import Sequence

from libexo.sched import MAX_SLICE_US, MAX_SLICES, Member, Plan


def by_rank(ranked: Sequence[Member], others: Plan) -> Plan:
    """Return a plan in which the first of *ranked* that is awake runs; when none is, that of the *others*.

    The slices of the ranked are of no account: the plan is renewed before the first is used up, and begins again.
    """
    awake = [(each.thread, MAX_SLICE_US) for each in ranked if not each.asleep]
    asleep = [(each.thread, MAX_SLICE_US) for each in ranked if each.asleep]
    if not awake:
        return Plan([*asleep, *others.slices][:MAX_SLICES], others.again)
    return Plan([*awake, *others.slices, *asleep][:MAX_SLICES], MAX_SLICE_US // 2, now=True)
