"""Fpages: a naturally aligned, power-of-two piece of an address space, with rights, in one word.

bits 2..0 rights (r 4, w 2, x 1), bit 3 reserved, 9..4 log2 of the size (at least 10), 63..10 base / 1024. Two sizes
are names: 0 with everything zero is nil, 1 with base 0 is the complete address space. Size 2 means that the
word is an I/O fpage: log2 of the number of ports in bits 15..10, the first port in bits 31..16.
"""

from collections.abc import Callable
from typing import Self

from libexo.l4.format.words import WORD_BITS, WORD_MASK, within, word

__all__ = [
    "Address",
    "CompleteAddressSpace",
    "Fpage",
    "FpageAddRights",
    "FpageAddRightsTo",
    "FpageLog2",
    "FpageRemoveRights",
    "FpageRemoveRightsFrom",
    "FullyAccessible",
    "IoFpage",
    "IoFpageLog2",
    "IoFpagePort",
    "IoFpageSize",
    "IoFpageSizeLog2",
    "IsIoFpage",
    "IsNilFpage",
    "Nilpage",
    "NoAccess",
    "ReadWriteOnly",
    "Readable",
    "ReadeXecOnly",
    "Rights",
    "Set_Rights",
    "Size",
    "SizeLog2",
    "WasReferenced",
    "WasWritten",
    "WaseXecuted",
    "Writable",
    "eXecutable",
]

NoAccess = 0
eXecutable = 1
Writable = 2
Readable = 4
ReadeXecOnly = 5
ReadWriteOnly = 6
FullyAccessible = 7

_RIGHTS = 7
_SIZE_AT = 4
_SIZE_MASK = 0x3F
_COMPLETE = 1
_IO = 2
_MIN_SIZE = 10
_BASE_MASK = WORD_MASK & ~((1 << _MIN_SIZE) - 1)
_IO_SIZE_AT = 10
_IO_PORT_AT = 16
_PORT_BITS = 16


class Fpage(int):
    """An fpage: `Fpage(base, size)` makes one, without rights; `Fpage.of(word)` is the fpage *word* is.

    Any word is an fpage; one whose size field is not X.2's covers nothing: Size is 0. ``fpage + rights`` and
    ``fpage - rights`` add and remove rights, as in the C++ interface.
    """

    __slots__ = ()

    def __new__(cls, BaseAddress: int, FpageSize: int) -> Self:
        """Cover *FpageSize* bytes, rounded up to a power of two, from *BaseAddress*, rounded down to its multiple.

        Raises ValueError for less than 1024 or more than 2**64 bytes.
        """
        size = within(FpageSize, 1 << _MIN_SIZE, 1 << WORD_BITS, "size of an fpage")
        return cls.of(_encode(BaseAddress, (size - 1).bit_length()))

    @classmethod
    def of(cls, raw: int) -> Self:
        """Return the fpage of word *raw*. Raises ValueError when it is not a word."""
        return super().__new__(cls, word(raw, "fpage"))

    def __reduce__(self) -> tuple[Callable[[int], "Fpage"], tuple[int]]:
        """Be copied from the word."""
        return Fpage.of, (int(self),)

    @property
    def s(self) -> int:
        """The size field, bits 9..4."""
        return self >> _SIZE_AT & _SIZE_MASK

    def __add__(self, rwx: int) -> "Fpage":
        """Return the fpage with *rwx* added to its rights."""
        return FpageAddRights(self, rwx)

    def __sub__(self, rwx: int) -> "Fpage":
        """Return the fpage with *rwx* removed from its rights."""
        return FpageRemoveRights(self, rwx)

    def __repr__(self) -> str:
        """Show its base, its size and its rights."""
        rights = "".join(c if self & bit else "-" for c, bit in (("r", 4), ("w", 2), ("x", 1)))
        if IsNilFpage(self):
            return "<Fpage nil>"
        if IsIoFpage(self):
            return f"<Fpage ports {IoFpagePort(self):#x}+{IoFpageSize(self):#x} {rights}>"
        if self.s == _COMPLETE:
            return f"<Fpage complete {rights}>"
        return f"<Fpage {Address(self):#x}+{Size(self):#x} {rights}>"


Nilpage = Fpage.of(0)
CompleteAddressSpace = Fpage.of(_COMPLETE << _SIZE_AT)


def _encode(base: int, log2: int) -> int:
    base = word(base, "base address")
    if log2 == WORD_BITS:
        return CompleteAddressSpace
    return base >> log2 << log2 | log2 << _SIZE_AT


def FpageLog2(BaseAddress: int, FpageSize: int) -> Fpage:
    """Return the fpage of 2**FpageSize bytes from *BaseAddress*, rounded down to its multiple, without rights.

    FpageSize is 10..63; 64, and 1, which is X.2's code for it, are the complete address space. Raises
    ValueError for any other.
    """
    if FpageSize == _COMPLETE:
        return CompleteAddressSpace
    return Fpage.of(_encode(BaseAddress, within(FpageSize, _MIN_SIZE, WORD_BITS, "log2 of an fpage's size")))


def IsNilFpage(f: int) -> bool:
    """Say whether *f* is Nilpage."""
    return f == 0


def Address(f: Fpage) -> int:
    """Return the first address of *f*; bits of the base below its size do not count."""
    return f & _BASE_MASK & ~(Size(f) - 1) if f.s >= _MIN_SIZE else 0


def Size(f: Fpage) -> int:
    """Return the bytes *f* covers: 2**64 for the complete address space, 0 for nil, I/O and malformed fpages."""
    log2 = SizeLog2(f)
    return 1 << log2 if log2 else 0


def SizeLog2(f: Fpage) -> int:
    """Return log2 of the bytes *f* covers: 64 for the complete address space, 0 when it covers none.

    The headers of L4Ka::Pistachio return the field: 1, and a size of two bytes, for the complete address space.
    """
    if f.s >= _MIN_SIZE:
        return f.s
    return WORD_BITS if f.s == _COMPLETE and not f & _BASE_MASK else 0


def Rights(f: Fpage) -> int:
    """Return the rights of *f*."""
    return f & _RIGHTS


def Set_Rights(f: Fpage, AccessRights: int) -> Fpage:
    """Return *f* with *AccessRights*: assign it, fpages do not change."""
    return Fpage.of(f & ~_RIGHTS | within(AccessRights, NoAccess, FullyAccessible, "access rights"))


def FpageAddRights(f: Fpage, AccessRights: int) -> Fpage:
    """Return *f* with *AccessRights* besides its own."""
    return Fpage.of(f | within(AccessRights, NoAccess, FullyAccessible, "access rights"))


def FpageAddRightsTo(f: Fpage, AccessRights: int) -> Fpage:
    """Return *f* with *AccessRights* besides its own: assign it, fpages do not change."""
    return FpageAddRights(f, AccessRights)


def FpageRemoveRights(f: Fpage, AccessRights: int) -> Fpage:
    """Return *f* without *AccessRights*."""
    return Fpage.of(f & ~within(AccessRights, NoAccess, FullyAccessible, "access rights"))


def FpageRemoveRightsFrom(f: Fpage, AccessRights: int) -> Fpage:
    """Return *f* without *AccessRights*: assign it, fpages do not change."""
    return FpageRemoveRights(f, AccessRights)


def WasReferenced(f: Fpage) -> bool:
    """Say whether *f*, as Unmap returned it, was read from."""
    return bool(f & Readable)


def WasWritten(f: Fpage) -> bool:
    """Say whether *f*, as Unmap returned it, was written to."""
    return bool(f & Writable)


def WaseXecuted(f: Fpage) -> bool:
    """Say whether *f*, as Unmap returned it, was executed."""
    return bool(f & eXecutable)


# ------------------------------------------------------------------------------------------------------ I/O fpages


def IoFpage(BasePort: int, FpageSize: int) -> Fpage:
    """Return the I/O fpage of *FpageSize* ports, rounded up to a power of two. Raises ValueError."""
    size = within(FpageSize, 1, 1 << _PORT_BITS, "number of ports")
    return IoFpageLog2(BasePort, (size - 1).bit_length())


def IoFpageLog2(BasePort: int, FpageSize: int) -> Fpage:
    """Return the I/O fpage of 2**FpageSize ports from *BasePort*, rounded down. Raises ValueError."""
    log2 = within(FpageSize, 0, _PORT_BITS, "log2 of the number of ports")
    port = within(BasePort, 0, (1 << _PORT_BITS) - 1, "port") >> log2 << log2
    return Fpage.of(port << _IO_PORT_AT | log2 << _IO_SIZE_AT | _IO << _SIZE_AT)


def IsIoFpage(f: Fpage) -> bool:
    """Say whether *f* is an I/O fpage."""
    return f.s == _IO


def IoFpagePort(f: Fpage) -> int:
    """Return the first port of I/O fpage *f*."""
    return f >> _IO_PORT_AT & (1 << _PORT_BITS) - 1


def IoFpageSize(f: Fpage) -> int:
    """Return the number of ports of I/O fpage *f*."""
    return 1 << IoFpageSizeLog2(f)


def IoFpageSizeLog2(f: Fpage) -> int:
    """Return log2 of the number of ports of I/O fpage *f*."""
    return f >> _IO_SIZE_AT & _SIZE_MASK
