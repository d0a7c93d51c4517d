"""Stride scheduling: C. A. Waldspurger and W. E. Weihl, MIT/LCS/TM-528, 1995."""

from collections.abc import Sequence

from libexo.sched import QUANTUM, Member, Plan, microseconds
from servers.scheduler.policies.drawing import draw
from servers.scheduler.policies.passes import Passes


class Stride:
    """The next quantum is for the member whose *pass* is the least after it: it moves on by one over the weight.

    Of equal ones, to a microsecond, the larger weight is first. A pass moves by what was used, not by what was
    planned. Who sleeps is taken out with its distance from the others, and is as far from them when it wakes: it
    gains nothing by sleep, and loses nothing.
    """

    name = "stride"

    def __init__(self, quantum: int = QUANTUM * 1000) -> None:
        """Give each *quantum* ns by the passes."""
        self._quantum = microseconds(quantum)
        self._passes = Passes()

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return the next quanta, if all are used as planned."""
        del now
        awake = [each for each in members if not each.asleep]
        passes = self._passes.update(members)
        if not awake:
            return Plan([])
        ahead = {each.thread: passes[each.thread] for each in awake}
        steps = {each.thread: self._quantum * 1000 / each.weight for each in awake}

        def following() -> int:
            thread = min(ahead, key=lambda each: (round((ahead[each] + steps[each]) / 1000), steps[each]))
            ahead[thread] += steps[thread]
            return thread

        return draw(following, self._quantum, awake)
