"""Gangs, and groups with shares of their own."""

from collections import Counter

import pytest

from libexo.sched import Member, Parameter
from servers.scheduler.policies import Gang, Groups
from tests.servers.scheduler.walking import Walk

MS = 1_000_000
QUANTUM = 10_000


def grouped(groups: dict[int, str]) -> dict[str, dict[str, Parameter]]:
    """Parameters of members, as a walk takes them."""
    return {f"m{thread}": {"group": group} for thread, group in groups.items() if group}


def on(processor: int, members: dict[int, str]) -> list[Member]:
    """Members of a processor, with their groups."""
    return [
        Member(thread, f"m{thread}", parameters={"group": group} if group else {}, processor=processor)
        for thread, group in members.items()
    ]


def running(gang: Gang, processors: list[list[Member]], now: int) -> list[int]:
    """Who is first on each, planned at one time."""
    return [gang.plan(members, now).slices[0][0] for members in processors]


def test_a_gang_runs_at_the_same_time() -> None:
    """The members of a group, one on each of three processors, are in the first slice together, or none is."""
    gang = Gang()
    processors = [on(0, {1: "a", 2: "b", 3: ""}), on(1, {11: "a", 12: "b"}), on(2, {21: "b", 22: "a"})]
    together: dict[tuple[int, ...], str] = {(1, 11, 22): "a", (2, 12, 21): "b"}
    turns, now = Counter[str](), 0
    for _ in range(300):
        first = tuple(running(gang, processors, now))
        turns[together.get(first, "rest" if first[0] == 3 else "apart")] += 1
        now += 10 * MS

    assert turns == {"a": 100, "b": 100, "rest": 100}


def test_slots_are_the_same_for_all() -> None:
    """A processor that is planned in the middle of a slot, as somebody woke there, is in that slot, to its end."""
    gang = Gang()
    processors = [on(0, {1: "a", 2: "b"}), on(1, {11: "a", 12: "b"})]
    assert running(gang, processors, 0) == [1, 11]
    plan = gang.plan(processors[1], 4 * MS)

    assert (plan.slices[0][0], plan.again, plan.now) == (11, 6000, True)
    assert running(gang, processors, 10 * MS) == [2, 12]


def test_a_gang_on_one_processor() -> None:
    """There its members are one after another, and all have as much; groups have slots as long as they are many."""
    walk = Walk(Gang(), {1: 1, 2: 1, 3: 1, 4: 1}, **grouped({1: "a", 2: "a", 3: "b", 4: "a"}))
    used = walk.walk(4)
    order = [thread for thread, length in walk.order if length > MS]

    assert order[:8] == [1, 2, 4, 3, 1, 2, 4, 3]
    assert [used[each] / 1e9 for each in (1, 2, 3, 4)] == pytest.approx([1, 1, 1, 1], abs=0.1)


def test_a_gang_that_sleeps() -> None:
    """The slot of a group all of which sleeps ends: nobody waits for it."""
    gang = Gang()
    assert running(gang, [on(0, {1: "a", 2: "b"})], 0) == [1]
    asleep = [each._replace(asleep=each.thread == 1) for each in on(0, {1: "a", 2: "b"})]
    assert running(gang, [asleep], 2 * MS) == [2]


def test_groups_have_their_shares() -> None:
    """Three to one between groups, however many members they have; in turn inside one, by lottery in the other."""
    weights = {1: 1, 2: 1, 3: 1, 4: 3, 5: 1}
    walk = Walk(
        Groups(web="3", batch="1:lottery"),
        weights,
        **grouped({1: "web", 2: "batch", 3: "batch", 4: "batch", 5: "batch"}),
    )
    used = walk.walk(200)
    total = sum(used.values())

    assert used[1] / total == pytest.approx(0.75, abs=0.01)
    assert [used[each] / total for each in (2, 3, 4, 5)] == pytest.approx(
        [1 / 24, 1 / 24, 1 / 8, 1 / 24], abs=0.01
    )


def test_groups_that_sleep_come_and_go() -> None:
    """Who sleeps leaves its part to the other groups, and is owed nothing; one without a group is among others."""
    walk = Walk(Groups(), {1: 1, 2: 1, 3: 1}, **grouped({1: "a", 2: "b"}))
    walk.walk(1)
    walk.sleep(1)
    used = walk.walk(2)
    assert used[2] == pytest.approx(used[3], abs=2 * QUANTUM * 1000)
    walk.sleep()
    used = walk.walk(3)
    assert [used[each] / sum(used.values()) for each in (1, 2, 3)] == pytest.approx([1 / 3] * 3, abs=0.01)


def test_priorities_inside_a_group() -> None:
    """A policy inside decides for its group only."""
    walk = Walk(
        Groups(a="1:priority"),
        {1: 1, 2: 1, 3: 1},
        m1={"group": "a", "priority": 1},
        m2={"group": "a", "priority": 2},
        m3={},
    )
    used = walk.walk(2)

    assert [used[each] / sum(used.values()) for each in (1, 2, 3)] == pytest.approx([0, 0.5, 0.5], abs=0.01)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("0", "web: a group is SHARE:POLICY, as in web=3:fair, not '0'"),
        ("fair", "web: a group is SHARE:POLICY"),
        ("3:groups", "web: there is no policy 'groups' for a group: round-robin, priority"),
        (1.5, "web: a group is SHARE:POLICY"),
    ],
)
def test_groups_that_are_none(said: str, why: str) -> None:
    """A share is a whole number, and a policy one that has a name."""
    with pytest.raises(ValueError, match=why):
        Groups(web=said)
