"""VT-d's way from a device's address to memory, in legacy mode: root table, context table, second-level table.

Source: reference sheet sections 1.5, 1.6 and 1.8. Rights are looked at before reserved bits, on each level.
"""

from dataclasses import dataclass
from enum import IntEnum

from hwmodel.iommu.layout import MalformedEntry, Values
from hwmodel.iommu.memory import BusError, Memory
from hwmodel.iommu.pagetable import Form
from hwmodel.iommu.translation import Fault, Translation, entry_at, level_shift, untranslated
from hwmodel.iommu.vtd.formats import decode


class Reason(IntEnum):
    """Why an access was refused: FR of the fault record."""

    ROOT_ABSENT = 1
    CONTEXT_ABSENT = 2
    CONTEXT_INVALID = 3
    ADDRESS = 4
    WRITE = 5
    READ = 6
    TABLE_ACCESS = 7
    ROOT_ACCESS = 8
    CONTEXT_ACCESS = 9
    ROOT_RESERVED = 0xA
    CONTEXT_RESERVED = 0xB
    TABLE_RESERVED = 0xC


READ, WRITE, LARGE = 1, 2, 1 << 7
SNOOP = 1 << 11
ADDRESS = 0x000F_FFFF_FFFF_F000
PASS_THROUGH = 2
LEAVES = (3, 2, 1)
"""Levels with leaves: 1 GiB, 2 MiB and 4 KiB."""
WIDTHS = {1: 3, 2: 4, 3: 5}
"""Levels of the second-level table, by a context entry's AW."""


@dataclass(frozen=True)
class Limits:
    """How far a unit's addresses reach."""

    host_bits: int = 46
    """HAW: address bits from here on are reserved."""
    widths: tuple[int, ...] = (1, 2)
    """The AW there are: CAP.SAGAW."""
    guest_bits: int = 48
    """MGAW."""


LIMITS = Limits()


@dataclass(frozen=True)
class Context:
    """What is known of a device: its domain, and where its table is (none: it is passed through)."""

    domain: int
    levels: int
    table: int | None


def _fault(reason: Reason, *, silent: bool = False) -> Fault:
    return Fault(None if silent else {"FR": reason})


def context_of(memory: Memory, root_table: int, source: int, limits: Limits = LIMITS) -> tuple[Context, bool]:
    """Return the context of device *source* (bus, device, function), and whether its faults are not recorded.

    Raises Fault.
    """
    root = _structure(
        memory, root_table + (source >> 8) * 16, "root-entry", Reason.ROOT_ACCESS, Reason.ROOT_ABSENT
    )
    entry = _structure(
        memory,
        root["CTP"] + (source & 0xFF) * 16,
        "context-entry",
        Reason.CONTEXT_ACCESS,
        Reason.CONTEXT_ABSENT,
    )
    silent = bool(entry["FPD"])
    through = entry["TT"] == PASS_THROUGH
    if (
        entry["TT"] > PASS_THROUGH
        or entry["AW"] not in limits.widths
        or (through and entry["AW"] != limits.widths[-1])
    ):
        raise _fault(Reason.CONTEXT_INVALID, silent=silent)
    return Context(entry["DID"], WIDTHS[entry["AW"]], None if through else entry["SLPTPTR"]), silent


def _structure(memory: Memory, where: int, name: str, unreadable: Reason, absent: Reason) -> Values:
    """Return the entry. What is reserved counts only if it is present; FPD counts before that."""
    try:
        data = memory.read(where, 16)
    except BusError:
        raise _fault(unreadable) from None
    silent = name == "context-entry" and bool(data[0] & 2)
    if not data[0] & 1:
        raise _fault(absent, silent=silent)
    try:
        return decode(data, name)
    except MalformedEntry as refused:
        raise _fault(Reason(refused.code), silent=silent) from refused


def walk(memory: Memory, context: Context, at: int, *, write: bool, limits: Limits = LIMITS) -> Translation:
    """Return the translation of the block that *at* is in. Raises Fault if there is none for this access."""
    if context.table is None:
        return untranslated(at)
    if at >> min(limits.guest_bits, level_shift(context.levels + 1)):
        raise _fault(Reason.ADDRESS)
    table, rights = context.table, READ | WRITE
    for level in range(context.levels, 0, -1):
        entry = entry_at(memory, table, at >> level_shift(level) & 0x1FF)
        if entry is None:
            raise _fault(Reason.TABLE_ACCESS)
        if not entry & (WRITE if write else READ):
            raise _fault(Reason.WRITE if write else Reason.READ)
        rights &= entry
        leaf = level == 1 or bool(entry & LARGE)
        if entry & _reserved(level, limits, leaf=leaf):
            raise _fault(Reason.TABLE_RESERVED)
        table = entry & ADDRESS
        if leaf:
            break
    size = 1 << level_shift(level)
    return Translation(at & -size, size, table, bool(rights & READ), bool(rights & WRITE))


def _reserved(level: int, limits: Limits, *, leaf: bool) -> int:
    """Return the bits that must be 0: snooping, which the unit has not, and addresses it has not."""
    bits = SNOOP | ADDRESS & -(1 << limits.host_bits)
    if leaf and level > 1:
        bits |= ADDRESS & (1 << level_shift(level)) - 1
    if leaf and level not in LEAVES:
        bits |= LARGE
    return bits


def form(levels: int) -> Form:
    """Return how second-level tables are written, of 3 levels or more."""
    return Form(
        levels,
        LEAVES,
        lambda level, table: table | READ | WRITE,
        lambda level, target, read, write: target | READ * read | WRITE * write | (LARGE if level > 1 else 0),
        lambda level, entry: None if level == 1 or entry & LARGE else entry & ADDRESS,
    )
