"""Who may have how much: plain numbers."""

import pytest

from servers.memory.policy import MemoryRefused, OutOfMemory, QuotaExceeded, Quotas


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
