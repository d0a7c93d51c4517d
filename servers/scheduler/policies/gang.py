"""Gang scheduling: J. K. Ousterhout, *Scheduling Techniques for Concurrent Systems*, ICDCS 1982."""

from collections.abc import Sequence

from libexo.sched import MAX_SLICE_US, MAX_SLICES, MIN_SLICE_US, QUANTUM, Member, Plan, microseconds
from servers.scheduler.policies.passes import Passes
from servers.scheduler.policies.saying import group


class Gang:
    """Members of one `group` run at the same time on all their processors; on one of them, one after another.

    Time is cut into slots, which are the same on all processors. A slot belongs to a group, or to all members
    that are in none; it is as long as the awake of the group on one processor need, *quantum* each. A processor
    that has none of the group runs others meanwhile.
    """

    name = "gang"
    everywhere = True
    """One of it plans all processors."""

    def __init__(self, quantum: int = QUANTUM * 1000) -> None:
        """Give each member *quantum* ns in a slot of its group."""
        self._quantum = microseconds(quantum)
        self._awake: dict[int, dict[str, int]] = {}
        """How many of each group are awake on each processor, when it was last planned."""
        self._passes: dict[int, Passes] = {}
        """Of each processor: who had least is first in a slot, for whatever happens a slot is begun anew."""
        self._turns: list[str] = []
        """Groups: whose slot it is, who has the next ones."""
        self._until = 0

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return the rest of the slot, for one processor."""
        at = members[0].processor if members else 0
        passes = self._passes.setdefault(at, Passes()).update(members)
        awake = sorted((each for each in members if not each.asleep), key=lambda each: passes[each.thread])
        counts: dict[str, int] = {}
        for each in awake:
            counts[group(each)] = counts.get(group(each), 0) + 1
        self._awake[at] = counts
        if len(awake) <= 1:
            return Plan([(each.thread, self._quantum) for each in awake])
        slot = self._slot(now)
        rest = max((self._until - now) // 1000, MIN_SLICE_US)
        gang = [each for each in awake if group(each) == slot]
        first = gang or awake
        length = max(min(self._quantum, rest // len(first)), MIN_SLICE_US)
        others = [each for each in awake if group(each) != slot] if gang else []
        slices = [
            *((each.thread, length) for each in first),
            *((each.thread, MIN_SLICE_US) for each in others),
        ]
        return Plan(slices[:MAX_SLICES], min(rest, MAX_SLICE_US), now=True)

    def _slot(self, now: int) -> str:
        """Return whose slot it is at *now*: the same for all processors that are planned at that time."""
        longest: dict[str, int] = {}
        for counts in self._awake.values():
            for name, count in counts.items():
                longest[name] = max(longest.get(name, 0), count)
        over = now + MIN_SLICE_US * 1000 > self._until
        if self._turns and (over or self._turns[0] not in longest):
            self._turns.append(self._turns.pop(0))
            self._until = 0
        self._turns = [each for each in self._turns if each in longest]
        self._turns += [each for each in longest if each not in self._turns]
        if self._until <= now:
            self._until = now + longest[self._turns[0]] * self._quantum * 1000
        return self._turns[0]
