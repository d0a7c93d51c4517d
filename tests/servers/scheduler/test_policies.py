"""The policies: what each promises, walked in virtual time."""

from collections import Counter

import pytest

from kernel.abi.limits import MAX_SLICE_US, MAX_SLICES
from libexo.nouns import MAX_SHARE
from libexo.sched import QUANTUM, Member, Plan
from servers.scheduler.checking import check
from servers.scheduler.policies import POLICIES, Fair, Feedback, Lottery, Priority, RoundRobin, Stride
from tests.servers.scheduler.walking import Walk

MS = 1_000_000


def parts(used: Counter[int]) -> dict[int, float]:
    """The part of all that each had."""
    total = sum(used.values())
    return {thread: used[thread] / total for thread in sorted(used)}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("count", [0, 1, 2, 255, 600])
def test_plans_fit_the_kernel(name: str, count: int) -> None:
    """However many members and whatever their weights, asleep or not, the plan is one that the kernel takes."""
    policy = POLICIES[name]()
    for asleep in (0, 1, count):
        members = [Member(at, "", MAX_SHARE if at % 2 else 1, at < asleep) for at in range(count)]
        check(policy.plan(members, 0), members)


@pytest.mark.parametrize("name", POLICIES)
def test_who_comes_and_goes(name: str) -> None:
    """A policy that is asked while members come, sleep, wake and go has a plan of those that are there."""
    policy = POLICIES[name]()
    for at in range(300):
        there = [Member(each, "", 1 + each, (at >> each) & 1 == 1, used=at * MS) for each in range(8)]
        members = [each for each in there if (at // 7 >> each.thread) & 1]
        check(policy.plan(members, at * 10 * MS), members)


def test_round_robin() -> None:
    """Everybody has one slice, as long as its weight."""
    assert RoundRobin().plan([Member(7, "a"), Member(8, "b", 3)], 0) == Plan([(7, QUANTUM), (8, 3 * QUANTUM)])
    members = [Member(at, "", MAX_SHARE) for at in range(2 * MAX_SLICES)]
    plan = RoundRobin(5 * MS).plan(members, 0)
    assert (len(plan.slices), {length for _, length in plan.slices}) == (MAX_SLICES, {5000 * MAX_SHARE})
    assert RoundRobin(10**10).plan(members[:1], 0).slices == [(0, MAX_SLICE_US)]


def test_stride_is_never_more_than_a_quantum_off() -> None:
    """At every moment each of 3, 2, 1 has had what is its due, to a quantum."""
    walk = Walk(Stride(), {1: 3, 2: 2, 3: 1})
    walk.walk(60)
    had: Counter[int] = Counter()
    for thread, length in walk.order:
        had[thread] += length
        total = sum(had.values())
        for each, weight in ((1, 3), (2, 2), (3, 1)):
            assert abs(had[each] - total * weight / 6) <= QUANTUM * 1000


def test_stride_forgets_no_debt() -> None:
    """Who slept for an hour has what it has from then on: nothing is made up for, and nothing is lost."""
    walk = Walk(Stride(), {1: 1, 2: 1})
    walk.walk(1)
    walk.sleep(2)
    walk.walk(3600)
    walk.sleep()
    used = walk.walk(1)
    assert abs(used[1] - used[2]) <= 2 * QUANTUM * 1000


def test_stride_counts_what_was_used() -> None:
    """A member that used more than was planned has less afterwards, to the same sum."""
    policy = Stride()
    members = [Member(1, ""), Member(2, "")]
    policy.plan(members, 0)
    plan = policy.plan([members[0]._replace(used=160 * MS), members[1]], 0)
    given = Counter({1: 0, 2: 0})
    for thread, length in plan.slices:
        given[thread] += length
    assert given[2] - given[1] == 160_000


def test_lottery_keeps_its_bound() -> None:
    """Of n draws with chance p a member wins n p, within four standard deviations; who sleeps wins none."""
    walk = Walk(Lottery(seed=1), {1: 3, 2: 2, 3: 1, 4: 9})
    walk.sleep(4)
    used = walk.walk(100)
    draws = sum(used.values()) / (QUANTUM * 1000)
    for thread, chance in ((1, 3 / 6), (2, 2 / 6), (3, 1 / 6)):
        won = used[thread] / (QUANTUM * 1000)
        assert abs(won - draws * chance) <= 4 * (draws * chance * (1 - chance)) ** 0.5
    assert used[4] == 0


def test_lottery_draws_again() -> None:
    """It is asked again after the winners' quanta, and draws others; the same seed draws the same."""
    members = [Member(1, ""), Member(2, "")]
    one, other = Lottery(seed=7), Lottery(seed=7)
    first = one.plan(members, 0)
    assert first == Plan.once(first.slices)
    assert first != one.plan(members, 0)
    assert first == other.plan(members, 0)


def test_fair_by_weight() -> None:
    """Weights of one to eight have their parts within two per cent."""
    weights = {at: at for at in range(1, 9)}
    found = parts(Walk(Fair(), weights).walk(10))
    assert found == pytest.approx({at: at / 36 for at in weights}, rel=0.02)


def test_fair_to_who_wakes() -> None:
    """Who wakes comes first, and has half a round more than the others, however long it slept."""
    walk = Walk(Fair(24 * MS), {1: 1, 2: 1})
    walk.walk(1)
    walk.sleep(2)
    walk.walk(100)
    walk.sleep()
    walk.order.clear()
    used = walk.walk(1)
    assert walk.order[0][0] == 2
    assert 0 <= used[2] - used[1] <= 24 * MS


def test_priority() -> None:
    """Only the highest that are awake run, in turn; a sleeper above has its place."""
    walk = Walk(Priority(), {1: 1, 2: 1, 3: 1}, m1={"priority": 5}, m2={"priority": 5}, m3={"priority": -1})
    assert parts(walk.walk(1)) == pytest.approx({1: 0.5, 2: 0.5}, rel=0.02)
    walk.sleep(1)
    assert parts(walk.walk(1)) == {2: 1}
    assert Priority().plan(walk.members, 0).slices == [(1, QUANTUM), (2, QUANTUM)]
    walk.sleep(1, 2)
    assert parts(walk.walk(1)) == {3: 1}
    with pytest.raises(ValueError, match="m1: a priority is a number, not 'high'"):
        Priority().plan([Member(1, "m1", parameters={"priority": "high"})], 0)


def ranked(*, inherit: int, **waits: tuple[int, ...]) -> set[int]:
    """Who has slices, of low, middle and high (1, 2, 3), of which those in *waits* sleep and wait for others."""
    members = [
        Member(at, name, asleep=name in waits, parameters={"priority": at}, waits_for=waits.get(name, ()))
        for at, name in enumerate(("low", "middle", "high"), 1)
    ]
    return {thread for thread, _ in Priority(inherit=inherit).plan(members, 0).slices}


def test_priority_that_is_inherited() -> None:
    """Whom a sleeper of a higher priority waits for has that priority, through others too; without it none has."""
    assert ranked(inherit=0, high=(1,)) == {2, 3}
    assert ranked(inherit=1, high=(1,)) == {1, 3}
    assert ranked(inherit=1, high=(2,), middle=(1,)) == {1, 2, 3}
    assert ranked(inherit=1, high=()) == {2, 3}
    assert ranked(inherit=1, high=(99,)) == {2, 3}
    assert ranked(inherit=1, low=(3,)) == {3}
    assert ranked(inherit=1, high=(2,), middle=(3,)) == {1, 2, 3}


def test_feedback_sinks_who_computes() -> None:
    """Two slices on each level, and then one below: who came later runs before who computed all the time."""
    walk = Walk(Feedback(boost=10**12), {1: 1})
    walk.walk(0.5)
    walk.members.append(Member(2, "m2"))
    walk.order.clear()
    walk.walk(0.06)
    assert walk.order == [(2, 10 * MS), (2, 10 * MS), (2, 20 * MS), (2, 20 * MS)]
    assert parts(walk.walk(1)) == pytest.approx({1: 0.5, 2: 0.5}, abs=0.1)


def test_feedback_boosts() -> None:
    """After the time of a boost all are on the highest level: nobody starves."""
    walk = Walk(Feedback(boost=1000 * MS), {1: 1, 2: 1})
    walk.walk(0.9)
    walk.order.clear()
    walk.walk(0.3)
    assert 10 * MS in {length for _, length in walk.order}


@pytest.mark.parametrize("wrong", [{"levels": 0}, {"levels": 9}, {"allotment": 0}, {"boost": 0}])
def test_feedback_that_is_none(wrong: dict[str, int]) -> None:
    """Levels, allotment and boost have their ranges."""
    with pytest.raises(ValueError, match="levels are 1 to 8, allotment and boost at least 1"):
        Feedback(**wrong)
