"""Page tables built by our code: what the models' walks find in them, and what building refuses."""

from typing import NamedTuple, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwmodel.iommu.amdvi import walk as amd
from hwmodel.iommu.layout import PAGE
from hwmodel.iommu.memory import Image
from hwmodel.iommu.pagetable import Form, PageTable
from hwmodel.iommu.smmu import walk as arm
from hwmodel.iommu.translation import Fault, Translation
from hwmodel.iommu.vtd import walk as intel

LARGE, HUGE = 0x20_0000, 0x4000_0000


class Frames:
    """Frames for tables, and how many are left."""

    def __init__(self, left: int = 1 << 16) -> None:
        self.next, self.left = 0x10_0000, left
        self.given: list[int] = []

    def allocate(self, count: int) -> int:
        if count > self.left:
            raise MemoryError("no frames")
        self.left -= count
        found = -(-self.next // (count * PAGE)) * count * PAGE
        self.next = found + count * PAGE
        self.given += range(found, self.next, PAGE)
        return found


class Walk(Protocol):
    """Translates an address for reading, or for writing."""

    def __call__(self, at: int, *, write: bool = False) -> Translation: ...


class Space(NamedTuple):
    """An address space of one architecture: its table, and the walk through it."""

    memory: Image
    frames: Frames
    table: PageTable
    walk: Walk

    def at(self, address: int, *, write: bool = False) -> int | None:
        try:
            return self.walk(address, write=write).address(address)
        except Fault:
            return None


def space(kind: str, left: int = 1 << 16) -> Space:
    memory, frames = Image(range(1 << 46)), Frames(left)
    table = PageTable(memory, FORMS[kind], frames.allocate)

    def vtd(at: int, *, write: bool = False) -> Translation:
        return intel.walk(memory, intel.Context(7, 4, table.root), at, write=write)

    def amdvi(at: int, *, write: bool = False) -> Translation:
        return amd.walk(memory, amd.Device(7, 4, table.root, True, True), at, write=write)

    def smmu(at: int, *, write: bool = False) -> Translation:
        return arm.walk(memory, arm.Stream(7, 3, table.root, 40, 48, True, True), at, write=write)

    return Space(memory, frames, table, {"vtd": vtd, "amdvi": amdvi, "smmu": smmu}[kind])


FORMS: dict[str, Form] = {"vtd": intel.form(4), "amdvi": amd.form(4), "smmu": arm.form(3, roots=2)}
KINDS = pytest.mark.parametrize("kind", FORMS)
SIZES = [PAGE, 2 * PAGE, LARGE, LARGE + PAGE, 3 * LARGE]
PLACES = [0, PAGE, LARGE - PAGE, LARGE, HUGE - LARGE, HUGE, HUGE + 3 * PAGE, (1 << 39) - PAGE]
SHIFTS = [0, HUGE, 5 * LARGE]
"""From where a device sees a block to where it is. With one of pages, a gigabyte would be 262,144 entries."""
MOVES = st.tuples(
    st.booleans(),
    st.sampled_from(PLACES),
    st.sampled_from(SIZES),
    st.sampled_from(SHIFTS),
    st.sampled_from([1, 2, 3]),
)


@KINDS
@settings(deadline=None, max_examples=40)
@given(moves=st.lists(MOVES, max_size=12))
def test_walks_find_what_is_mapped(kind: str, moves: list[tuple[bool, int, int, int, int]]) -> None:
    """After any mappings and unmappings, walks give just what is mapped, with its rights, and refuse the rest."""
    made = space(kind)
    mapped: dict[tuple[int, int], tuple[int, int]] = {}
    free = set[int]()
    for adds, first, size, shift, rights in moves:
        target = first + shift
        over = {each for each in mapped if each[0] < first + size and first < sum(each)}
        if adds and not over:
            made.table.map(first, target, size, read=bool(rights & 1), write=bool(rights & 2))
            mapped[first, size] = target, rights
        elif adds:
            with pytest.raises(ValueError, match="mapped already"):
                made.table.map(first, target, size, read=True, write=True)
        elif all(first <= each[0] and sum(each) <= first + size for each in over):
            free |= set(made.table.unmap(first, size))
            mapped = {each: mapped[each] for each in mapped.keys() - over}
    for at in {place + offset for place in PLACES for size in SIZES for offset in (-1, 0, size - 1, size)}:
        here = [each for each in mapped if each[0] <= at < sum(each)]
        for write in (False, True):
            target, rights = mapped[here[0]] if here else (0, 0)
            wanted = target + at - here[0][0] if here and rights & (2 if write else 1) else None
            assert at < 0 or made.at(at, write=write) == wanted
    assert free <= set(made.frames.given)
    assert made.table.root not in free


@KINDS
def test_large_blocks_take_few_tables(kind: str) -> None:
    """An aligned range is mapped by the largest blocks: 1 GiB and 2 MiB by an entry each, and pages between."""
    made = space(kind)
    before = made.frames.left
    made.table.map(HUGE, HUGE, 2 * HUGE, read=True, write=True)
    spent = before - made.frames.left
    assert spent <= 2
    assert made.walk(HUGE).size == HUGE
    made.table.map(0, 0, LARGE, read=True, write=True)
    made.table.map(LARGE, LARGE, PAGE, read=True, write=True)
    assert (made.walk(0).size, made.walk(LARGE).size) == (LARGE, PAGE)


@KINDS
def test_tables_that_lead_to_nothing_come_back(kind: str) -> None:
    """With the last page of a table unmapped, it and those above that are empty are returned, but not the root."""
    made = space(kind)
    made.table.map(0, 0, 2 * PAGE, read=True, write=True)
    tables = set(made.frames.given) - set(
        range(made.table.root, made.table.root + FORMS[kind].roots * PAGE, PAGE)
    )
    assert made.table.unmap(0, PAGE) == []
    assert made.at(PAGE) == PAGE
    freed = made.table.unmap(PAGE, PAGE)
    assert (set(freed), len(freed)) == (tables, len(tables))
    assert made.at(PAGE) is None


@KINDS
def test_what_cannot_be_mapped_changes_nothing(kind: str) -> None:
    """Half pages, no rights, ranges outside, parts of blocks and a lack of frames are refused; all is as it was."""
    made = space(kind)
    made.table.map(LARGE, 0, LARGE, read=True, write=True)
    for first, target, size, rights, told in (
        (1, 0, PAGE, True, "whole pages"),
        (0, 0, 0, True, "whole pages"),
        (-PAGE, 0, PAGE, True, "not within"),
        (made.table.span - PAGE, 0, 2 * PAGE, True, "not within"),
        (0, 8, PAGE, True, "leads to a page"),
        (0, 0, PAGE, False, "leads to a page"),
        (LARGE + PAGE, 0, PAGE, True, "mapped already"),
    ):
        with pytest.raises(ValueError, match=told):
            made.table.map(first, target, size, read=rights, write=rights)
    with pytest.raises(ValueError, match="cuts the block"):
        made.table.unmap(LARGE, PAGE)
    made.frames.left = 1
    with pytest.raises(MemoryError):
        made.table.map(HUGE - PAGE, 0, 2 * PAGE, read=True, write=True)
    assert [made.at(at) for at in (0, HUGE - PAGE, HUGE, LARGE + 5)] == [None, None, None, 5]
    made.frames.left = 5
    made.table.map(HUGE - PAGE, 0, 2 * PAGE, read=True, write=True)
    assert made.at(HUGE) == PAGE


@KINDS
def test_walk_needs_nothing_but_memory(kind: str) -> None:
    """With the object that built the tables gone, a copy of the memory is walked as before."""
    made = space(kind)
    made.table.map(HUGE, LARGE, PAGE, read=True, write=False)
    root, memory = made.table.root, made.memory
    del made
    walks = {
        "vtd": lambda: intel.walk(memory, intel.Context(7, 4, root), HUGE, write=False),
        "amdvi": lambda: amd.walk(memory, amd.Device(7, 4, root, True, True), HUGE, write=False),
        "smmu": lambda: arm.walk(memory, arm.Stream(7, 3, root, 40, 48, True, True), HUGE, write=False),
    }
    assert walks[kind]().target == LARGE
