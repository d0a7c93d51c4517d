"""AMD-Vi's way from a device's address to memory: device table, and page tables of 1 to 6 levels.

Source: reference sheet sections 2.4 to 2.6; where it names two behaviours, its suggestion.
"""

from dataclasses import dataclass

from hwmodel.iommu.amdvi.formats import (
    DEV_TAB_HARDWARE_ERROR,
    ILLEGAL_DEV_TABLE_ENTRY,
    IO_PAGE_FAULT,
    PAGE_TAB_HARDWARE_ERROR,
    decode,
)
from hwmodel.iommu.layout import MalformedEntry, sized_block
from hwmodel.iommu.memory import BusError, Memory
from hwmodel.iommu.pagetable import Form
from hwmodel.iommu.translation import Fault, Translation, entry_at, level_shift, untranslated

PRESENT, FORCE_COHERENT = 1, 1 << 60
READ, WRITE = 1 << 61, 1 << 62
ADDRESS = 0x000F_FFFF_FFFF_F000
TABLE_ADDRESS, TABLE_SIZE = ADDRESS, 0x1FF
"""Of the device table's base register: the size is one less than the number of 4 KiB units."""
ENTRY_BYTES, UNIT_ENTRIES = 32, 128
LEVELS = 6
CODED = 7
"""The next level of a leaf whose size is in its address."""
ADDRESS_BITS = 64


@dataclass(frozen=True)
class Device:
    """What is known of a device: its domain, the levels (0: no walk) and root of its table, and its rights."""

    domain: int
    levels: int
    root: int
    read: bool
    write: bool


def device_of(memory: Memory, base: int, source: int, *, write: bool) -> Device | None:
    """Return what the table of base register *base* has of *source*; None: it passes unchecked. Raises Fault."""
    if source >= ((base & TABLE_SIZE) + 1) * UNIT_ENTRIES:
        raise Fault({"code": ILLEGAL_DEV_TABLE_ENTRY, "RW": write})
    try:
        data = memory.read((base & TABLE_ADDRESS) + source * ENTRY_BYTES, ENTRY_BYTES)
    except BusError:
        raise Fault({"code": DEV_TAB_HARDWARE_ERROR, "RW": write}) from None
    if not data[0] & 1:
        return None
    try:
        entry = decode(data, "device-table-entry")
    except MalformedEntry as refused:
        raise Fault({"code": ILLEGAL_DEV_TABLE_ENTRY, "RZ": 1, "RW": write}) from refused
    if not entry["TV"]:
        raise Fault({"code": IO_PAGE_FAULT, "domid": entry["domid"], "RW": write})
    if entry["mode"] > LEVELS:
        raise Fault({"code": ILLEGAL_DEV_TABLE_ENTRY, "RW": write})
    return Device(entry["domid"], entry["mode"], entry["root"], bool(entry["IR"]), bool(entry["IW"]))


def walk(memory: Memory, device: Device, at: int, *, write: bool) -> Translation:
    """Return the translation of the block that *at* is in. Raises Fault if there is none for this access."""

    def refused(**flags: int) -> Fault:
        return Fault({"code": IO_PAGE_FAULT, "domid": device.domain, "RW": write, **flags})

    level, table, rights = device.levels, device.root, READ * device.read | WRITE * device.write
    if level == 0:
        if not rights & (WRITE if write else READ):
            raise refused()
        return untranslated(at)
    if at >> level_shift(level + 1):
        raise refused()
    while True:
        entry = entry_at(memory, table, at >> level_shift(level) & 0x1FF)
        if entry is None:
            raise Fault({"code": PAGE_TAB_HARDWARE_ERROR, "domid": device.domain, "RW": write})
        if not entry & PRESENT:
            raise refused()
        rights &= entry
        below = entry >> 9 & 7
        if below in (0, CODED):
            break
        if below >= level:
            raise refused(PR=1, RZ=1)
        if at >> level_shift(below + 1) & (1 << level_shift(level) - level_shift(below + 1)) - 1:
            raise refused()
        level, table = below, entry & ADDRESS
    least, most = 1 << level_shift(level), 1 << level_shift(level + 1)
    target, size = (entry & ADDRESS & -least, least) if below == 0 else sized_block(entry & ADDRESS)
    if not least <= size < most:
        raise refused(PR=1, RZ=1)
    if not rights & (WRITE if write else READ):
        raise refused(PR=1, PE=1)
    return Translation(at & -size, size, target, bool(rights & READ), bool(rights & WRITE))


def form(levels: int) -> Form:
    """Return how page tables are written: with blocks of 1 GiB, 2 MiB and 4 KiB."""
    return Form(
        levels,
        tuple(level for level in (3, 2, 1) if level <= levels),
        lambda level, table: table | PRESENT | level - 1 << 9 | READ | WRITE,
        lambda level, target, read, write: target | PRESENT | FORCE_COHERENT | READ * read | WRITE * write,
        lambda level, entry: entry & ADDRESS if entry >> 9 & 7 else None,
    )
