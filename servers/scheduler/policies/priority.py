"""Fixed priorities: the highest that are awake, and nobody else."""

import math
from collections.abc import Sequence

from libexo.sched import MAX_SLICES, QUANTUM, Member, Plan, microseconds


class Priority:
    """Those of the highest `priority` that are awake go round robin; who sets none has 0, larger ones come first.

    Those above them, which sleep, are in the plan too: so they have the processor as soon as they wake.
    """

    name = "priority"

    def __init__(self, quantum: int = QUANTUM * 1000) -> None:
        """Give those of one priority *quantum* ns in turn."""
        self._quantum = microseconds(quantum)

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return a slice for each of the highest awake, and of those above."""
        del now
        awake = max((priority(each) for each in members if not each.asleep), default=-math.inf)
        slices = [(each.thread, self._quantum) for each in members if priority(each) >= awake]
        return Plan(slices[:MAX_SLICES])


def priority(member: Member) -> float:
    """Return its priority. Raises ValueError."""
    said = member.parameters.get("priority", 0)
    if isinstance(said, str):
        raise ValueError(f"{member.name}: a priority is a number, not {said!r}")  # noqa: TRY004 - a refusal
    return said
