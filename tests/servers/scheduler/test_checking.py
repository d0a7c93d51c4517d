"""A policy's plan that means nothing is refused, by its author's line, and round robin is in force instead."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kernel.abi.ids import thread_id
from kernel.abi.limits import MAX_SLICE_US, MAX_SLICES, MIN_SLICE_US
from libexo.errors import TooSlow
from libexo.sched import QUANTUM, STARVED, Member, Plan
from servers.scheduler.checking import BadPlan, Checked, check
from servers.scheduler.policies import RoundRobin

A, B = int(thread_id(161, 1)), int(thread_id(162, 1))
MEMBERS = [Member(A, "a"), Member(B, "b", 2)]
IN_TURN = Plan([(A, QUANTUM), (B, 2 * QUANTUM)])


class Says:
    """A policy that says what it was told."""

    def __init__(self, plan: Any) -> None:  # noqa: ANN401 - anything at all
        self.said = plan
        self.starves = False

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        del members, now
        if isinstance(self.said, Exception):
            raise self.said
        plan: Plan = self.said
        return plan


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (None, "it returns a Plan of (thread, microseconds), not None"),
        ([(A, 1000)], "it returns a Plan"),
        (Plan("ab"), "the slices of a plan are a list of (thread, microseconds), not 'ab'"),  # type: ignore[arg-type]
        (Plan({A: 1000}), "the slices of a plan are a list"),  # type: ignore[arg-type]
        (Plan([]), "the plan is empty, and nothing would run"),
        (Plan([A, B]), "a slice is (thread, microseconds), two whole numbers, not"),  # type: ignore[list-item]
        (Plan([(A,)]), "a slice is (thread, microseconds)"),  # type: ignore[list-item]
        (Plan([(A, 1000.0)]), "a slice is (thread, microseconds), two whole numbers"),  # type: ignore[list-item]
        (Plan([(A, True)]), "a slice is (thread, microseconds), two whole numbers"),
        (Plan([(A, "1000")]), "two whole numbers"),  # type: ignore[list-item]
        (
            Plan([(A, 1000), (7, 1000)]),
            "it gives a slice to 7, which is not among the members it was asked to plan",
        ),
        (Plan([(A, 0)]), "it gives 161.1 a slice of 0 us, not 500 to 10000000"),
        (Plan([(A, -1)]), "a slice of -1 us"),
        (Plan([(A, MIN_SLICE_US - 1)]), "a slice of 499 us"),
        (Plan([(A, MAX_SLICE_US + 1)]), "a slice of 10000001 us"),
        (Plan([(A, 1000)] * (MAX_SLICES + 1)), "the plan has 257 slices, at most 256 fit"),
        (Plan([(A, 1000)], again=1), "it is asked again after 0, or 500 to 10000000 us, not 1"),
        (Plan([(A, 1000)], again=True), "not True"),
        (Plan([(A, 1000)], again=1e6), "not 1000000.0"),  # type: ignore[arg-type]
        (ZeroDivisionError("division by zero"), "raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_plan(plan: Any, why: str) -> None:  # noqa: ANN401 - anything at all
    """It is refused with whose it is, where that stands, and why; programs go round robin meanwhile."""
    checked = Checked(Says(plan))

    assert checked.plan(MEMBERS, 0) == IN_TURN
    assert f"Says.plan ({__file__}:" in checked.refused
    assert why in checked.refused
    assert bool(checked.traceback) == isinstance(plan, Exception)


def test_a_plan_again() -> None:
    """The next plan clears an earlier refusal."""
    policy = Says(None)
    checked = Checked(policy)
    checked.plan(MEMBERS, 0)
    policy.said = Plan([(B, 500), (A, 1000), (B, 500)], again=2000)

    assert checked.plan(MEMBERS, 0) == policy.said
    assert checked.refused == ""


def test_what_was_in_force_before() -> None:
    """It is in force while plans are refused; if it has none either, programs go round robin."""
    checked = Checked(Says(None), Says(Plan([(B, 1000)])))
    assert (checked.plan(MEMBERS, 0), checked.instead) == (Plan([(B, 1000)]), "Says")
    checked = Checked(Says(None), Says(None))
    assert checked.plan(MEMBERS, 0) == IN_TURN


def test_nothing_for_sleepers() -> None:
    """A policy may plan nobody while all sleep: then all are planned in turn, for when one wakes."""
    sleepers = [each._replace(asleep=True) for each in MEMBERS]
    checked = Checked(Says(Plan([])))

    assert (checked.plan(sleepers, 0), checked.refused) == (IN_TURN, "")


def test_who_is_too_slow() -> None:
    """It is asked once, and no more."""
    asked = []

    def limit(does: Callable[[], Any], seconds: float) -> None:
        asked.append((does(), seconds))
        raise TooSlow("computes for more than 50 ms")

    checked = Checked(Says(IN_TURN), Says(Plan([(B, 1000)])), limit)
    assert checked.plan(MEMBERS, 0) == IN_TURN  # the one before is too slow as well, here
    assert "Says.plan" in checked.refused
    assert "computes for more than 50 ms; it is asked no more" in checked.refused
    assert checked.policy.said == Plan([(B, 1000)])  # type: ignore[attr-defined]
    assert len(asked) == 2


def test_what_is_a_plan() -> None:
    """Round robin's is, at the largest weights too; and nothing, where nobody is to be planned."""
    assert check(Plan([]), []) == Plan([])
    members = [Member(A, "a", 1000), Member(B, "b")]
    plan = RoundRobin().plan(members, 0)
    assert check(plan, members) == plan
    with pytest.raises(BadPlan):
        check(Plan([(A, 1000)]), [])


def test_who_is_awake_and_left_out() -> None:
    """After two seconds the policy is at fault, and named; what was before plans until it serves the one again."""
    said = Says(Plan([(A, QUANTUM)], 10_000))
    checked = Checked(said)
    for second in (0, 1, 2):
        assert checked.plan(MEMBERS, second * STARVED // 2).slices == [(A, QUANTUM)]
    assert checked.plan(MEMBERS, STARVED + 1) == IN_TURN
    assert checked.refused.endswith("it has given b no slice for 2 s, which is awake")
    assert "Says.plan" in checked.refused

    said.said = Plan([(A, QUANTUM), (B, QUANTUM)])
    assert checked.plan(MEMBERS, STARVED + 2) == said.said
    said.said = Plan([(A, QUANTUM)])
    assert checked.plan(MEMBERS, STARVED + 3) == said.said
    assert checked.refused == ""


def test_who_sleeps_is_not_left_out() -> None:
    """Sleepers need no slices, and who wakes has two seconds from then; nor does one starve who means to."""
    said = Says(Plan([(A, QUANTUM)]))
    checked = Checked(said)
    asleep = [MEMBERS[0], MEMBERS[1]._replace(asleep=True)]
    for second in range(9):
        assert checked.plan(asleep, second * STARVED) == said.said
    assert checked.plan(MEMBERS, 10 * STARVED) == said.said
    said.starves = True
    assert checked.plan(MEMBERS, 12 * STARVED) == said.said


def test_how_a_plan_begins() -> None:
    """Whether a plan begins now, and whether ends are told, is passed on."""
    plan = Plan.once([(A, QUANTUM)], now=True)._replace(at_ends=True)
    assert Checked(Says(plan)).plan(MEMBERS, 0) == Plan([(A, QUANTUM)], QUANTUM, True, True)
