"""Virtual time: how far each member has come, in ns of CPU time for a weight of one."""

import math
from collections.abc import Mapping, Sequence

from libexo.sched import Member


class Passes:
    """The virtual time of each member. Their common one goes on as they use the processor together."""

    def __init__(self, credit: float = math.inf) -> None:
        """Let who wakes be *credit* behind the common time at most; without one, as far as when it fell asleep."""
        self._credit = credit
        self._common = 0.0
        self._passes: dict[int, float] = {}
        self._used: dict[int, int] = {}
        """CPU time of each with what is left of its slice, when last told."""
        self._slept: dict[int, float] = {}
        """The common time when each sleeper fell asleep."""

    def update(self, members: Sequence[Member]) -> Mapping[int, float]:
        """Count what *members* used since the last time; return the virtual time of each."""
        self._count(members)
        before, self._passes = self._passes, {}
        slept, self._slept = self._slept, {}
        for each in members:
            place = before.get(each.thread, self._common)
            if each.asleep:
                self._slept[each.thread] = slept.get(each.thread, self._common)
            elif each.thread in slept:
                place = self._woken(place, slept[each.thread])
            self._passes[each.thread] = place
        self._used = {each.thread: each.used + each.left for each in members}
        return self._passes

    def _count(self, members: Sequence[Member]) -> None:
        total = weights = 0
        for each in members:
            if each.thread in self._used and each.thread not in self._slept:
                spent = each.used + each.left - self._used[each.thread]
                self._passes[each.thread] += spent / each.weight
                total += spent
                weights += each.weight
        self._common += total / weights if weights else 0

    def _woken(self, place: float, slept: float) -> float:
        if self._credit == math.inf:
            return place + self._common - slept
        return max(place, self._common - self._credit)
