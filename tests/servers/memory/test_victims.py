"""Which extents are chosen, and how what a family may keep is divided: plain numbers."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libexo.pressure import NOWHERE, Named, RuleSet, Run
from servers.memory.victims import Part, Victim, chosen, extents, first_of, shares, snapshot

A, B, C, D = Run(0, 2), Run(2, 3), Run(10, 4), Run(20, 1)
HAVE = [A, B, C, D]


def going(rules: RuleSet, wanted: int, keeps: int = 100) -> list[int]:
    return [victim.first for victim in chosen(HAVE, rules, wanted, keeps)]


def table(*spans: tuple[int, int]) -> tuple[str, dict[int, int]]:
    """Return a table of frames, and the lengths of the extents in it; a span is a length, and whose it is."""
    words, lengths = list[int](), dict[int, int]()
    for length, number in spans:
        if number >= 0:
            lengths[len(words)] = length
        words += [number + 1] * length
    return snapshot(memoryview(array("I", words))), lengths


def test_extents_of_a_table() -> None:
    """Extents that touch are told apart; those of others and free frames are left out."""
    users, lengths = table((1, -1), (2, 2), (1, 2), (2, 4), (1, -1), (1, 2), (3, 2))

    def at(first: int) -> int:
        return lengths.get(first, 0)

    assert extents(users, at, 2) == [(1, 2), (3, 1), (7, 1), (8, 3)]
    assert extents(users, at, 4) == [(4, 2)]
    assert extents(users, at, 6) == []
    assert [first_of(users, number) for number in (2, 4, 6)] == [1, 4, -1]


def test_a_table_that_changes() -> None:
    """An extent that is not there any more, or an impossible length, is passed over."""
    users, _ = table((2, 2), (2, 2))

    assert extents(users, lambda first: {0: 0, 1: 0, 2: 2, 3: 9}[first], 2) == [(2, 2)]
    assert extents(users, lambda first: {0: 1 << 31}.get(first, 0), 2) == []


@pytest.mark.parametrize(
    ("rules", "wanted", "gone"),
    [
        (RuleSet(), 1, [20]),
        (RuleSet(), 2, [20, 10]),
        (RuleSet(), 0, []),
        (RuleSet(), 99, [20, 10, 2, 0]),
        (RuleSet(first=(Named(2, 3), Named(0, 2))), 4, [2, 0]),
        (RuleSet(first=(Named(0, 11),)), 6, [0, 2, 10]),
        (RuleSet(first=(Named(1, 1), Named(21, 5))), 1, [20]),
        (RuleSet(spared=(Run(20, 1), Run(10, 4))), 1, [2]),
        (RuleSet(first=(Named(20, 1),), spared=(Run(20, 1),)), 1, [10]),
        (RuleSet(first=(Named(0, 2), Named(0, 2))), 5, [0, 20, 10]),
    ],
)
def test_the_order(rules: RuleSet, wanted: int, gone: list[int]) -> None:
    """What is named in its order, then from the highest down; what is spared not; no more than are wanted."""
    assert going(rules, wanted) == gone


def test_what_is_spared_fits() -> None:
    """Of what is spared, what fits stays, the first named first; of the rest all may go."""
    rules = RuleSet(spared=(C, B, D))

    assert going(rules, 99, keeps=5) == [2, 0]
    assert going(rules, 99, keeps=3) == [20, 10, 0]
    assert going(rules, 99, keeps=0) == [20, 10, 2, 0]


def test_the_place() -> None:
    """A place is for the extent that was named with it, and for no other in its range."""
    found = chosen(HAVE, RuleSet(first=(Named(0, 5, 40),)), 5, 0)

    assert found == [Victim(0, 2, 40), Victim(2, 3, NOWHERE)]


spans = st.tuples(st.integers(0, 60), st.integers(0, 9))


@given(
    st.lists(st.integers(1, 5), max_size=12),
    st.lists(spans, max_size=6),
    st.lists(spans, max_size=6),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_any_choice(
    lengths: list[int], named: list[tuple[int, int]], spared: list[tuple[int, int]], wanted: int, keeps: int
) -> None:
    """Enough goes, or all that may; each once; without the last of them it would be too little."""
    have, at = [], 0
    for length in lengths:
        have.append(Run(at, length))
        at += length
    rules = RuleSet(tuple(Named(*each) for each in named), tuple(Run(*each) for each in spared))
    found = chosen(have, rules, wanted, keeps)
    together = sum(each.length for each in found)

    assert len({each.first for each in found}) == len(found)
    assert together >= wanted or at - together <= keeps
    assert not found or together - found[-1].length < wanted


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 300))
def test_shares(frames: list[int], keeps: int) -> None:
    """A family's frames are divided by what each has: no more than it has, and together what it may keep."""
    parts = shares(list(enumerate(frames)), keeps)

    assert [(part.thread, part.frames) for part in parts] == list(enumerate(frames))
    assert all(0 <= part.keeps <= part.frames for part in parts)
    assert sum(part.keeps for part in parts) == min(keeps, sum(frames))


def test_shares_by_what_each_has() -> None:
    """One that has three times as much gives three times as much."""
    assert shares([(1, 30), (2, 10)], 20) == [Part(1, 30, 15), Part(2, 10, 5)]
