"""Formats as tables: which bits of an entry mean what. Packing and unpacking both follow from the table.

An entry is one integer here, bit 0 the lowest bit of its first byte in memory; bits are counted over all of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Value = int | str
"""A number, or its text as Python writes it, such as ``"0x310"``."""
Inputs = Mapping[str, Value]
Values = dict[str, int]

PAGE = 0x1000
"""Bytes of the smallest page of all three."""
ADDRESSES = 1 << 64
"""Bytes of an address space."""
ALL_BITS = 51
"""From this bit on, an AMD-Vi size code means the whole address space."""
ALL_PAGES = 52
"""The order of the whole address space, in pages."""


class MalformedEntry(ValueError):
    """An entry that hardware refuses: *error* is the architecture's name for that, *code* its number there."""

    def __init__(self, error: str, code: int, why: str) -> None:
        super().__init__(f"{error}: {why}")
        self.error = error
        self.code = code


class Violation(ValueError):
    """A value or bit that a format does not have; the architecture says what it calls that."""


class Part(Protocol):
    """Some bits of a format, and the fields that they hold."""

    @property
    def names(self) -> tuple[str, ...]:
        """The fields."""

    @property
    def mask(self) -> int:
        """The bits."""

    def pack(self, values: Values) -> int:
        """Return the bits for *values*. Raises Violation for those that do not fit."""

    def unpack(self, entry: int) -> Values:
        """Return what the bits of *entry* say."""


def _range_mask(high: int, low: int) -> int:
    return (1 << high + 1) - (1 << low)


@dataclass(frozen=True)
class Bits:
    """One field. It may lie in several *ranges* (high, low), its lowest bits in the first.

    The lowest *shift* bits of a value are not stored and must be 0. A field without *default* must be given.
    """

    name: str
    ranges: tuple[tuple[int, int], ...]
    shift: int = 0
    default: int | None = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Its name."""
        return (self.name,)

    @property
    def mask(self) -> int:
        """The bits of all ranges."""
        return sum(_range_mask(high, low) for high, low in self.ranges)

    def pack(self, values: Values) -> int:
        """Return the bits for its value. Raises Violation if it is missing, too large, or has bits not stored."""
        value = values.get(self.name, self.default)
        if value is None:
            raise Violation(f"{self.name} is missing")
        stored, lost = divmod(value, 1 << self.shift)
        if lost:
            raise Violation(f"{self.name} is {value:#x}, and must be a multiple of {1 << self.shift:#x}")
        entry = 0
        for high, low in self.ranges:
            entry |= (stored << low) & _range_mask(high, low)
            stored >>= high - low + 1
        if stored:
            raise Violation(f"{self.name} is {value:#x}, which its {self.mask.bit_count()} bits cannot hold")
        return entry

    def unpack(self, entry: int) -> Values:
        """Return its value."""
        value = at = 0
        for high, low in self.ranges:
            value |= ((entry & _range_mask(high, low)) >> low) << at
            at += high - low + 1
        return {self.name: value << self.shift}


def bits(name: str, high: int, low: int | None = None, *, shift: int = 0, default: int | None = 0) -> Bits:
    """Return the field *name* in bits *high* to *low*, or in the one bit *high*."""
    return Bits(name, ((high, high if low is None else low),), shift, default)


def split(name: str, *ranges: tuple[int, int], default: int | None = 0) -> Bits:
    """Return the field *name* in several ranges, the one of its lowest bits first."""
    return Bits(name, ranges, default=default)


@dataclass(frozen=True)
class SizedPages:
    """AMD-Vi's ``address`` and ``size`` in bytes: bits 127:76, with the size in the address if bit 64 (S) is set.

    The lowest 0 bit of the address from bit 12 up is bit z, and the size 2 to the power z+1. What is packed is the
    smallest such block that holds the range.
    """

    names: tuple[str, ...] = ("address", "size")
    mask: int = _range_mask(127, 76) | 1 << 64

    def pack(self, values: Values) -> int:
        """Return the bits for the range. Raises Violation for one that is empty, or does not begin at a page."""
        if "address" not in values:
            raise Violation("address is missing")
        first, size = values["address"], values.get("size", PAGE)
        if first % PAGE or first >= ADDRESSES or not size:
            raise Violation(f"address is {first:#x} and size {size:#x}: name a page, and at least one byte")
        last = min(first + size, ADDRESSES) - 1
        if first // PAGE == last // PAGE:
            return first << 64
        top = (first ^ last).bit_length() - 1
        code = first | (1 << top) - 1 if top <= ALL_BITS else (1 << 63) - 1
        return (code // PAGE * PAGE | 1) << 64

    def unpack(self, entry: int) -> Values:
        """Return first address and size of the block."""
        code = entry >> 64 & ~(PAGE - 1)
        if not entry >> 64 & 1:
            return {"address": code, "size": PAGE}
        return dict(zip(self.names, sized_block(code), strict=True))


def sized_block(code: int) -> tuple[int, int]:
    """Return first address and size in bytes of what an AMD-Vi address *code* with a size in it stands for."""
    pages = code // PAGE
    zero = 12 + ((pages + 1) & ~pages).bit_length() - 1
    if zero >= ALL_BITS:
        return 0, ADDRESSES
    return code >> zero + 1 << zero + 1, 2 << zero


@dataclass(frozen=True)
class OrderedPages:
    """VT-d's ``addr`` and ``size_order``, 2 to the power of which pages: bits 127:76, and bit *sized* (S)."""

    sized: int
    names: tuple[str, ...] = ("addr", "size_order")

    @property
    def mask(self) -> int:
        """The address and S."""
        return _range_mask(127, 76) | 1 << self.sized

    def pack(self, values: Values) -> int:
        """Return the bits for the block. Raises Violation for no such order, or an address inside a block."""
        address, order = values.get("addr", 0), values.get("size_order", 0)
        if order > ALL_PAGES:
            raise Violation(f"size_order is {order}: {ALL_PAGES} is everything")
        if address >= ADDRESSES or address % (PAGE << order):
            raise Violation(
                f"addr is {address:#x}, and must be a multiple of {PAGE << order:#x}, the block's size"
            )
        if not order:
            return address << 64
        return ((address | (PAGE << order - 1) - 1) // PAGE * PAGE) << 64 | 1 << self.sized

    def unpack(self, entry: int) -> Values:
        """Return address and order of the block."""
        pages = entry >> 76
        if not entry >> self.sized & 1:
            return {"addr": pages * PAGE, "size_order": 0}
        ones = ((pages + 1) & ~pages).bit_length() - 1
        order = min(ones + 1, ALL_PAGES)
        return {"addr": pages >> order << order + 12, "size_order": order}


@dataclass(frozen=True)
class Format:
    """A kind of entry: its *name* in the manual, its *size* in bytes, its parts, and a *check* of what it says.

    *error* and *code* are what its architecture calls a malformed one, where each kind has a name of its own.
    """

    name: str
    size: int
    parts: Sequence[Part]
    check: Callable[[Values], None] = lambda values: None
    error: str = ""
    code: int = 0

    @property
    def mask(self) -> int:
        """All bits that mean something; the others are reserved."""
        return sum(part.mask for part in self.parts)

    @property
    def names(self) -> frozenset[str]:
        """All fields."""
        return frozenset(name for part in self.parts for name in part.names)

    def pack(self, values: Values) -> int:
        """Return the entry. Raises Violation for a field that it does not have, or that does not fit."""
        unknown = values.keys() - self.names
        if unknown:
            raise Violation(f"{self.name} has no field {', '.join(sorted(unknown))}")
        entry = sum(part.pack(values) for part in self.parts)
        self.check(self._read(entry))
        return entry

    def unpack(self, entry: int) -> Values:
        """Return the fields of *entry*, all of them. Raises Violation if a reserved bit is set."""
        stray = entry & ~self.mask
        if stray:
            raise Violation(f"{self.name} has reserved bits set: {stray:#x}")
        values = self._read(entry)
        self.check(values)
        return values

    def malformed(self, violation: Violation) -> MalformedEntry:
        """Return what its architecture calls *violation*: by the error's name, or its own if there is none."""
        return MalformedEntry(self.error or self.name, self.code, str(violation))

    def _read(self, entry: int) -> Values:
        return {name: value for part in self.parts for name, value in part.unpack(entry).items()}


def numbers(inputs: Inputs) -> Values:
    """Return *inputs* as numbers. Raises ValueError for what is not a number of 0 or more."""
    values = {}
    for name, value in inputs.items():
        try:
            values[name] = int(value, 0) if isinstance(value, str) else int(value)
        except (TypeError, ValueError):
            raise Violation(
                f"{name} is {value!r}, and must be a number or its text, such as '0x310'"
            ) from None
        if values[name] < 0:
            raise Violation(f"{name} is {value!r}, and must not be below 0")
    return values
