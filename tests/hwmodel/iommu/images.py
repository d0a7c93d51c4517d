"""Tables in memory and what accesses through them give, after the manuals; and those of the reference data."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from hwmodel.iommu.amdvi import walk as amd
from hwmodel.iommu.layout import Values
from hwmodel.iommu.memory import Image, Memory
from hwmodel.iommu.smmu import walk as arm
from hwmodel.iommu.translation import Fault, Translation, untranslated
from hwmodel.iommu.vtd import walk as intel
from tests.hwmodel.iommu.entries import reference

ROOT_TABLE, DEVICE_TABLE, STREAM_TABLE = 0x1000_0000, 0x2010_01FF, 0x2004_0000
STREAM = {
    0x2004_0000 + 0x310 * 64 + 8 * at: word
    for at, word in enumerate((0xD, 0x1000_0000_0000, 0x44D_3559_0000_0007, 0x2003_0000))
}
"""The stream table entry of device 0x310: stage 2 by VMID 7, 39 bits, from the second level on."""

VTD = {
    0x1000_0030: 0x1000_1001,
    0x1000_1100: 0x1000_2001,
    0x1000_1108: 0x4202,
    0x1000_2000: 0x1000_3003,
    0x1000_3000: 0x1000_4003,
    0x1000_3008: 0x4_8000_0081,
    0x1000_4488: 0x1000_5003,
    0x1000_4490: 0x4_4000_0083,
    0x1000_4498: 0x4_4000_1083,
    0x1000_5A28: 0x4_5678_9003,
    0x1000_5A38: 0x4_5678_A001,
    0x1000_5A40: 0x4_5678_B803,
    0x1000_5A48: 0x4_5678_C002,
}
BOTH = 0x6000_0000_0000_0000
AMDVI = {
    0x2000_1000: BOTH | 0x2000_2601,
    0x2000_2000: BOTH | 0x2000_3401,
    0x2000_3488: BOTH | 0x2000_4201,
    0x2000_3490: BOTH | 0x4_4000_0001,
    0x2000_3498: 0x2000_0000_2000_5201,
    0x2000_4A28: BOTH | 0x4_5678_9001,
    0x2000_4A38: 0x2000_0004_5678_A001,
    **{0x2000_4A80 + 8 * copy: BOTH | 0x4_5678_7E01 for copy in range(16)},
    0x2000_5000: BOTH | 0x4_5678_C001,
    0x2010_6200: BOTH | 0x2000_1803,
    0x2010_6208: 0x11,
    0x2010_6220: BOTH | 3,
    0x2010_6240: 3,
    0x2010_6280: 1,
}
SMMU = {
    **STREAM,
    0x2003_0000: 0x2003_1003,
    0x2003_0008: 0x4_8000_07FD,
    0x2003_1488: 0x2003_2003,
    0x2003_1490: 0x4_4000_07FD,
    0x2003_2A28: 0x4_5678_97FF,
    0x2003_2A38: 0x4_5678_A77F,
    0x2003_2A40: 0x4_5678_B3FF,
    0x2003_2A48: 0x4_5678_C7FD,
    0x2003_2A50: 0x4_5678_D7BF,
}


def reach_vtd(memory: Memory, source: int, at: int, *, write: bool) -> Translation:
    context, _ = intel.context_of(memory, ROOT_TABLE, source)
    return intel.walk(memory, context, at, write=write)


def reach_amdvi(memory: Memory, source: int, at: int, *, write: bool) -> Translation:
    device = amd.device_of(memory, DEVICE_TABLE, source, write=write)
    return untranslated(at) if device is None else amd.walk(memory, device, at, write=write)


def reach_smmu(memory: Memory, source: int, at: int, *, write: bool) -> Translation:
    stream = arm.stream_of(memory, STREAM_TABLE, 16, source)
    return untranslated(at) if stream is None else arm.walk(memory, stream, at, write=write)


REACH = {"vtd": reach_vtd, "amdvi": reach_amdvi, "smmuv3": reach_smmu}
IMAGES = {"vtd": VTD, "amdvi": AMDVI, "smmuv3": SMMU}
NAMES = {"IO_PAGE_FAULT": 2}


class Case(NamedTuple):
    """One access: what it gives is an address, or the fields that its fault must have."""

    architecture: str
    words: dict[int, int]
    source: int
    at: int
    write: bool
    gives: int | Values


TABLE = """
vtd 0x310 0x12345678 read 0x456789678
vtd 0x310 0x12345678 write 0x456789678
vtd 0x310 0x12346000 read FR=6
vtd 0x310 0x12346000 write FR=5
vtd 0x310 0x12347010 read 0x45678a010
vtd 0x310 0x12347010 write FR=5
vtd 0x310 0x12348000 read FR=0xc
vtd 0x310 0x12349000 read FR=6
vtd 0x310 0x12349000 write 0x45678c000
vtd 0x310 0x12401234 write 0x440001234
vtd 0x310 0x12600000 read FR=0xc
vtd 0x310 0x40000abc read 0x480000abc
vtd 0x310 0x40000abc write FR=5
vtd 0x310 0x1000000000000 read FR=4
vtd 0x410 0x12345678 read FR=1
vtd 0x311 0x12345678 read FR=2
amdvi 0x310 0x12345678 read 0x456789678
amdvi 0x310 0x12345678 write 0x456789678
amdvi 0x310 0x12346000 read code=2 PR=0 RW=0
amdvi 0x310 0x12346000 write code=2 PR=0 RW=1
amdvi 0x310 0x12347004 read 0x45678a004
amdvi 0x310 0x12347004 write code=2 PR=1 RW=1 PE=1
amdvi 0x310 0x1235abcd write 0x45678abcd
amdvi 0x310 0x12401234 read 0x440001234
amdvi 0x310 0x12600010 read 0x45678c010
amdvi 0x310 0x12600010 write code=2 PR=1 RW=1 PE=1
amdvi 0x310 0x1000000000000 read code=2 PR=0
amdvi 0x311 0xabcdef00 write 0xabcdef00
amdvi 0x312 0xabcdef00 read code=2 PR=0
amdvi 0x313 0xabcdef00 read 0xabcdef00
amdvi 0x314 0xabcdef00 read code=2 PR=0
smmuv3 0x310 0x12345678 read 0x456789678
smmuv3 0x310 0x12345678 write 0x456789678
smmuv3 0x310 0x12346000 read type=0x10 RnW=1 S2=1 CLASS=2
smmuv3 0x310 0x12347004 read 0x45678a004
smmuv3 0x310 0x12347004 write type=0x13 RnW=0 S2=1 CLASS=2 addr=0x12347004 ipa=0x12347000
smmuv3 0x310 0x12348000 write type=0x12
smmuv3 0x310 0x12349000 read type=0x10
smmuv3 0x310 0x1234a000 read type=0x13
smmuv3 0x310 0x1234a000 write 0x45678d000
smmuv3 0x310 0x12401234 write 0x440001234
smmuv3 0x310 0x40000abc read 0x480000abc
smmuv3 0x310 0x8000000000 read type=0x10
smmuv3 0x310 0x1000000000000 read type=0x11 S2=0
smmuv3 0x311 0x12345678 read type=4
smmuv3 0x10000 0x12345678 read type=2
"""


def _case(row: str) -> Case:
    architecture, source, at, access, *gives = row.split()
    fields = {name: int(value, 0) for name, value in (each.split("=") for each in gives if "=" in each)}
    return Case(
        architecture,
        IMAGES[architecture],
        int(source, 0),
        int(at, 0),
        access == "write",
        fields or int(gives[0], 0),
    )


CASES = [_case(row) for row in TABLE.split("\n") if row]


def reference_cases() -> Iterator[Case]:
    """Yield the reference's accesses, with its tables."""
    for image in reference()["walks"]:
        words = {int(where, 0): int(word, 0) for where, word in image["mem"].items()}
        words |= STREAM if image["arch"] == "smmuv3" else {}
        for case in image["cases"]:
            source = (
                int(case.get("devid", "0x310"), 0)
                if "bus" not in case
                else case["bus"] << 8 | int(case["devfn"], 0)
            )
            at, write = int(case.get("iova", case.get("ipa")), 0), case["access"] == "write"
            yield Case(image["arch"], words, source, at, write, _gives(image["arch"], case))


def _gives(architecture: str, case: dict[str, str]) -> int | Values:
    if case["result"] != "fault":
        return int(case["pa"], 0)
    if architecture == "vtd":
        return {"FR": int(case["reason"], 0)}
    if architecture == "smmuv3":
        return {"type": int(case["event"], 0)}
    return {"code": NAMES[case["event"]], **dict(case["flags"])}  # type: ignore[arg-type]


def memory_with(words: dict[int, int]) -> Image:
    """Return a memory of 64 TiB that has these 64-bit words."""
    made = Image(range(1 << 46))
    for where, word in words.items():
        made.write(where, word.to_bytes(8, "little"))
    return made


def outcome(reach: Callable[[], Translation], at: int) -> int | Values | None:
    """Return the address that *at* is translated to, or the fields of the fault's record."""
    try:
        return reach().address(at)
    except Fault as fault:
        return fault.record
