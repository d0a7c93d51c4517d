"""Limits of each party, as plain numbers."""

import sys
from array import array
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.abi.limits import MAX_OFFERS
from servers.memory.policy import (
    KEPT,
    QUOTA_DIVISOR,
    MemoryRefused,
    OutOfMemory,
    Party,
    QuotaExceeded,
    Quotas,
    check_kept,
    check_message,
    find_free,
)

T = TypeVar("T")


def test_the_default_quota() -> None:
    """Without one of its own, a family may have half of RAM; set ones stand, and a member's lies within."""
    quotas = Quotas(100, {1 << 32: 3, 7: 60, 2 << 32: 80})

    assert (quotas.quota(9 << 32), quotas.quota(1 << 32), Quotas(1, {}).quota(1 << 32)) == (50, 3, 1)
    assert (quotas.quota(9 << 32, 7), quotas.quota(1 << 32, 7), quotas.quota(2 << 32, 7)) == (60, 3, 60)


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
def test_what_a_server_is_refused(used: int, wanted: int, free: int, error: type[Exception] | None) -> None:
    """Nothing, more than the quota, and more than there is are each refused by name."""
    assert refusal(Quotas(100, {}), Party(1, 0, used), wanted, free) is error


@pytest.mark.parametrize(
    ("used", "together", "wanted", "free", "error"),
    [
        (0, 0, 400, 800, None),
        (0, 300, 100, 700, None),
        (0, 300, 101, 700, QuotaExceeded),
        (0, 400, 1, 800, QuotaExceeded),
        (0, 0, 26, 50, OutOfMemory),
        (0, 0, 13, 51, None),
        (0, 0, 14, 51, OutOfMemory),
        (0, 390, 10, 135, None),
        (0, 390, 10, 134, OutOfMemory),
        (0, 50, 0, 800, MemoryRefused),
    ],
)
def test_what_a_family_is_refused(
    used: int, together: int, wanted: int, free: int, error: type[Exception] | None
) -> None:
    """All members count, the reserve is not theirs, and of the last eighth none takes more than it leaves."""
    quotas = Quotas(800, {})

    assert quotas.reserve == 25
    assert refusal(quotas, Party(1 << 32, 7, used, together), wanted, free) is error


def test_a_quota_that_was_set() -> None:
    """A server may let a family have nearly all: the reserve alone is left. It may let a member have less."""
    quotas = Quotas(800, {7: 800, 1 << 32: 5})

    assert refusal(quotas, Party(2 << 32, 7, 700, 700), 75, 100) is None
    assert refusal(quotas, Party(2 << 32, 7, 700, 700), 76, 100) is OutOfMemory
    assert refusal(quotas, Party(1 << 32, 7, 5, 9), 1, 700) is QuotaExceeded


@pytest.mark.parametrize("pages", [1, 3, 64])
def test_many_families_leave_room(pages: int) -> None:
    """Eight families take one after another all they are given: there is still something for the next."""
    total = 1 << 16
    quotas, free, got = Quotas(total, {}), total, [0] * 8
    for family in range(8):
        while refusal(quotas, Party(1 << 32, family + 1, 0, got[family]), pages, free) is None:
            free, got[family] = free - pages, got[family] + pages
    ninth = Party(1 << 32, 9)

    assert got[0] == total // 2 // pages * pages
    assert free > quotas.reserve + total // 8 // (1 << 7)
    assert refusal(quotas, ninth, (free - quotas.reserve) // 2, free) is None


def refusal(quotas: Quotas, party: Party, wanted: int, free: int) -> type[Exception] | None:
    """Return what asking raises."""
    try:
        quotas.check(party, wanted, free)
    except MemoryRefused as error:
        return type(error)
    return None


def test_how_many_extents_are_kept() -> None:
    """A family may have half of the room for kept extents, and of the end of it no more than it leaves."""
    half = KEPT // QUOTA_DIVISOR
    check_kept(half - 1, 1, half)
    check_kept(0, 1, KEPT - 2)

    for own, wanted, total in ((half, 1, half), (0, half + 1, 0), (0, 1, KEPT - 1), (9, 1, KEPT - 10)):
        with pytest.raises(QuotaExceeded, match="larger pages"):
            check_kept(own, wanted, total)


def test_how_many_extents_come_in_a_message() -> None:
    """As many as can be on offer: more would push the first ones out."""
    check_message(MAX_OFFERS)
    with pytest.raises(QuotaExceeded, match="smaller pages"):
        check_message(MAX_OFFERS + 1)


def of_frames(*users: int) -> memoryview:
    """The user of each frame, as in the kernel interface page."""
    return memoryview(array("I", users))


@pytest.mark.parametrize(
    ("count", "alignment", "lowest", "found"),
    [(1, 1, 0, 2), (1, 1, 3, 3), (2, 2, 0, 2), (2, 2, 3, 6), (3, 4, 0, None), (1, 4, 1, None), (2, 1, 3, 6)],
)
def test_the_first_that_fits(count: int, alignment: int, lowest: int, found: int | None) -> None:
    """A run is free from end to end, begins at a multiple of the alignment, and is the first such."""
    users = of_frames(1, 1, 0, 0, 1, 256, 0, 0)
    if found is not None:
        assert find_free(users, count, alignment, lowest) == found
        return
    with pytest.raises(OutOfMemory):
        find_free(users, count, alignment, lowest)


@given(
    st.lists(st.integers(0, 1), min_size=1, max_size=40),
    st.integers(1, 6),
    st.integers(1, 8),
    st.integers(0, 7),
    st.integers(0, 40),
)
def test_the_first_of_a_colour(users: list[int], count: int, colours: int, colour: int, lowest: int) -> None:
    """What is found is the first run of that colour that is free, and nothing is found where there is none."""
    colour %= colours
    fits = [
        first
        for first in range(lowest, len(users) - count + 1)
        if first % colours == colour and not any(users[first : first + count])
    ]
    if fits:
        assert find_free(of_frames(*users), count, colours, lowest, colour) == fits[0]
    else:
        with pytest.raises(OutOfMemory, match="none are free"):
            find_free(of_frames(*users), count, colours, lowest, colour)


def test_more_than_there_is() -> None:
    """A run longer than RAM, or all of it while a frame is taken, is not found."""
    for users, count in (([0] * 8, 16), ([0] * 7 + [1], 8)):
        with pytest.raises(OutOfMemory):
            find_free(of_frames(*users), count, count)


def test_no_frame_is_looked_at_by_itself() -> None:
    """Of much RAM that is taken, and of runs that fit nowhere, few lines of Python are run to find what does."""
    taken = [1] * 100_000
    for users, count, found in (
        ([*taken, 0], 1, 100_000),
        ([*taken, 1, 0, 0, 1, 0, 0, 0, 0], 4, 100_004),
        ([0, *taken], 2, None),
    ):
        lines, result = lines_run(partial(find_free_or_none, of_frames(*users), count, count))
        assert (result, lines < 30) == (found, True)


def find_free_or_none(users: memoryview, count: int, alignment: int) -> int | None:
    try:
        return find_free(users, count, alignment)
    except OutOfMemory:
        return None


def lines_run(work: Callable[[], T]) -> tuple[int, T]:
    """Return how many lines of Python *work* runs, and its result."""
    count = [0]

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:  # noqa: ANN401 - as sys.settrace has it
        count[0] += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = work()
    finally:
        sys.settrace(before)
    return count[0], result
