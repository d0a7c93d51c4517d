"""Who is asked for frames, and for how many: plain numbers."""

from hypothesis import given
from hypothesis import strategies as st

from servers.memory.fair import Claim, asked_back, share

PLENTY = 1 << 40


def claims(*frames: int) -> list[Claim]:
    return [Claim(at + 1, each, PLENTY) for at, each in enumerate(frames)]


def test_the_share_is_what_all_could_have() -> None:
    """All that programs have and that is free, but for what is to be free, divided by their number."""
    assert share(claims(100, 20, 0), 30, 60) == 30
    assert share(claims(10), 0, 60) == 0
    assert share([], 100, 60) == 40


def test_in_proportion_to_what_is_too_much() -> None:
    """Who has its share or less is not asked; of the others each gives by what it has above it."""
    assert asked_back(claims(130, 90, 50, 10), 50, 30) == {1: 110, 2: 80}


def test_first_those_above_their_quota() -> None:
    """A family that has more than a quota that was set later is asked first, and for no more than that at first."""
    over = [Claim(1, 100, PLENTY), Claim(2, 30, 20)]

    assert asked_back(over, 50, 10) == {2: 20}
    assert asked_back(over, 50, 40) == {2: 20, 1: 70}


def test_nobody_is_asked_for_nothing() -> None:
    """Where nothing is wanted, or all have their share, nobody is."""
    assert asked_back(claims(100, 20), 50, 0) == {}
    assert asked_back(claims(50, 20), 50, 30) == {}


@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=40), st.integers(0, 10_000), st.integers(0, 10_000)
)
def test_what_is_wanted_comes_back(frames: list[int], free: int, leave: int) -> None:
    """No family comes below its share, no more than is wanted is asked for, and there is always enough."""
    have = claims(*frames)
    own, wanted = share(have, free, leave), max(0, min(leave - free, sum(frames)))
    keeps = asked_back(have, own, wanted)
    gives = {claim.frames - keeps[claim.family] for claim in have if claim.family in keeps}

    assert all(kept >= own for kept in keeps.values())
    assert all(gives)
    assert sum(claim.frames - keeps.get(claim.family, claim.frames) for claim in have) == wanted
