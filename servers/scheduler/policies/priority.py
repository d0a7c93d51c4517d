"""Fixed priorities: the highest that are awake, and nobody else."""

import math
from collections.abc import Mapping, Sequence

from libexo.sched import MAX_SLICES, QUANTUM, Member, Plan, microseconds


class Priority:
    """Those of the highest `priority` that are awake go round robin; who sets none has 0, larger ones come first.

    Those above them, which sleep, are in the plan too: so they have the processor as soon as they wake. With
    `inherit=1` one for whom another sleeps and waits, by IPC, has the priority of that one until it answers.
    """

    name = "priority"

    def __init__(self, quantum: int = QUANTUM * 1000, inherit: int = 0) -> None:
        """Give those of one priority *quantum* ns in turn; with *inherit*, who is waited for has the waiter's."""
        self._quantum, self._inherits = microseconds(quantum), bool(inherit)

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return a slice for each of the highest awake, and of those above."""
        del now
        ranks = {each.thread: priority(each) for each in members}
        if self._inherits:
            ranks = inherited(members, ranks)
        awake = max((ranks[each.thread] for each in members if not each.asleep), default=-math.inf)
        slices = [(each.thread, self._quantum) for each in members if ranks[each.thread] >= awake]
        return Plan(slices[:MAX_SLICES])


def priority(member: Member) -> float:
    """Return its priority. Raises ValueError."""
    said = member.parameters.get("priority", 0)
    if isinstance(said, str):
        raise ValueError(f"{member.name}: a priority is a number, not {said!r}")  # noqa: TRY004 - a refusal
    return said


def inherited(members: Sequence[Member], ranks: Mapping[int, float]) -> dict[int, float]:
    """Return *ranks*, with those for whom others wait raised to theirs, through any number of waits."""
    found, waits = dict(ranks), {each.thread: each.waits_for for each in members}
    rising = sorted(found, key=found.__getitem__)
    while rising:
        waiter = rising.pop()
        for thread in waits[waiter]:
            if thread in found and found[thread] < found[waiter]:
                found[thread] = found[waiter]
                rising.append(thread)
    return found
