"""Round robin: all in turn."""

from collections.abc import Sequence

from libexo.sched import MAX_SLICE_US, MAX_SLICES, QUANTUM, Member, Plan, microseconds


class RoundRobin:
    """Everyone has one slice a round, as long as its weight says. The kernel skips those that sleep."""

    name = "round-robin"

    def __init__(self, quantum: int = QUANTUM * 1000) -> None:
        """Give *quantum* ns for each part."""
        self._quantum = microseconds(quantum)

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return one slice a member."""
        del now
        slices = [(each.thread, min(self._quantum * each.weight, MAX_SLICE_US)) for each in members]
        return Plan(slices[:MAX_SLICES])
