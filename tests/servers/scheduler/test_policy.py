"""From members and shares to a plan: plain numbers."""

import pytest

from kernel.abi.limits import MAX_SLICE_US, MAX_SLICES
from servers.scheduler.policy import MAX_SHARE, QUANTUM_US, BadShare, RoundRobin, check_share


def test_round_robin() -> None:
    """Everybody has one slice, as long as its share."""
    assert RoundRobin().plan({7: 1, 8: 3}) == [(7, QUANTUM_US), (8, 3 * QUANTUM_US)]


def test_plans_fit_the_kernel() -> None:
    """However many members and whatever their shares, the plan is one that the kernel takes."""
    plan = RoundRobin().plan(dict.fromkeys(range(2 * MAX_SLICES), MAX_SHARE))

    assert len(plan) <= MAX_SLICES
    assert max(length for _, length in plan) <= MAX_SLICE_US


@pytest.mark.parametrize("share", [0, -1, MAX_SHARE + 1])
def test_shares_that_are_none(share: int) -> None:
    """A share is from one to a thousand."""
    assert check_share(MAX_SHARE) == MAX_SHARE
    with pytest.raises(BadShare):
        check_share(share)
