"""SMMUv3's way from a device's address to memory, by stage 2 alone: stream table and page tables.

The granule is 4 KiB. Source: IHI 0070 section 5.2; reference sheet sections 3.4 to 3.6. The architecture counts
levels the other way: its level 3 has the pages, which here are level 1.
"""

from dataclasses import dataclass

from hwmodel.iommu.layout import MalformedEntry, Values
from hwmodel.iommu.memory import BusError, Memory
from hwmodel.iommu.pagetable import Form
from hwmodel.iommu.smmu.formats import C_BAD_STE, decode
from hwmodel.iommu.translation import Fault, Translation, entry_at, level_shift

C_BAD_STREAMID, F_STE_FETCH, F_WALK_EABT = 0x02, 0x03, 0x0B
F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION = 0x10, 0x11, 0x12, 0x13
"""Types of events."""
INPUT = 2
"""The class of a fault of what the device asked for."""

BYPASS, STAGE_2 = 4, 6
"""Of an entry's config; below bypass it is abort."""
VALID, TABLE, READ, WRITE, ACCESSED = 1, 2, 1 << 6, 1 << 7, 1 << 10
INNER_SHAREABLE, WRITE_BACK = 3 << 8, 0xF << 2
ADDRESS = 0x0000_FFFF_FFFF_F000
ENTRY_BYTES = 64
OUTPUT_BITS = (32, 36, 40, 42, 44, 48)
"""By PS; what is larger counts as the last."""
LARGEST_SL0 = 2
OUTPUT_LIMIT = 48
"""OAS: the unit has no addresses of more bits."""
BLOCK_LEVELS = (3, 2)
"""Levels with blocks, of 1 GiB and 2 MiB; level 1 has pages."""
CONCATENATED_BITS = 4
"""At most 16 tables lie side by side at the root."""


@dataclass(frozen=True)
class Stream:
    """What is known of a device: its VMID, the levels and root of its table, and how it is walked."""

    domain: int
    levels: int
    table: int
    input_bits: int
    output_bits: int
    access_flag: bool
    """Whether an access through an entry without its flag is refused."""
    recorded: bool


def stream_of(memory: Memory, base: int, logarithm: int, source: int) -> Stream | None:
    """Return what the linear stream table has of *source*; None: its addresses are memory's. Raises Fault."""
    if source >> logarithm:
        raise Fault({"type": C_BAD_STREAMID})
    try:
        data = memory.read(base + source * ENTRY_BYTES, ENTRY_BYTES)
    except BusError:
        raise Fault({"type": F_STE_FETCH}) from None
    try:
        entry = decode(data, "stream-table-entry")
    except MalformedEntry as refused:
        raise Fault({"type": C_BAD_STE}) from refused
    if not entry["V"]:
        raise Fault({"type": C_BAD_STE})
    if entry["config"] < BYPASS:
        raise Fault(None)
    return None if entry["config"] == BYPASS else _stage_2(entry)


def _stage_2(entry: Values) -> Stream:
    levels, bits = entry["sl0"] + 2, 64 - entry["t0sz"]
    output = OUTPUT_BITS[min(entry["ps"], len(OUTPUT_BITS) - 1)]
    unsupported = entry["config"] != STAGE_2 or entry["tg"] or not entry["aa64"] or entry["sl0"] > LARGEST_SL0
    root_bits = level_shift(levels)
    if (
        unsupported
        or not root_bits < bits <= level_shift(levels + 1) + CONCATENATED_BITS
        or entry["s2ttb"] >> output
    ):
        raise Fault({"type": C_BAD_STE})
    return Stream(entry["vmid"], levels, entry["s2ttb"], bits, output, not entry["affd"], bool(entry["s2r"]))


def walk(memory: Memory, stream: Stream, at: int, *, write: bool) -> Translation:
    """Return the translation of the block that *at* is in. Raises Fault if there is none for this access."""

    def refused(kind: int) -> Fault:
        if not stream.recorded:
            return Fault(None)
        page = at & 0x000F_FFFF_FFFF_F000
        return Fault({"type": kind, "RnW": not write, "S2": 1, "CLASS": INPUT, "addr": at, "ipa": page})

    if at >> OUTPUT_LIMIT:
        raise Fault(
            {"type": F_ADDR_SIZE, "RnW": not write, "CLASS": INPUT, "addr": at} if stream.recorded else None
        )
    if at >> stream.input_bits:
        raise refused(F_TRANSLATION)
    level, table = stream.levels, stream.table
    index = at >> level_shift(level)
    while True:
        entry = entry_at(memory, table, index)
        if entry is None:
            raise refused(F_WALK_EABT)
        if not entry & VALID or not (entry & TABLE or level in BLOCK_LEVELS):
            raise refused(F_TRANSLATION)
        if level == 1 or not entry & TABLE:
            break
        level, table = level - 1, entry & ADDRESS
        index = at >> level_shift(level) & 0x1FF
    if stream.access_flag and not entry & ACCESSED:
        raise refused(F_ACCESS)
    if not entry & (WRITE if write else READ):
        raise refused(F_PERMISSION)
    size = 1 << level_shift(level)
    target = entry & ADDRESS & -size
    if target >> stream.output_bits:
        raise refused(F_ADDR_SIZE)
    return Translation(at & -size, size, target, bool(entry & READ), bool(entry & WRITE))


def form(levels: int, roots: int = 1) -> Form:
    """Return how page tables are written, with *roots* tables side by side at the root."""
    common = VALID | ACCESSED | INNER_SHAREABLE | WRITE_BACK
    return Form(
        levels,
        (*(level for level in BLOCK_LEVELS if level <= levels), 1),
        lambda level, table: table | VALID | TABLE,
        lambda level, target, read, write: (
            target | common | READ * read | WRITE * write | (TABLE if level == 1 else 0)
        ),
        lambda level, entry: entry & ADDRESS if level > 1 and entry & TABLE else None,
        roots,
    )
