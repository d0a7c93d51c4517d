"""The table of an address space: regions never overlap, and a holding goes with its last one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.abi.limits import FRAME_SIZE as PAGE
from libexo.l4.space.regions import END, Holding, Regions, all_of, check_range

places = st.integers(0, 15)
lengths = st.integers(1, 8)
steps = st.lists(st.tuples(st.sampled_from(["enter", "cut", "remove"]), places, lengths), max_size=30)

Model = dict[int, tuple[Holding, int]]
"""By page: what it shows, and which page of that."""


def shown(regions: Regions) -> Model:
    """The table as a model; overlapping regions would come out as an error."""
    pages: Model = {}
    for region in regions:
        for number in range(region.size // PAGE):
            page = region.base // PAGE + number
            assert page not in pages
            pages[page] = region.holding, region.offset // PAGE + number
    return pages


def clear(model: Model, first: int, count: int) -> set[Holding]:
    """Clear pages of *model*; return the holdings that were in them and are nowhere now."""
    cleared = {model.pop(page)[0] for page in range(first, first + count) if page in model}
    return cleared - {holding for holding, _ in model.values()}


@given(steps)
def test_the_table_is_as_pages_would_be(script: list[tuple[str, int, int]]) -> None:
    """After any entries, cuts and removals each page shows what it should; what is gone is named once."""
    regions, model = Regions(), Model()
    for what, first, count in script:
        if what == "enter":
            holding = Holding(len(script), count * PAGE, 31)
            gone = clear(model, first, count)
            assert set(regions.enter(all_of(holding, first * PAGE))) == gone
            model |= {first + n: (holding, n) for n in range(count)}
        elif what == "cut":
            gone = clear(model, first, count)
            found = regions.cut(first * PAGE, (first + count) * PAGE)
            assert (set(found), len(found)) == (gone, len(gone))
        elif first in model:
            removed = model[first][0]
            regions.remove(removed)
            model = {page: entry for page, entry in model.items() if entry[0] is not removed}

        assert shown(regions) == model
        assert [region.base for region in regions] == sorted(region.base for region in regions)
        for holding, _ in model.values():
            assert holding.shown == PAGE * sum(entry[0] is holding for entry in model.values())


@given(steps, places, lengths)
def test_looking_up(script: list[tuple[str, int, int]], first: int, count: int) -> None:
    """`at` finds the region of an address, to the byte; `overlapping` all that reach into a range."""
    regions = Regions()
    for _, at, pages in script:
        regions.enter(all_of(Holding(1, pages * PAGE, 31), at * PAGE))
    start, end = first * PAGE, (first + count) * PAGE

    for address in (start, start + PAGE - 1, end - 1):
        expected = next((region for region in regions if region.base <= address < region.end), None)
        assert regions.at(address) == expected
    assert regions.overlapping(start, end) == [r for r in regions if r.base < end and r.end > start]


def test_a_hole_in_the_middle() -> None:
    """A cut in the middle leaves two ends, which show their own bytes; neither is whole."""
    regions, holding = Regions(), Holding(1, 3 * PAGE, 31)
    regions.enter(all_of(holding, 0))
    gone = regions.cut(PAGE, 2 * PAGE)

    assert gone == []
    assert [(r.base, r.size, r.offset, r.whole) for r in regions] == [
        (0, PAGE, 0, False),
        (2 * PAGE, PAGE, 2 * PAGE, False),
    ]


def test_nothing_overlaps_an_empty_range() -> None:
    """A range of no bytes, as a nil fpage covers, touches no region, even inside one."""
    regions = Regions()
    regions.enter(all_of(Holding(1, 2 * PAGE, 31), 0))

    assert (regions.overlapping(PAGE, PAGE), regions.overlapping(0, 0)) == ([], [])
    assert regions.cut(PAGE, PAGE) == []
    assert len(list(regions)) == 1


@pytest.mark.parametrize(
    ("address", "size"),
    [(1, PAGE), (0, 0), (0, PAGE - 1), (0, -PAGE), (-PAGE, PAGE), (END, PAGE), (END - PAGE, 2 * PAGE)],
)
def test_ranges_that_are_none(address: int, size: int) -> None:
    """A range must be whole pages of the address space, and at least one."""
    with pytest.raises(ValueError, match="bytes at"):
        check_range(address, size)
