"""A policy of a kind for each processor, and one for all where that is what it is for."""

from libexo.sched import Member, Plan
from servers.scheduler.api import Choice
from servers.scheduler.checking import Checked
from servers.scheduler.choice import make
from servers.scheduler.policies import POLICIES, Gang

MS = 1_000_000


def test_processors_do_not_share_what_is_kept() -> None:
    """Stride on two processors is as exact on each as alone, though both are asked in turn."""
    both = [make(Choice("stride"))] * 2
    alone = [make(Choice("stride")), make(Choice("stride"))]
    found: list[list[Plan]] = []
    for policies in (both, alone):
        used = {(at, thread): 0 for at in (0, 1) for thread in (1, 2, 3)}
        found.append([])
        for step in range(20):
            for at, policy in enumerate(policies):
                members = [
                    Member(10 * at + each, "", 1 + each * (1 + at), used=used[at, each], processor=at)
                    for each in (1, 2, 3)
                ]
                plan = policy.plan(members, step * 320 * MS)
                for thread, length in plan.slices[: 7 + at]:
                    used[at, thread % 10] += length * 1000
                found[-1].append(plan)

    assert found[0] == found[1]


def test_one_for_all() -> None:
    """A gang is one for all processors, others of ours are one for each; a fault is told of the class."""
    source = "class Odd:\n    def plan(self, members, now):\n        raise ValueError('no')\n"
    odd = Checked(make(Choice("Odd", source=source, file="/odd.py")))
    odd.plan([Member(1, "a")], 0)

    assert isinstance(make(Choice("gang")), Gang)
    assert {name for name in POLICIES if getattr(POLICIES[name], "everywhere", False)} == {"gang"}
    assert odd.refused == "Odd.plan (/odd.py:2) raised ValueError: no"
