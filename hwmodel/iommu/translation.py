"""What the walk of a device's tables gives: a translation, or a fault as the architecture records it."""

from dataclasses import dataclass

from hwmodel.iommu.layout import Values
from hwmodel.iommu.memory import BusError, Memory

ENTRY = 8
"""Bytes of an entry of a page table, and of a word of what leads there."""
INDEX_BITS = 9
"""Bits of an address that one level translates."""


class Fault(Exception):
    """An access that is refused. *record* has the fields of its record, as `encode` takes them; None: no record."""

    def __init__(self, record: Values | None) -> None:
        super().__init__(
            "no record" if record is None else " ".join(f"{k}={v:#x}" for k, v in record.items())
        )
        self.record = record


@dataclass(frozen=True)
class Translation:
    """A block of *size* bytes at *first*, as a device sees it, and where it is: at *target* in memory."""

    first: int
    size: int
    target: int
    read: bool = True
    write: bool = True

    def address(self, at: int) -> int:
        """Return where the device's address *at*, which is in the block, is in memory."""
        return self.target + at - self.first


def untranslated(at: int) -> Translation:
    """Return the translation of *at*'s page to itself."""
    first = at & ~0xFFF
    return Translation(first, 0x1000, first)


def level_shift(level: int) -> int:
    """Return the lowest bit of an address that *level*, 1 for pages, translates."""
    return 12 + INDEX_BITS * (level - 1)


def entry_at(memory: Memory, table: int, index: int) -> int | None:
    """Return entry *index* of the table at *table*, None if there is no memory."""
    try:
        return int.from_bytes(memory.read(table + index * ENTRY, ENTRY), "little")
    except BusError:
        return None
