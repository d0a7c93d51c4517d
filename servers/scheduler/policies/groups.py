"""Groups, each with a share and a policy of its own inside: two levels, as in J. Regehr's HLS (RTSS 2001)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import ClassVar

from libexo.sched import QUANTUM, Member, Plan, Policy, microseconds
from servers.scheduler.policies.drawing import QUANTA
from servers.scheduler.policies.passes import Passes
from servers.scheduler.policies.saying import group
from servers.scheduler.policies.single import SINGLE

SEPARATOR = ":"


class Groups:
    """Shares between groups, by stride, and a policy inside each: arguments are like web=3:fair batch=1:lottery.

    A member is in the `group` that was set for it; all others are in one together, which the argument *others* is
    about. What a group does not say is a share of one, and round robin.
    """

    name = "groups"
    inside: ClassVar[Mapping[str, Callable[..., Policy]]] = SINGLE

    def __init__(self, quantum: int = QUANTUM * 1000, **groups: str | int) -> None:
        """Divide by *quantum* ns. Raises ValueError."""
        self._quantum = microseconds(quantum)
        self._groups = {name: _Group(*_parse(name, said)) for name, said in groups.items()}
        self._passes = Passes()

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return the next quanta, if all are used as planned."""
        there: dict[str, list[Member]] = {}
        for each in members:
            there.setdefault(group(each) or "others", []).append(each)
        for name in there:
            self._groups.setdefault(name, _Group(*_parse(name, "1")))
        known = dict(enumerate(self._groups.values()))
        stands = [one.stand(at, there.get(name, [])) for at, (name, one) in enumerate(self._groups.items())]
        passes = dict(self._passes.update(stands))
        turns = {
            each.thread: known[each.thread].slices(self._quantum, now) for each in stands if not each.asleep
        }
        awake = [each for each in members if not each.asleep]
        if len(awake) <= 1:
            return Plan([(each.thread, self._quantum) for each in awake])
        slices = []
        for _ in range(QUANTA):
            at = min(turns, key=lambda each: passes[each])
            thread, length = next(turns[at])
            passes[at] += length * 1000 / known[at].share
            slices.append((thread, length))
        return Plan.once(slices)


class _Group:
    """One group: its members are one to those outside, who uses what they use together."""

    def __init__(self, share: int, policy: Policy) -> None:
        self.share, self._policy = share, policy
        self._members: Sequence[Member] = ()
        self._passes = Passes()
        self._used = 0

    def stand(self, number: int, members: Sequence[Member]) -> Member:
        """Take in its *members*; return them as one, *number*. What those that left have used stays counted."""
        before = {each.thread: each.used for each in self._members}
        self._used += sum(each.used - before.get(each.thread, each.used) for each in members)
        self._members = members
        return Member(number, "", self.share, all(each.asleep for each in members), 0, self._used)

    def slices(self, quantum: int, now: int) -> Iterator[tuple[int, int]]:
        """Yield slices of its own policy, again and again, in pieces of a *quantum* at most."""
        awake = {each.thread for each in self._members if not each.asleep}
        plan = self._policy.plan(self._members, now)
        slices = [each for each in plan.slices if each[0] in awake]
        if not plan.again:  # a walk without end, which is begun anew each time: who had least begins
            passes = self._passes.update(self._members)
            slices.sort(key=lambda each: passes[each[0]])
        for thread, length in cycle(slices):
            for done in range(0, length, quantum):
                yield thread, min(max(length - done, quantum // 2), quantum)


def _parse(name: str, said: str | int) -> tuple[int, Policy]:
    share, _, policy = str(said).partition(SEPARATOR)
    if policy and policy not in Groups.inside:
        raise ValueError(f"{name}: there is no policy {policy!r} for a group: {', '.join(Groups.inside)}")
    if not share.isdecimal() or not int(share):
        raise ValueError(f"{name}: a group is SHARE{SEPARATOR}POLICY, as in {name}=3:fair, not {said!r}")
    return int(share), Groups.inside[policy or "round-robin"]()
