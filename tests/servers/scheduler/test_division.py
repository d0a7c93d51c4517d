"""A family that divides its part itself: plain numbers."""

from collections import Counter
from collections.abc import Sequence

import pytest

from kernel.abi.limits import MAX_SLICES, MIN_SLICE_US
from servers.scheduler import policy as decisions
from servers.scheduler.accounts import Accounts, Reading
from servers.scheduler.division import Walk
from servers.scheduler.policies import RoundRobin, Stride
from servers.scheduler.policy import Candidate
from servers.scheduler.settings import Settings

AUTHOR = 1


def family(*threads: int, asleep: Sequence[int] = (AUTHOR,)) -> list[Candidate]:
    """Members of the family of the author."""
    return [Candidate(thread, Settings(family=AUTHOR), thread in asleep) for thread in (AUTHOR, *threads)]


def served(walk: Walk, members: list[Candidate], *lengths: int) -> list[list[tuple[int, int]]]:
    """What a walk gives to those awake in slices of these lengths."""
    awake = {each.thread for each in members if not each.asleep}
    return [[each for each in some if each[0] in awake] for some in walk.fill(lengths, members)]


def test_slices_are_cut_where_the_familys_end() -> None:
    """The list is walked through the family's slices, in order, and each of those is filled exactly."""
    walk = Walk(AUTHOR, [(2, 3_000), (3, 12_000)])

    assert served(walk, family(2, 3), 10_000, 10_000) == [
        [(2, 3_000), (3, 7_000)],
        [(3, 5_000), (2, 3_000), (3, 2_000)],
    ]


def test_what_is_too_short_for_a_slice() -> None:
    """No slice is shorter than the shortest: it is longer, or the one before it is, and the sum stays."""
    walk = Walk(AUTHOR, [(2, 9_800), (3, 700)])
    filled = served(walk, family(2, 3), 10_000, 10_000, 10_000)

    assert [sum(length for _, length in some) for some in filled] == [10_000] * 3
    assert min(length for some in filled for _, length in some) >= MIN_SLICE_US


def test_it_goes_by_what_was_used() -> None:
    """A slice is over when its member has used it, not when it was planned; what was used beyond is paid back."""
    walk = Walk(AUTHOR, [(2, 4_000), (3, 4_000)])
    members = family(2, 3)
    walk.read({2: 0, 3: 0}, {2, 3})
    walk.read({2: 1_000_000, 3: 0}, {2, 3})
    part = served(walk, members, 7_000)
    walk.read({2: 6_000_000, 3: 0}, {2, 3})
    late = served(walk, members, 4_000, 8_000)

    assert part == [[(2, 3_000), (3, 4_000)]]
    assert late == [[(3, 4_000)], [(2, 2_000), (3, 4_000), (2, 2_000)]]


def test_a_debt_is_bounded() -> None:
    """Who was alone for an hour owes a round, and no more."""
    walk = Walk(AUTHOR, [(2, 4_000), (3, 4_000)])
    walk.read({2: 0, 3: 0}, {2, 3})
    walk.read({2: 3600 * 10**9, 3: 0}, {2})

    assert served(walk, family(2, 3), 8_000, 8_000) == [[(2, 4_000), (3, 4_000)]] * 2


def test_sleepers_wait_at_nobodys_cost() -> None:
    """A sleeper has a slice for when it wakes; the others have all the time."""
    walk = Walk(AUTHOR, [(2, 4_000), (3, 4_000)])
    members = family(2, 3, asleep=(AUTHOR, 2))
    [filled] = walk.fill([8_000], members)

    assert filled == [(AUTHOR, 2_000), (2, 2_000), (3, 8_000)]


def test_who_divides_can_divide_again() -> None:
    """Whatever it says, the head has a quarter while it is awake, also of slices too short to be cut."""
    walk = Walk(AUTHOR, [(2, 4_000)])
    awake = family(2, asleep=())

    assert walk.fill([8_000], awake) == [[(AUTHOR, 2_000), (2, 6_000)]]
    assert Counter(t for [(t, _)] in walk.fill([600] * 8, awake)) == {2: 6, AUTHOR: 2}
    assert Walk(AUTHOR, [(AUTHOR, 1_000), (2, 1_000)]).fill([2_000], awake) == [[(AUTHOR, 1_000), (2, 1_000)]]


@pytest.mark.parametrize("policy", [RoundRobin(), Stride(), RoundRobin(500_000)])
@pytest.mark.parametrize(
    "inside",
    [[(2, 500)], [(2, 500), (3, 500)] * 40, [(2, 10_000_000), (3, 500)], [(2, 777), (3, 1_111), (4, 513)]],
)
def test_others_have_what_they_had(policy: RoundRobin | Stride, inside: list[tuple[int, int]]) -> None:
    """However a family divides its part, each of the others has the same part of a plan, which is one."""
    accounts = Accounts()
    members = [
        *family(2, 3, 4),
        Candidate(10, Settings(part=2), asleep=False),
        Candidate(11, Settings(), asleep=False),
    ]
    accounts.read((Reading(each.thread, each.family, each.asleep, 0) for each in members), 0)

    def parts(walks: dict[int, Walk]) -> dict[int, float]:
        had: Counter[int] = Counter()
        plan = decisions.divide(policy.plan, members, accounts, {}, 0, walks)
        for thread, length in plan.slices:
            had[thread if thread >= 10 else AUTHOR] += length * (thread != AUTHOR)
        assert len(plan.slices) <= MAX_SLICES
        return {thread: length / had.total() for thread, length in had.items()}

    assert parts({AUTHOR: Walk(AUTHOR, inside)}) == pytest.approx(parts({}), rel=1e-3)


def test_without_anyone_awake_it_is_by_shares() -> None:
    """While nobody sleeps but those it names, the others of the family have its part by their shares."""
    accounts = Accounts()
    members = family(2, 3, asleep=(AUTHOR, 2))
    accounts.read((Reading(each.thread, each.family, each.asleep, 0) for each in members), 0)
    plan = decisions.divide(RoundRobin().plan, members, accounts, {}, 0, {AUTHOR: Walk(AUTHOR, [(2, 4_000)])})

    assert dict(plan.slices)[3] == 10_000
