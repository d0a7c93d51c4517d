"""A policy's plan that means nothing is refused, by its author's line, and round robin is in force instead."""

from collections.abc import Mapping
from typing import Any

import pytest

from kernel.abi.ids import thread_id
from kernel.abi.limits import MAX_SLICE_US, MAX_SLICES, MIN_SLICE_US
from servers.scheduler.checking import BadPlan, Checked, check
from servers.scheduler.policy import QUANTUM_US, RoundRobin

A, B = int(thread_id(161, 1)), int(thread_id(162, 1))
SHARES = {A: 1, B: 2}


class Says:
    """A policy that says what it was told."""

    def __init__(self, plan: Any) -> None:  # noqa: ANN401 - anything at all
        self.said = plan

    def plan(self, shares: Mapping[int, int]) -> list[tuple[int, int]]:
        del shares
        if isinstance(self.said, Exception):
            raise self.said
        plan: list[tuple[int, int]] = self.said
        return plan


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (None, "a plan is a list of (thread, microseconds), not None"),
        ("ab", "a plan is a list of (thread, microseconds), not 'ab'"),
        ({A: 1000}, "a plan is a list"),
        ([], "the plan is empty, and nothing would run"),
        ([A, B], "a slice is (thread, microseconds), two whole numbers, not"),
        ([(A,)], "a slice is (thread, microseconds)"),
        ([(A, 1000.0)], "a slice is (thread, microseconds), two whole numbers"),
        ([(A, True)], "a slice is (thread, microseconds), two whole numbers"),
        ([(A, "1000")], "two whole numbers"),
        (
            [(A, 1000), (7, 1000)],
            "it gives a slice to 7, which is not among the threads it was asked to plan",
        ),
        ([(A, 0)], "it gives 161.1 a slice of 0 us, not 500 to 10000000"),
        ([(A, -1)], "a slice of -1 us"),
        ([(A, MIN_SLICE_US - 1)], "a slice of 499 us"),
        ([(A, MAX_SLICE_US + 1)], "a slice of 10000001 us"),
        ([(A, 1000)] * (MAX_SLICES + 1), "the plan has 257 slices, at most 256 fit"),
        (ZeroDivisionError("division by zero"), "raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_plan(plan: Any, why: str) -> None:  # noqa: ANN401 - anything at all
    """It is refused with whose it is, where that stands, and why; programs go round robin meanwhile."""
    checked = Checked(Says(plan))

    assert checked.plan(SHARES) == [(A, QUANTUM_US), (B, 2 * QUANTUM_US)]
    assert f"Says.plan ({__file__}:" in checked.refused
    assert why in checked.refused
    assert bool(checked.traceback) == isinstance(plan, Exception)


def test_a_plan_again() -> None:
    """The next plan clears an earlier refusal."""
    policy = Says([])
    checked = Checked(policy)
    checked.plan(SHARES)
    policy.said = [(B, 500), (A, 1000), (B, 500)]

    assert checked.plan(SHARES) == policy.said
    assert checked.refused == ""


def test_what_is_a_plan() -> None:
    """Round robin's is, at the largest shares too; and nothing, where nobody is to be planned."""
    assert check([], {}) == []
    shares = {A: 1000, B: 1}
    plan = RoundRobin().plan(shares)
    assert check(plan, shares) == plan
    with pytest.raises(BadPlan):
        check([(A, 1000)], {})
