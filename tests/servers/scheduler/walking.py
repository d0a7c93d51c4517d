"""A processor that walks the plans of a policy, in virtual time: pure."""

from collections import Counter
from collections.abc import Mapping
from itertools import cycle

from libexo.sched import Member, Parameter, Policy


class Walk:
    """Members that compute whenever they may, but for those that sleep."""

    def __init__(
        self, policy: Policy, weights: Mapping[int, int], **parameters: Mapping[str, Parameter]
    ) -> None:
        """Name members by their thread; parameters by its name with a letter before it."""
        self.policy = policy
        self.members = [
            Member(thread, f"m{thread}", weight, parameters=parameters.get(f"m{thread}", {}))
            for thread, weight in weights.items()
        ]
        self.now = 0
        self.order: list[tuple[int, int]] = []
        """Slices as they were walked: thread, ns."""

    def sleep(self, *threads: int) -> None:
        """Have exactly these sleep from now on."""
        self.members = [
            each._replace(asleep=each.thread in threads, since=self.now)
            if (each.thread in threads) != each.asleep
            else each
            for each in self.members
        ]

    def walk(self, seconds: float) -> Counter[int]:
        """Walk until so much time has gone by; return the CPU time of each, in ns."""
        begun, before = self.now, Counter({each.thread: each.used for each in self.members})
        while self.now - begun < seconds * 1e9:
            plan = self.policy.plan(self.members, self.now)
            until = self.now + plan.again * 1000 if plan.again else begun + int(seconds * 1e9)
            for thread, length in cycle(plan.slices):
                self._run(thread, length * 1000)
                if self.now >= until:
                    break
        return Counter({each.thread: each.used for each in self.members}) - before

    def _run(self, thread: int, length: int) -> None:
        [at] = [at for at, each in enumerate(self.members) if each.thread == thread]
        if not self.members[at].asleep:
            self.members[at] = self.members[at]._replace(used=self.members[at].used + length)
            self.order.append((thread, length))
            self.now += length
