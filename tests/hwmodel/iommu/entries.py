"""Entries and the bytes they are, after the manuals; and those of the reference data beside the repository.

A row is architecture, structure (``-`` for a queue entry), length in bytes, the bytes in hexadecimal without the
zeros at the end, and after a bar what they say. A line that begins with two blanks belongs to the row before.
"""

import json
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from hwmodel.iommu import amdvi, smmu, vtd
from hwmodel.iommu.layout import Inputs

ARCHITECTURES = {"vtd": vtd, "amdvi": amdvi, "smmu": smmu, "smmuv3": smmu}
ERRORS = {vtd: "IQE", amdvi: "ILLEGAL_COMMAND_ERROR", smmu: "CERROR_ILL"}
REFERENCE = Path("shared", "reference", "iommu-vectors.json")


class Entry(NamedTuple):
    """An entry: its fields, as text, and its bytes."""

    name: str
    architecture: ModuleType
    structure: str | None
    data: bytes
    inputs: Inputs


LEGAL = """
vtd - 16 210042 | type=1 granularity=2 did=0x42 sid=0x0 fm=0
vtd - 16 31004200100303 | type=1 granularity=3 did=0x42 sid=0x310 fm=3
vtd - 16 d2 | type=2 granularity=1 did=0x0 dw=1 dr=1 addr=0x0 am=0 ih=0
vtd - 16 f20042000000000000503412 | type=2 granularity=3 did=0x42 dw=1 dr=1 addr=0x12345000 am=0 ih=0
vtd - 16 32000100000000004400ffff007f | type=2 granularity=3 did=0x1 dw=0 dr=0 addr=0x7f00ffff0000 am=4 ih=1
vtd - 16 f20042000000000002403412 | type=2 granularity=3 did=0x42 dw=1 dr=1 addr=0x12344000 am=2 ih=0
vtd - 16 f2004200000000000e | type=2 granularity=3 did=0x42 dw=1 dr=1 addr=0x0 am=14 ih=0
vtd - 16 030010000803000001700080 | type=3 sid=0x308 max_pending=16 pfsid=0x0 addr=0x80000000 size_order=4
vtd - 16 038000000803000301f0ffffffffff7f | type=3 sid=0x308 max_pending=0 pfsid=0x308 addr=0x0 size_order=52
vtd - 16 140000182001 | type=4 index_selective=1 im=3 iidx=0x120
vtd - 16 25000000020000000410007f | type=5 SW=1 IF=0 FN=0 PD=0 status_data=0x2 status_addr=0x7f001004
vtd - 16 15 | type=5 SW=0 IF=1 FN=0 PD=0 status_data=0x0 status_addr=0x0
vtd - 16 650000000df0feca8067452301 | type=5 SW=1 IF=0 FN=1 PD=0 status_data=0xcafef00d status_addr=0x123456780
vtd - 32 a5000000020000000810007f | type=5 SW=1 IF=0 FN=0 PD=1 status_data=0x2 status_addr=0x7f001008
vtd - 32 360010004523010001603412ff7f | type=6 granularity=3 did=0x10 pasid=0x12345 addr=0x7fff12346000 am=1 ih=0
vtd - 32 17001000452301 | type=7 granularity=1 did=0x10 pasid=0x12345
vtd - 32 26003412debc0a00521032547698badc |
  type=6 granularity=2 did=0x1234 pasid=0xabcde addr=0xdcba987654321000 am=18 ih=1
vtd context-entry 16 01200010000000000242 | P=1 TT=0 AW=2 DID=0x42 SLPTPTR=0x10002000
vtd fault-record 16 00503412000000001003000005000080 | SID=0x310 FR=5 T=0 FI=0x12345000
vtd fault-record 16 005034120000000010030000060000c0 | SID=0x310 FR=6 T=1 FI=0x12345000
amdvi - 16 0120007f000000108877665544332211 | op=0x1 s=1 i=0 f=0 store_addr=0x7f002000 store_data=0x1122334455667788
amdvi - 16 0200000000000010 | op=0x1 s=0 i=1 f=0 store_addr=0x0 store_data=0x0
amdvi - 16 1000000000000020 | op=0x2 devid=0x10
amdvi - 16 000000001100003002503412 | op=0x3 domid=0x11 address=0x12345000 size=0x1000 pasid=0x0 gn=0 pde=1
amdvi - 16 000000001100003003f00f40 | op=0x3 domid=0x11 address=0x40000000 size=0x200000 pasid=0x0 gn=0 pde=1
amdvi - 16 000000001100003003503412 | op=0x3 domid=0x11 address=0x12345000 size=0x3000 pasid=0x0 gn=0 pde=1
amdvi - 16 050000001100003006100000007f | op=0x3 domid=0x11 address=0x7f0000001000 size=0x1000 pasid=0x5 gn=1 pde=1
amdvi - 16 100300201003004000503412 |
  op=0x4 devid=0x310 queue_id=0x310 maxpend=32 address=0x12345000 size=0x1000 pasid=0x0 gn=0 type=0
amdvi - 16 1003ab201003cd4004503412 |
  op=0x4 devid=0x310 queue_id=0x310 maxpend=32 address=0x12345000 size=0x1000 pasid=0xabcd gn=1 type=0
amdvi - 16 100300040000006000503412 | op=0x6 devid=0x310 pfcount=4 address=0x12345000
amdvi - 16 100300000500007004000000ab01 | op=0x7 devid=0x310 pasid=0x5 tag=0x1ab status=0
amdvi - 16 100300201003004001503412 |
  op=0x4 devid=0x310 queue_id=0x310 maxpend=32 address=0x12345000 size=0x3000 pasid=0x0 gn=0 type=0
amdvi device-table-entry 32 031800200000006011 | V=1 TV=1 mode=4 root=0x20001000 IR=1 IW=1 domid=0x11
amdvi device-table-entry 32 0300000000000060 | mode=0
amdvi device-table-entry 32 03 | mode=0 IR=0 IW=0
amdvi event 16 000000000000005040000120 | code=5 address=0x20010040
smmu - 16 030000001003000001 | op=0x3 sid=0x310 leaf=1
smmu - 16 04000000000000001f | op=0x4 range=31
smmu - 16 055000001003000001 | op=0x5 sid=0x310 ssid=5 leaf=1
smmu - 16 060000001003 | op=0x6 sid=0x310
smmu - 16 120000000000420001503412 | op=0x12 asid=0x42 addr=0x12345000 leaf=1
smmu - 16 124001000000420001073412 | op=0x12 asid=0x42 vmid=0x0 addr=0x12340000 scale=0 num=20 ttl=3 tg=1 leaf=1
smmu - 16 120050000000420001173412 | op=0x12 asid=0x42 vmid=0x0 addr=0x12341000 scale=5 num=0 ttl=3 tg=1 leaf=1
smmu - 16 130000000000000001503412 | op=0x13 addr=0x12345000
smmu - 16 2800000007 | op=0x28 vmid=7
smmu - 16 2a0040000700000001070080 | op=0x2a asid=0x0 vmid=0x7 addr=0x80000000 scale=4 num=0 ttl=3 tg=1 leaf=1
smmu - 16 4620c00f | op=0x46 cs=2 msh=3 msiattr=15
smmu - 16 46100001efbeadde00010030 | op=0x46 cs=1 msiaddr=0x30000100 msidata=0xdeadbeef
smmu - 16 400000001003000034 | op=0x40 sid=0x310 size=52
smmu - 16 40580000100300000280 | op=0x40 sid=0x310 ssid=5 ssv=1 size=2 addr=0x8000
smmu stream-table-entry 64 0d0000000000000000000000001000000700000059354d0400000320 |
  vmid=7 t0sz=25 sl0=1 tg=0 ps=5 s2ttb=0x20030000
smmu event 32 13000000100300000000000080020000785634120000000000503412 |
  type=0x13 sid=0x310 RnW=0 S2=1 CLASS=2 addr=0x12345678 ipa=0x12345000
smmu event 32 040000001003 | type=0x4 sid=0x310
"""

MALFORMED = """
vtd - 16 f20142000000000000503412 | type=2 reserved_bit=8
vtd - 16 32004200000000001300 | type=2 granularity=3 am=19
vtd - 32 2600100045230100 | type=6 granularity=2
vtd - 16 25020000020000000410007f | type=0x15
vtd - 16 000000000000000000000000 | type=0
vtd - 32 f2004200000000000050341200000000000000000001 | type=2 above=128
amdvi - 16 1000010000000020 | op=2 reserved_bit=16
amdvi - 16 0000000000000090 | op=9
smmu - 16 120000000000420001543412 | op=0x12 tg=1
smmu - 16 ff00 | op=0xff
smmu - 16 4630 | op=0x46 cs=3
"""


def _entry(row: str) -> Entry:
    left, right = row.split("|")
    architecture, structure, size, digits = left.split()
    return Entry(
        f"{architecture}-{digits}",
        ARCHITECTURES[architecture],
        None if structure == "-" else structure,
        bytes.fromhex(digits).ljust(int(size), b"\0"),
        dict(field.split("=") for field in right.split()),
    )


def _entries(table: str) -> list[Entry]:
    return [_entry(row) for row in table.replace("\n  ", " ").split("\n") if row]


ENTRIES = _entries(LEGAL)
REFUSED = _entries(MALFORMED)
"""Which no unit in legacy mode takes; the fields say what is wrong."""


def reference() -> dict[str, Any]:
    """Return the reference data, empty lists where there is none: it is not part of the repository."""
    for folder in Path(__file__).resolve().parents:
        if (folder / REFERENCE).exists():
            found: dict[str, Any] = json.loads((folder / REFERENCE).read_text(encoding="utf-8"))
            return found
    return {"vectors": [], "walks": [], "sequences": []}


def reference_entries(*, legal: bool) -> list[Entry]:
    """Return the reference's queue entries: those that are legal, or those that are not."""
    return [
        Entry(each["id"], ARCHITECTURES[each["arch"]], None, bytes.fromhex(each["bytes_le"]), each["inputs"])
        for each in reference()["vectors"]
        if each["kind"] == "queue-entry" and (each["expect"] == "ok") == legal
    ]
