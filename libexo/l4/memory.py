"""The X.2 calls on one's own memory: Unmap and MemoryControl, and the functions made of them.

The first half acts on a space and registers it is given; the second, under the X.2 names, on those of the
calling thread.

MemoryControl sets how the processor caches memory. That is up to the host, which caches everything write-back, so
only the attributes that mean this are accepted. Source: L4 X.2 reference manual, rev. 7.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kernel.abi.rights import Kind
from kernel.abi.rights import Rights as CapabilityRights
from libexo.environment import attached
from libexo.l4.format import registers
from libexo.l4.format.constants import ErrInvalidParam, ErrNoPrivilege
from libexo.l4.format.fpage import Fpage, IsNilFpage, NoAccess, Set_Rights
from libexo.l4.format.registers import LoadMR, LoadMRs, Registers, StoreMR, StoreMRs
from libexo.l4.format.words import within, word
from libexo.l4.space.space import AddressSpace, space_of

if TYPE_CHECKING:
    from libexo.environment import Environment

__all__ = [
    "DefaultMemory",
    "Flush",
    "FlushFpages",
    "GetStatus",
    "MemoryControl",
    "Set_PageAttribute",
    "Set_PageAttributes",
    "Unmap",
    "UnmapFpage",
    "UnmapFpages",
    "WriteBackMemory",
]

DefaultMemory = 0
"""The attribute of memory without another: here the same as write-back."""
WriteBackMemory = 1

_ACCEPTED = (DefaultMemory, WriteBackMemory)
_ATTRIBUTES = 4
_MAX_FPAGES = 64
_COUNT = _MAX_FPAGES - 1
_FLUSH = 1 << 6
_WHICH = 3
"""Bits of an fpage that select its attribute."""


def unmap(space: AddressSpace, thread: Registers, control: int) -> None:
    """Do Unmap with the fpages in MR0..k of *thread*, k in bits 5..0 of *control*; bit 6 flushes.

    Each fpage comes back with the accesses to its memory in place of the rights to revoke.
    """
    count = (control & _COUNT) + 1
    fpages = [Fpage.of(raw) for raw in thread.mr[:count]]
    thread.mr[:count] = [int(fpage) for fpage in space.unmap(fpages, flush=bool(control & _FLUSH))]


def memory_control(
    environment: "Environment", thread: Registers, control: int, attributes: Sequence[int]
) -> int:
    """Do MemoryControl with the fpages in MR0..k of *thread*, k in *control*: 1, or 0 and an ErrorCode.

    The low two bits of an fpage select one of the four *attributes*; nil fpages are skipped.
    NoPrivilege: the environment may not create environments. InvalidParam: more than 64 fpages, or an attribute
    that is neither default nor write-back.
    """
    if not privileged(environment):
        thread.error_code = ErrNoPrivilege
        return 0
    if control > _COUNT or any(
        attributes[raw & _WHICH] not in _ACCEPTED for raw in thread.mr[: control + 1] if not IsNilFpage(raw)
    ):
        thread.error_code = ErrInvalidParam
        return 0
    return 1


def privileged(environment: "Environment") -> bool:
    """Say whether *environment* is privileged, in X.2's sense: here, whether it may create environments."""
    factories = environment.sys.holdings(Kind.FACTORY).values()
    return any(each.rights & CapabilityRights.CONTROL for each in factories)


# ------------------------------------------------------------------------------------------- the calling thread's


def Unmap(control: int) -> None:
    """Take memory back: fpages in MR0..k, k in bits 5..0 of *control*; bit 6 also flushes one's own."""
    unmap(space_of(attached()), registers.current(), word(control, "control"))


def UnmapFpage(f: Fpage) -> Fpage:
    """Take the rights of *f* back from all that got it from here; return *f* with the accesses to it. Uses MR0."""
    LoadMR(0, f)
    Unmap(0)
    return Fpage.of(StoreMR(0))


def UnmapFpages(fpages: Sequence[Fpage]) -> list[Fpage]:
    """Do the same with up to 64 *fpages*. Raises ValueError. Uses MR0.. for them."""
    return _unmap_all(fpages, 0)


def Flush(f: Fpage) -> Fpage:
    """Take the rights of *f* from all that got it from here and from oneself; return *f* with its accesses."""
    LoadMR(0, f)
    Unmap(_FLUSH)
    return Fpage.of(StoreMR(0))


def FlushFpages(fpages: Sequence[Fpage]) -> list[Fpage]:
    """Do the same with up to 64 *fpages*. Raises ValueError. Uses MR0.. for them."""
    return _unmap_all(fpages, _FLUSH)


def GetStatus(f: Fpage) -> Fpage:
    """Return *f* with the accesses to it since the last time, which are then forgotten. Uses MR0."""
    return UnmapFpage(Set_Rights(f, NoAccess))


def _unmap_all(fpages: Sequence[Fpage], flags: int) -> list[Fpage]:
    count = within(len(fpages), 1, _MAX_FPAGES, "number of fpages")
    LoadMRs(0, fpages)
    Unmap(count - 1 | flags)
    return [Fpage.of(raw) for raw in StoreMRs(0, count)]


def MemoryControl(control: int, attributes: Sequence[int]) -> int:
    """Set the *attributes* of the fpages in MR0..control: 1, or 0 and an ErrorCode. Raises ValueError.

    There are four; the low two bits of an fpage select one.
    """
    within(len(attributes), _ATTRIBUTES, _ATTRIBUTES, "number of attributes")
    return memory_control(attached(), registers.current(), word(control, "control"), attributes)


def Set_PageAttribute(f: Fpage, attribute: int) -> int:
    """Set the *attribute* of one fpage: 1, or 0 and an ErrorCode. Uses MR0."""
    LoadMR(0, Set_Rights(f, NoAccess))
    return MemoryControl(0, (attribute,) * _ATTRIBUTES)


def Set_PageAttributes(fpages: Sequence[Fpage], attributes: Sequence[int]) -> int:
    """Set the attributes of up to 64 *fpages*, the low two bits of each selecting one of the four *attributes*.

    Returns 1, or 0 and an ErrorCode. Raises ValueError. Uses MR0.. for them.
    """
    count = within(len(fpages), 1, _MAX_FPAGES, "number of fpages")
    LoadMRs(0, fpages)
    return MemoryControl(count - 1, attributes)
