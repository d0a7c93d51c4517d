"""Walks through tables in memory: translations and faults as listed, and what is wrong on the way."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodel.iommu import amdvi, smmu, vtd
from hwmodel.iommu.amdvi.walk import device_of
from hwmodel.iommu.layout import Values
from hwmodel.iommu.memory import Image
from hwmodel.iommu.translation import Fault
from tests.hwmodel.iommu.images import (
    AMDVI,
    CASES,
    IMAGES,
    REACH,
    SMMU,
    VTD,
    Case,
    memory_with,
    outcome,
    reference_cases,
)

HOLE = 0x7FFF_FFFF_F000
"""An address of 47 bits, where there is no memory."""


def result(
    words: dict[int, int], architecture: str, source: int, at: int, *, write: bool
) -> int | Values | None:
    memory = memory_with(words)
    return outcome(partial(REACH[architecture], memory, source, at, write=write), at)


@pytest.mark.parametrize("case", [*CASES, *reference_cases()], ids=lambda case: None)
def test_access_gives_what_is_listed(case: Case) -> None:
    """An access through a table image gives the address listed, or a fault whose record has the fields listed."""
    given_back = result(case.words, case.architecture, case.source, case.at, write=case.write)
    if isinstance(case.gives, int):
        assert given_back == case.gives
        return
    assert isinstance(given_back, dict)
    assert {name: given_back.get(name, 0) for name in case.gives} == case.gives


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({0x1000_0030: 0x1000_1003}, 0xA),
        ({0x1000_0038: 1}, 0xA),
        ({0x1000_0030: HOLE | 1}, 9),
        ({0x1000_1108: 0x4202 | 1 << 7}, 0xB),
        ({0x1000_1108: 0x4203}, 3),
        ({0x1000_1100: 0x1000_200D}, 3),
        ({0x1000_1100: 0x1000_2000}, 2),
        ({0x1000_1100: 0x1000_2002}, None),
        ({0x1000_1100: 0x1000_2003, 0x1000_1108: 0x4200}, None),
        ({0x1000_1100: 0x1000_2009, 0x1000_1108: 0x4201}, 3),
        ({0x1000_2000: 0x1000_3083}, 0xC),
        ({0x1000_2000: HOLE | 3}, 0xC),
        ({0x1000_2000: 0x3FFF_FFFF_F003}, 7),
    ],
)
def test_vtd_tables_that_are_wrong(change: dict[int, int], reason: int | None) -> None:
    """Each wrong table has its fault reason; with FPD set in the context there is no record."""
    memory = Image(range((1 << 46) - 0x1000))
    for where, word in {**VTD, **change}.items():
        memory.write(where, word.to_bytes(8, "little"))
    given_back = outcome(partial(REACH["vtd"], memory, 0x310, 0x12345678, write=False), 0x12345678)
    assert given_back == (None if reason is None else {"FR": reason})


def test_vtd_passes_a_device_through() -> None:
    """With TT 10 and the largest width, a device's addresses are memory's."""
    assert result({**VTD, 0x1000_1100: 0x1000_2009}, "vtd", 0x310, 0x98765432, write=True) == 0x98765432


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({0x2010_6200: 0x6000_0000_2000_1807}, {"code": 1, "RZ": 1}),
        ({0x2010_6200: 0x6000_0000_2000_1E03}, {"code": 1}),
        ({0x2000_1000: 0x6000_0000_2000_2801}, {"code": 2, "PR": 1, "RZ": 1}),
        ({0x2000_3488: 0x6000_0000_2000_4401}, {"code": 2, "PR": 1, "RZ": 1}),
        ({0x2000_4A28: 0x6000_0007_FFFF_FE01}, {"code": 2, "PR": 1, "RZ": 1}),
        ({0x2000_1000: 0x600F_FFFF_FFFF_F601}, {"code": 4}),
        ({0x2010_6200: 0x2000_0000_2000_1803}, 0x4_5678_9678),
        ({0x2010_6200: 0x4000_0000_2000_1803}, {"code": 2, "PR": 1, "PE": 1}),
        ({0x2000_1000: 0x6000_0000_2000_4201}, {"code": 2, "PR": 0}),
    ],
)
def test_amdvi_tables_that_are_wrong(change: dict[int, int], fields: int | Values) -> None:
    """Each wrong entry has its event; the device's own rights count as those of a level do."""
    given_back = result({**AMDVI, **change}, "amdvi", 0x310, 0x12345678, write=False)
    if isinstance(fields, int) or isinstance(given_back, int) or given_back is None:
        assert given_back == fields
    else:
        assert {name: given_back.get(name, 0) for name in fields} == fields


def test_amdvi_skips_levels_whose_bits_are_zero() -> None:
    """An entry may point several levels down; then the bits between must be 0."""
    words = {**AMDVI, 0x2000_1000: 0x6000_0000_2000_4201}
    assert result(words, "amdvi", 0x310, 0x145678, write=False) == 0x4_5678_9678
    assert result(words, "amdvi", 0x310, 0x145678 | 1 << 21, write=False) == {
        "code": 2,
        "domid": 0x11,
        "RW": 0,
    }


def test_amdvi_device_beyond_the_table() -> None:
    """A device whose number the table has no entry for is ILLEGAL_DEV_TABLE_ENTRY; so is one in no memory a 3."""
    memory = memory_with(AMDVI)
    for base, code in ((0x2010_0000, 1), (0xF_FFFF_FFFF_F1FF, 3)):
        with pytest.raises(Fault) as refused:
            device_of(memory, base, 0x310, write=False)
        assert refused.value.record == {"code": code, "RW": 0}


STE = 0x2004_0000 + 0x310 * 64


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({STE: 0xC}, 4),
        ({STE: 0xF}, 4),
        ({STE: 1}, None),
        ({STE + 16: 0x044D_3559_0000_0007 ^ 1 << 46}, 4),
        ({STE + 16: 0x044D_3519_0000_0007 | 0xC0 << 32}, 4),
        ({STE + 16: 0x044D_3559_0000_0007 & ~(63 << 32) | 40 << 32}, 4),
        ({STE + 16: 0x004D_3559_0000_0007, 0x2003_2A28: 0}, None),
        ({STE + 24: 1 << 49}, 4),
        ({0x2003_0000: 0x7FFF_FFFF_F003}, 0xB),
        ({0x2003_2A28: 0}, 0x10),
        ({STE + 16: 0x0445_3559_0000_0007}, 4),
        ({STE + 16: 0x0448_3559_0000_0007}, 0x11),
    ],
)
def test_smmu_tables_that_are_wrong(change: dict[int, int], kind: int | None) -> None:
    """Each wrong entry has its event; a stream that aborts, or does not record, has none."""
    given_back = result({**SMMU, **change}, "smmuv3", 0x310, 0x12345678, write=False)
    assert (given_back if given_back is None or isinstance(given_back, int) else given_back["type"]) == kind


def test_smmu_bypass_and_access_flag() -> None:
    """A stream in bypass is not translated; with S2AFFD an entry without access flag is used."""
    assert result({**SMMU, STE: 9}, "smmuv3", 0x310, 0x98765432, write=True) == 0x98765432
    words = {**SMMU, STE + 16: 0x046D_3559_0000_0007}
    assert result(words, "smmuv3", 0x310, 0x12348000, write=True) == 0x4_5678_B000


@pytest.mark.parametrize("architecture", IMAGES)
@given(data=st.data())
def test_any_tables_give_an_address_or_a_fault(architecture: str, data: st.DataObject) -> None:
    """Whatever is in the tables, an access ends with an address in reach, or a fault that can be recorded."""
    where = data.draw(st.sampled_from(sorted(IMAGES[architecture])))
    words = {**IMAGES[architecture], where: data.draw(st.integers(0, (1 << 64) - 1))}
    at = data.draw(st.sampled_from([0x12345678, 0x40000ABC]) | st.integers(0, (1 << 64) - 1))
    given_back = result(words, architecture, 0x310, at, write=data.draw(st.booleans()))
    if isinstance(given_back, dict):
        module = {"vtd": vtd, "amdvi": amdvi, "smmuv3": smmu}[architecture]
        assert module.encode(given_back)
    else:
        assert given_back is None or 0 <= given_back < 1 << 64
