"""From members and shares to a plan: plain numbers."""

import msgspec
import pytest

from kernel.abi.limits import (
    FRAME_SIZE,
    MAX_ENVIRONMENTS,
    MAX_INTERRUPTS,
    MAX_SLICE_US,
    MAX_SLICES,
    MIN_SLICE_US,
)
from libexo.estate import Estate
from libexo.nouns import MAX_SHARE
from libexo.sched import QUANTUM, Policy
from servers.scheduler import policy as decisions
from servers.scheduler.accounts import Accounts, Reading
from servers.scheduler.api import MAX_FILE, MAX_SOURCE, Choice
from servers.scheduler.policies import RoundRobin
from servers.scheduler.policy import Candidate, admitted
from servers.scheduler.settings import (
    ALL_PARAMETERS,
    MAX_PARAMETERS,
    BadShare,
    Said,
    Settings,
    State,
    check_share,
    estate_pages,
)


def divide(policy: Policy, members: list[Candidate]) -> list[tuple[int, int]]:
    """The slices of the plan by *policy*, where nobody has used anything."""
    accounts = Accounts()
    accounts.read((Reading(each.thread, each.family, each.asleep, 0) for each in members), 0)
    return list(decisions.divide(policy.plan, members, accounts, {}, 0).slices)


def candidates(*known: tuple[int, int, bool], expired: int = 0) -> list[Candidate]:
    """Members by thread, priority and whether they sleep."""
    return [
        Candidate(thread, Settings(priority=priority, expired=thread == expired), asleep)
        for thread, priority, asleep in known
    ]


@pytest.mark.parametrize(
    ("known", "expired", "threads"),
    [
        ([(1, 100, False), (2, 100, False)], 0, [1, 2]),
        ([(1, 100, False), (2, 100, True)], 0, [1, 2]),
        ([(1, 100, False), (2, 99, False)], 0, [1]),
        ([(1, 100, True), (2, 99, False)], 0, [1, 2]),
        ([(1, 100, True), (2, 99, False), (3, 98, False)], 0, [1, 2]),
        ([(1, 100, True), (2, 99, True)], 0, [1, 2]),
        ([(1, 100, False), (2, 99, False)], 1, [2]),
        ([(1, 100, False)], 1, []),
        ([(1, 0, False), (2, 0, True)], 0, [1, 2]),
        ([], 0, []),
    ],
)
def test_levels(known: list[tuple[int, int, bool]], expired: int, threads: list[int]) -> None:
    """Slices are for the highest awake level, and sleepers above it; not for a member with a used-up quantum."""
    assert [each.thread for each in admitted(candidates(*known, expired=expired))] == threads


def test_a_length_that_was_set() -> None:
    """The policy divides among the admitted, and a timeslice that was set stands for its length."""
    members = [
        Candidate(7, Settings(part=2), asleep=False),
        Candidate(8, Settings(slice_us=1234), asleep=False),
        Candidate(9, Settings(priority=1), asleep=False),
    ]

    assert divide(RoundRobin(), members) == [(7, 2 * QUANTUM), (8, 1234)]


def test_what_is_left_of_a_quantum() -> None:
    """It counts from what was used when it was set, ends at nothing, and is without end unless it was set."""
    settings = Settings()
    endless = settings.left(10**12)
    settings.limit(5000, 1_000_000)

    assert endless is None
    assert [settings.left(used) for used in (1_000_000, 3_000_000, 6_000_000, 9_000_000)] == [
        5_000_000,
        3_000_000,
        0,
        0,
    ]


def test_a_quantum_set_before_there_was_an_account() -> None:
    """It counts from the first look, and from the next one where it is set again."""
    settings = Settings()
    settings.limit(5000, None)
    first = [settings.left(used) for used in (70_000_000, 71_000_000)]
    settings.expired = True
    settings.limit(1000, 72_000_000)

    assert first == [5_000_000, 4_000_000]
    assert (settings.left(72_500_000), settings.expired) == (500_000, False)


@pytest.mark.parametrize("share", [0, -1, MAX_SHARE + 1])
def test_shares_that_are_none(share: int) -> None:
    """A share is from one to a thousand."""
    assert check_share(MAX_SHARE) == MAX_SHARE
    with pytest.raises(BadShare):
        check_share(share)


def family(head: int, awake: int, *, asleep: int = 0, part: int = 1, share: int = 1) -> list[Candidate]:
    """Members of the family of *head*; the first has *share* parts, others one."""
    said = [Settings(family=head, part=part, share=share if n == 0 else 1) for n in range(awake + asleep)]
    return [Candidate(head + n, each, n >= awake) for n, each in enumerate(said)]


def total(plan: list[tuple[int, int]], members: list[Candidate]) -> int:
    """The parts of a round that the awake *members* have."""
    awake = {each.thread for each in members if not each.asleep}
    return sum(length for thread, length in plan if thread in awake)


@pytest.mark.parametrize("count", [1, 2, 3, 20, 21, 100, 254])
@pytest.mark.parametrize("share", [1, 7, 1000])
def test_a_family_divides_its_part(count: int, share: int) -> None:
    """However many it has, and however they divide it, its members have together what one other has."""
    many, one = family(1000, count, share=share), family(2000, 1)
    plan = divide(RoundRobin(), many + one)
    other = total(plan, one)

    assert total(plan, many) == pytest.approx(other, rel=0.03)
    assert {thread for thread, _ in plan} == {each.thread for each in many + one}
    assert min(length for _, length in plan) >= MIN_SLICE_US
    assert other <= QUANTUM * 13


@pytest.mark.parametrize("counts", [(2, 2), (20, 21), (63, 63), (63, 63, 63), (3, 199)])
@pytest.mark.parametrize("share", [1, 1000])
def test_nobody_waits_longer_for_a_family_that_has_many(counts: tuple[int, ...], share: int) -> None:
    """Between two slices of one who is alone, each family has one part, as far as a slice can be cut."""
    groups = [family(1000 * n, count, share=share) for n, count in enumerate(counts, 1)]
    plan = divide(RoundRobin(), [each for group in groups for each in group] + family(9000, 1))
    begins = [at for at, (thread, _) in enumerate(plan) if thread == 9000]
    waits = [
        sum(length for _, length in plan[after + 1 : at])
        if after < at
        else sum(length for _, length in [*plan[after + 1 :], *plan[:at]])
        for after, at in zip([begins[-1], *begins], begins, strict=False)
    ]

    longest = max(length for thread, length in plan if thread != 9000)
    assert max(waits) <= len(groups) * (QUANTUM + longest)


def test_a_family_divides_by_shares() -> None:
    """Inside it each has by its share, of the part that its first was given."""
    members = family(1000, 3, part=2, share=2)

    assert divide(RoundRobin(), members) == [
        (1000, QUANTUM),
        (1001, QUANTUM // 2),
        (1002, QUANTUM // 2),
    ]


def test_sleepers_of_a_family() -> None:
    """A sleeper is planned for when it wakes, and takes nothing from those that are awake."""
    members = family(1000, 1, asleep=3)
    plan = divide(RoundRobin(), members)

    assert plan == [(1000, QUANTUM), *((1000 + n, QUANTUM // 2) for n in (1, 2, 3))]


@pytest.mark.parametrize("processors", [1, 2, 16])
def test_what_is_said_of_everybody_fits_the_estate(processors: int) -> None:
    """All that the processors can have planned, and the interrupt threads, each with the longest numbers."""
    said = Settings(
        MAX_SHARE, 255, MAX_SLICE_US, 1 << 63, 1 << 63, True, 255, MAX_SLICE_US, 1 << 63, MAX_SHARE
    )
    most = min(processors * MAX_SLICES, MAX_ENVIRONMENTS) + MAX_INTERRUPTS
    all_settings = {(1 << 63) + n: said for n in range(most)}
    spoken = {1 << 63: Said({"x" * (ALL_PARAMETERS - 40): 1})}
    state = State(
        all_settings,
        spoken,
        Choice("x", {"x": "x" * MAX_PARAMETERS}, "x" * MAX_SOURCE, "\U0001f600" * MAX_FILE),
    )
    estate = Estate(memoryview(bytearray(estate_pages(processors) * FRAME_SIZE)))

    estate.store(msgspec.msgpack.encode(state))
    assert estate.load()
