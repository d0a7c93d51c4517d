"""Queue entries and structures of the three architectures: fields to bytes and back, and what is refused."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from operator import attrgetter
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodel.iommu import amdvi, smmu, vtd
from hwmodel.iommu.amdvi.formats import CODEC as AMDVI
from hwmodel.iommu.codec import Codec
from hwmodel.iommu.layout import ADDRESSES, Format, MalformedEntry, Values, numbers
from hwmodel.iommu.smmu.formats import CODEC as SMMU
from hwmodel.iommu.vtd.formats import CODEC as VTD
from tests.hwmodel.iommu.entries import ENTRIES, ERRORS, REFUSED, Entry, reference_entries

CODECS: dict[ModuleType, Codec[Any]] = {vtd: VTD, amdvi: AMDVI, smmu: SMMU}
SIZED = {"address", "size", "gn"}
"""Fields whose range becomes a larger block, or that follow from others."""

NAME = attrgetter("name")
LEGACY = replace(vtd.UNIT, mode=vtd.Mode.LEGACY)


def formats() -> Iterator[Format]:
    for codec in CODECS.values():
        yield from codec.entries.values()
        yield from codec.structures


def read_or_refused(module: ModuleType, raw: bytes) -> Values | None:
    """Return the fields, or nothing if they are refused by the architecture's error; others are raised."""
    try:
        fields: Values = module.decode(raw)
    except MalformedEntry as refused:
        if refused.error.startswith(ERRORS[module]):
            return None
        raise
    return fields


def some_of(module: ModuleType, kind: int) -> Format:
    return CODECS[module].entries[kind]


@pytest.mark.parametrize("entry", ENTRIES + reference_entries(legal=True), ids=NAME)
def test_entry_is_these_bytes(entry: Entry) -> None:
    """An entry's fields, given as text, become exactly the bytes that drivers write and hardware reads."""
    assert entry.architecture.encode(entry.inputs) == entry.data


@pytest.mark.parametrize("entry", ENTRIES + reference_entries(legal=True), ids=NAME)
def test_bytes_say_this(entry: Entry) -> None:
    """The bytes give the fields back under the same names; all fields together make the same bytes again."""
    fields = entry.architecture.decode(entry.data, entry.structure)
    given = numbers(entry.inputs)
    exact = given if given.get("size", 0).bit_count() < 2 else {k: given[k] for k in given.keys() - SIZED}
    assert exact.items() <= fields.items()
    assert entry.architecture.encode(fields) == entry.data


@pytest.mark.parametrize("entry", REFUSED + reference_entries(legal=False), ids=NAME)
def test_a_malformed_entry_is_refused(entry: Entry) -> None:
    """A malformed entry is refused by its architecture's own error, on VT-d by a unit in legacy mode."""
    with pytest.raises(MalformedEntry, match=ERRORS[entry.architecture]):
        entry.architecture.decode(
            entry.data, unit=LEGACY if entry.architecture is vtd else entry.architecture.UNIT
        )


def test_no_bit_is_in_two_fields() -> None:
    """In no format do two fields share a bit, and none lies beyond the entry."""
    for format_ in formats():
        for one, other in combinations(format_.parts, 2):
            assert not one.mask & other.mask, (format_.name, one.names, other.names)
        assert format_.mask < 1 << 8 * format_.size


@pytest.mark.parametrize("entry", ENTRIES, ids=NAME)
def test_every_reserved_bit_is_refused(entry: Entry) -> None:
    """A legal entry with any one bit set that has no meaning there is refused, and by its architecture's name."""
    codec = CODECS[entry.architecture]
    if entry.structure is None:
        name, value = codec.selector.name, numbers(entry.inputs)[codec.selector.name]
        format_, error = codec.entries[value], ERRORS[entry.architecture]
        assert name in format_.names
    else:
        format_ = next(each for each in codec.structures if each.name == entry.structure)
        error = format_.error or format_.name
    number = int.from_bytes(entry.data, "little")
    for bit in range(8 * len(entry.data)):
        if not format_.mask >> bit & 1:
            hostile = (number | 1 << bit).to_bytes(len(entry.data), "little")
            with pytest.raises(MalformedEntry, match=error):
                entry.architecture.decode(hostile, entry.structure)


@pytest.mark.parametrize("module", CODECS)
@given(data=st.data())
def test_any_bytes_are_read_or_refused(module: ModuleType, data: st.DataObject) -> None:
    """Any bytes at all are refused by the architecture's error, or give fields that mean the same in both ways."""
    kind = data.draw(st.sampled_from([*CODECS[module].entries, None]))
    raw = data.draw(st.integers(0, (1 << 8 * max(CODECS[module].sizes)) - 1))
    if kind is not None:
        raw = raw & some_of(module, kind).mask & ~CODECS[module].selector.mask
        raw |= CODECS[module].selector.pack({CODECS[module].selector.name: kind})
        raw |= data.draw(st.sampled_from([0, 0, 0, 1])) << data.draw(st.integers(0, 127))
    size = data.draw(st.sampled_from(CODECS[module].sizes)) if raw < 1 << 128 else max(CODECS[module].sizes)
    fields = read_or_refused(module, raw.to_bytes(size, "little"))
    if fields is None:
        return
    again = module.encode(fields)
    assert module.decode(again) == fields
    if not {"size", "size_order"} & fields.keys():
        assert int.from_bytes(again, "little") == raw


@given(first=st.integers(0, (1 << 52) - 1), pages=st.integers(1, 1 << 52))
def test_a_sized_block_holds_the_range(first: int, pages: int) -> None:
    """The block that an AMD-Vi range becomes holds it, begins at a multiple of its size, and is the least."""
    address, last = first << 12, min((first + pages << 12), ADDRESSES) - 1
    fields = amdvi.decode(amdvi.encode({"op": 3, "domid": 1, "address": address, "size": pages << 12}))
    start, size = fields["address"], fields["size"]
    assert start <= address
    assert last < start + size
    assert start % size == 0
    half = size // 2
    assert size == 0x1000 or start == 0 or address // half != last // half


@given(order=st.integers(0, 52), block=st.integers(0, (1 << 52) - 1))
def test_an_order_comes_back(order: int, block: int) -> None:
    """A device-TLB block of any order and address comes back as it was given."""
    address = (block << 12) >> order + 12 << order + 12
    fields = vtd.decode(vtd.encode({"type": 3, "addr": address, "size_order": order}))
    assert (fields["addr"], fields["size_order"]) == (address, order)


@pytest.mark.parametrize(
    ("unit", "inputs", "code"),
    [
        (LEGACY, {"type": 6, "granularity": 2}, 3),
        (replace(vtd.UNIT, dt=False), {"type": 3}, 3),
        (replace(vtd.UNIT, ir=False), {"type": 4}, 3),
        (replace(vtd.UNIT, psi=False), {"type": 2, "granularity": 3}, 4),
        (replace(vtd.UNIT, pds=False), {"type": 5, "PD": 1}, 4),
        (replace(vtd.UNIT, mhmv=2), {"type": 4, "index_selective": 1, "im": 3}, 4),
        (vtd.UNIT, {"type": 1}, 4),
        (vtd.UNIT, {"type": 7, "granularity": 2}, 4),
        (vtd.UNIT, {"type": 10}, 3),
        (vtd.UNIT, {"type": 3, "addr": 0x1000, "size_order": 1}, 4),
        (vtd.UNIT, {"type": 3, "size_order": 53}, 4),
    ],
    ids=str,
)
def test_vtd_refuses(unit: vtd.Unit, inputs: dict[str, int], code: int) -> None:
    """What a unit lacks, and what no unit has, is IQE with the code that IQERCD would show."""
    with pytest.raises(MalformedEntry, match=f"IQERCD.IQEI={code}") as refused:
        vtd.encode(inputs, unit)
    assert refused.value.code == code


def test_vtd_ignores_size_unless_pages_are_named() -> None:
    """A mask beyond MAMV is no error where the granularity is not pages: the field does not count then."""
    assert vtd.decode(vtd.encode({"type": 2, "granularity": 1, "am": 63}))["am"] == 63


@pytest.mark.parametrize(
    ("unit", "inputs"),
    [
        (replace(amdvi.UNIT, ia=False), {"op": 8}),
        (replace(amdvi.UNIT, ppr=False), {"op": 7, "devid": 1}),
        (replace(amdvi.UNIT, pref=False), {"op": 6, "devid": 1, "address": 0}),
        (amdvi.UNIT, {"op": 9}),
        (amdvi.UNIT, {"op": 3, "domid": 1, "address": 0x800}),
        (amdvi.UNIT, {"op": 3, "domid": 1, "address": 0, "size": 0}),
        (amdvi.UNIT, {"op": 3, "domid": 0x10000, "address": 0}),
        (amdvi.UNIT, {"op": 1, "store_addr": 4}),
    ],
    ids=str,
)
def test_amdvi_refuses(unit: amdvi.Unit, inputs: dict[str, int]) -> None:
    """What a unit lacks, and what no command can say, is ILLEGAL_COMMAND_ERROR."""
    with pytest.raises(MalformedEntry, match="ILLEGAL_COMMAND_ERROR"):
        amdvi.encode(inputs, unit)


@pytest.mark.parametrize(
    ("unit", "inputs"),
    [
        (replace(smmu.UNIT, s1p=False), {"op": 0x12}),
        (replace(smmu.UNIT, s2p=False), {"op": 0x2A}),
        (replace(smmu.UNIT, s2p=False), {"op": 0x28}),
        (replace(smmu.UNIT, hyp=False), {"op": 0x20}),
        (replace(smmu.UNIT, secure=False), {"op": 0x18}),
        (replace(smmu.UNIT, ats=False), {"op": 0x40, "sid": 1}),
        (replace(smmu.UNIT, pri=False), {"op": 0x41, "sid": 1}),
        (replace(smmu.UNIT, stall=False), {"op": 0x44, "sid": 1}),
        (replace(smmu.UNIT, ril=False), {"op": 0x2A, "tg": 1, "num": 1}),
        (smmu.UNIT, {"op": 0x46, "cs": 3}),
        (smmu.UNIT, {"op": 0x40, "sid": 1, "size": 53}),
        (smmu.UNIT, {"op": 0x41, "sid": 1, "resp": 3}),
        (smmu.UNIT, {"op": 0x2A, "asid": 1}),
        (smmu.UNIT, {"op": 0x00}),
    ],
    ids=str,
)
def test_smmu_refuses(unit: smmu.Unit, inputs: dict[str, int]) -> None:
    """What a unit lacks, and what the manual calls reserved or illegal, is CERROR_ILL."""
    with pytest.raises(MalformedEntry, match="CERROR_ILL") as refused:
        smmu.encode(inputs, unit)
    assert refused.value.code == 1


@pytest.mark.parametrize("module", CODECS)
def test_callers_mistakes_are_told(module: ModuleType) -> None:
    """Text that is no number, a negative one, unknown structures and wrong lengths are errors that name them."""
    with pytest.raises(ValueError, match="sid is 'three'"):
        module.encode({"sid": "three"})
    with pytest.raises(ValueError, match="sid is -1"):
        module.encode({"sid": -1})
    with pytest.raises(ValueError, match="no structure has the fields colour"):
        module.encode({"colour": 1})
    with pytest.raises(ValueError, match="there is no structure 'page'"):
        module.decode(bytes(16), "page")
    with pytest.raises(ValueError, match="these are 15"):
        module.decode(bytes(15))
