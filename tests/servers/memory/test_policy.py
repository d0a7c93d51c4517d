"""Who may have how much: plain numbers."""

import pytest

from kernel.abi.limits import MAX_OFFERS
from servers.memory.policy import (
    KEPT,
    QUOTA_DIVISOR,
    MemoryRefused,
    OutOfMemory,
    QuotaExceeded,
    Quotas,
    check_kept,
    check_message,
    find_free,
)


def test_the_default_quota() -> None:
    """Without one of its own, an environment may have half of RAM; set ones stand."""
    quotas = Quotas(100, {7: 3})

    assert (quotas.quota(1), quotas.quota(7), Quotas(1, {}).quota(1)) == (50, 3, 1)


@pytest.mark.parametrize(
    ("used", "wanted", "free", "error"),
    [
        (0, 50, 50, None),
        (49, 1, 1, None),
        (0, 0, 99, MemoryRefused),
        (0, -1, 99, MemoryRefused),
        (0, 51, 99, QuotaExceeded),
        (50, 1, 99, QuotaExceeded),
        (0, 10, 9, OutOfMemory),
    ],
)
def test_what_is_refused(used: int, wanted: int, free: int, error: type[Exception] | None) -> None:
    """Nothing, more than the quota, and more than there is are each refused by name."""
    quotas = Quotas(100, {})
    if error is None:
        quotas.check(1, used, wanted, free)
        return

    with pytest.raises(error) as caught:
        quotas.check(1, used, wanted, free)
    assert type(caught.value) is error


def test_how_many_extents_are_kept() -> None:
    """One environment may have half of the room for kept extents, all together all of it."""
    half = KEPT // QUOTA_DIVISOR
    check_kept(half - 1, 1, half)
    check_kept(0, 1, KEPT - 1)

    for own, wanted, total in ((half, 1, half), (0, half + 1, 0), (0, 1, KEPT)):
        with pytest.raises(QuotaExceeded, match="larger pages"):
            check_kept(own, wanted, total)


def test_how_many_extents_come_in_a_message() -> None:
    """As many as can be on offer: more would push the first ones out."""
    check_message(MAX_OFFERS)
    with pytest.raises(QuotaExceeded, match="smaller pages"):
        check_message(MAX_OFFERS + 1)


@pytest.mark.parametrize(
    ("count", "alignment", "lowest", "found"),
    [(1, 1, 0, 2), (1, 1, 3, 3), (2, 2, 0, 2), (2, 2, 3, 6), (3, 4, 0, None), (1, 4, 1, None), (2, 1, 3, 6)],
)
def test_the_first_that_fits(count: int, alignment: int, lowest: int, found: int | None) -> None:
    """A run is free from end to end, begins at a multiple of the alignment, and is the first such."""
    users = [1, 1, 0, 0, 1, 1, 0, 0]
    if found is not None:
        assert find_free(users, count, alignment, lowest) == found
        return
    with pytest.raises(OutOfMemory):
        find_free(users, count, alignment, lowest)


def test_more_than_there_is() -> None:
    """A run longer than RAM, or all of it while a frame is taken, is not found."""
    for users, count in (([0] * 8, 16), ([0] * 7 + [1], 8)):
        with pytest.raises(OutOfMemory):
            find_free(users, count, count)
