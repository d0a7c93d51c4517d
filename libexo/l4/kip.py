"""The kernel interface page, read under the names of X.2: the kernel, and its machine.

A function that is given a page, a `libexo.kip.Kip`, reads that one; without, or with None, it reads the page
of the calling program's system. It returns `None` where the C function returns a null pointer.
"""

from typing import NamedTuple

from kernel.abi.kip import API_FLAGS, API_VERSION, KERNEL, MAGIC, MEMORY, X2, MemoryType
from libexo.kip import Kip

__all__ = [
    "APIFLAG_64BIT",
    "APIFLAG_LE",
    "APIVERSION_X2",
    "MAGIC",
    "ApiFlags",
    "ApiVersion",
    "ArchitectureSpecificMemoryType",
    "BootInfo",
    "BootLoaderSpecificMemoryType",
    "ConventionalMemoryType",
    "DedicatedMemoryType",
    "Feature",
    "GetKernelInterface",
    "HasFeature",
    "IsMemoryDescVirtual",
    "KernelGenDate",
    "KernelId",
    "KernelInterface",
    "KernelSupplier",
    "KernelVersion",
    "KernelVersionString",
    "KipAreaSize",
    "KipAreaSizeLog2",
    "MemoryDesc",
    "MemoryDescHigh",
    "MemoryDescLow",
    "MemoryDescType",
    "MemoryDescriptor",
    "NumMemoryDescriptors",
    "NumProcessors",
    "PageRights",
    "PageSizeMask",
    "ProcDesc",
    "ProcDescExternalFreq",
    "ProcDescInternalFreq",
    "ProcessorDescriptor",
    "ReadPrecision",
    "ReservedMemoryType",
    "SchedulePrecision",
    "SharedMemoryType",
    "ThreadIdBits",
    "ThreadIdSystemBase",
    "ThreadIdUserBase",
    "UndefinedMemoryType",
    "UtcbAlignmentLog2",
    "UtcbAreaSize",
    "UtcbAreaSizeLog2",
    "UtcbSize",
]

APIVERSION_X2 = API_VERSION >> 24
APIFLAG_LE = API_FLAGS & 3
APIFLAG_64BIT = API_FLAGS >> 2
UndefinedMemoryType = int(MemoryType.UNDEFINED)
ConventionalMemoryType = int(MemoryType.CONVENTIONAL)
ReservedMemoryType = int(MemoryType.RESERVED)
DedicatedMemoryType = int(MemoryType.DEDICATED)
SharedMemoryType = int(MemoryType.SHARED)
BootLoaderSpecificMemoryType = int(MemoryType.BOOT_LOADER)
ArchitectureSpecificMemoryType = int(MemoryType.ARCHITECTURE)

_KILO_MASK = (1 << 10) - 1
_VIRTUAL = 1 << 9
_FIRST_YEAR = 2000


class MemoryDescriptor(NamedTuple):
    """The two words of a memory descriptor."""

    low: int
    high: int


class ProcessorDescriptor(NamedTuple):
    """The frequencies of a processor in kHz; 0: the host does not tell."""

    external: int
    internal: int


def page_of(kip: Kip | None) -> Kip:
    """Return *kip*, or the page of the calling program's system."""
    if kip is not None:
        return kip
    from libexo.environment import attached  # noqa: PLC0415 - it is above IPC, which uses these formats

    return attached().kip


def _field(kip: Kip | None, word: X2, low: int, bits: int) -> int:
    """Return *bits* bits of a word of the page, from bit *low* on."""
    return page_of(kip).word(word * 8) >> low & ((1 << bits) - 1)


# ---------------------------------------------------------------------------------------------- the kernel


def KernelInterface() -> tuple[int, int, int, Kip]:
    """Return API version, API flags, kernel id, and the page itself."""
    kip = page_of(None)
    return ApiVersion(kip), ApiFlags(kip), KernelId(kip), kip


def GetKernelInterface() -> Kip:
    """Return the kernel interface page."""
    return page_of(None)


def ApiVersion(kip: Kip | None = None) -> int:
    """Return the word: version in bits 31..24 (0x84: X.2), subversion in 23..16."""
    return page_of(kip).word(X2.API_VERSION * 8)


def ApiFlags(kip: Kip | None = None) -> int:
    """Return the word: byte order in bits 1..0 (0: little endian), word size in 3..2 (1: 64 bits)."""
    return page_of(kip).word(X2.API_FLAGS * 8)


def _description(kip: Kip | None, word: int) -> int:
    page = page_of(kip)
    return page.word(page.word(X2.KERN_DESC * 8) + word * 8)


def KernelId(kip: Kip | None = None) -> int:
    """Return the word: id in bits 31..24, subid in 23..16."""
    return _description(kip, 0)


def KernelGenDate(kip: Kip | None = None) -> tuple[int, int, int]:
    """Return year, month and day of the kernel's interface."""
    date = _description(kip, 1)
    return (date >> 9 & 0x7F) + _FIRST_YEAR, date >> 5 & 0xF, date & 0x1F


def KernelVersion(kip: Kip | None = None) -> int:
    """Return the word: version in bits 31..24, subversion in 23..16, subsubversion in 15..0."""
    return _description(kip, 2)


def KernelSupplier(kip: Kip | None = None) -> int:
    """Return the four characters of the supplier as a word, the first in its low byte."""
    return _description(kip, 3)


def _strings(page: Kip) -> list[str]:
    """Return the version, then the features."""
    at = page.word(X2.KERN_DESC * 8) + KERNEL.size
    found: list[str] = []
    while text := page.text(at):
        found.append(text)
        at += len(text.encode()) + 1
    return found


def KernelVersionString(kip: Kip | None = None) -> str:
    """Return the version in words."""
    return _strings(page_of(kip))[0]


def Feature(kip: Kip | None, num: int) -> str | None:
    """Return the name of feature *num*, counted from 0; None: after the last."""
    features = _strings(page_of(kip))[1:]
    return features[num] if 0 <= num < len(features) else None


def HasFeature(feature_name: str) -> bool:
    """Say whether the kernel has the feature; Pistachio's own function says yes to nearly every name."""
    return feature_name in _strings(page_of(None))[1:]


# --------------------------------------------------------------------------------------------- the machine


def NumProcessors(kip: Kip | None = None) -> int:
    """Return the number of processors that run plans."""
    return _field(kip, X2.PROCESSOR_INFO, 0, 16) + 1


def ProcDesc(kip: Kip | None, cpu: int) -> ProcessorDescriptor | None:
    """Return the descriptor of processor *cpu*; None: there is none."""
    page = page_of(kip)
    if not 0 <= cpu < NumProcessors(page):
        return None
    at = page.word(X2.PROC_DESC * 8) + (cpu << _field(page, X2.PROCESSOR_INFO, 60, 4))
    return ProcessorDescriptor(page.word(at), page.word(at + 8))


def ProcDescExternalFreq(p: ProcessorDescriptor) -> int:
    """Return the external frequency in kHz; 0: unknown."""
    return p.external


def ProcDescInternalFreq(p: ProcessorDescriptor) -> int:
    """Return the internal frequency in kHz; 0: unknown."""
    return p.internal


def NumMemoryDescriptors(kip: Kip | None = None) -> int:
    """Return the number of memory descriptors."""
    return _field(kip, X2.MEMORY_INFO, 0, 32)


def MemoryDesc(kip: Kip | None, num: int) -> MemoryDescriptor | None:
    """Return descriptor *num*, counted from 0; None: after the last. Later ones override earlier ones."""
    page = page_of(kip)
    if not 0 <= num < NumMemoryDescriptors(page):
        return None
    at = _field(page, X2.MEMORY_INFO, 32, 32) + num * MEMORY.size
    return MemoryDescriptor(page.word(at), page.word(at + 8))


def IsMemoryDescVirtual(m: MemoryDescriptor) -> bool:
    """Say whether the range is of addresses in a space, rather than of RAM."""
    return bool(m.low & _VIRTUAL)


def MemoryDescType(m: MemoryDescriptor) -> int:
    """Return the type; of the boot loader's and the architecture's own, with 16 times the subtype added."""
    kind, subtype = m.low & 0xF, m.low >> 4 & 0xF
    return kind + (subtype << 4) if kind >= BootLoaderSpecificMemoryType else kind


def MemoryDescLow(m: MemoryDescriptor) -> int:
    """Return the first byte's address."""
    return m.low & ~_KILO_MASK


def MemoryDescHigh(m: MemoryDescriptor) -> int:
    """Return the last byte's address."""
    return m.high | _KILO_MASK


def PageSizeMask(kip: Kip | None = None) -> int:
    """Return the sizes of pages, a bit for each power of two: 4 KiB only."""
    return page_of(kip).word(X2.PAGE_INFO * 8) & ~_KILO_MASK


def PageRights(kip: Kip | None = None) -> int:
    """Return the rights that are told apart: r 4 and w 2. What can be read can be executed."""
    return _field(kip, X2.PAGE_INFO, 0, 3)


# ------------------------------------------------------------------------------------------- threads and time


def ThreadIdBits(kip: Kip | None = None) -> int:
    """Return the number of bits of a thread number."""
    return _field(kip, X2.THREAD_INFO, 0, 8)


def ThreadIdSystemBase(kip: Kip | None = None) -> int:
    """Return the first thread number that is no interrupt's."""
    return _field(kip, X2.THREAD_INFO, 8, 12)


def ThreadIdUserBase(kip: Kip | None = None) -> int:
    """Return the first thread number that is not the kernel's: sigma0's."""
    return _field(kip, X2.THREAD_INFO, 20, 12)


def ReadPrecision(kip: Kip | None = None) -> int:
    """Return the least difference between two readings of the clock, in microseconds."""
    return _field(kip, X2.CLOCK_INFO, 0, 16)


def SchedulePrecision(kip: Kip | None = None) -> int:
    """Return the delay with which a thread may be woken on an idle host, in microseconds."""
    return _field(kip, X2.CLOCK_INFO, 16, 16)


def UtcbAreaSizeLog2(kip: Kip | None = None) -> int:
    """Return log2 of the bytes of the smallest UTCB area."""
    return _field(kip, X2.UTCB_INFO, 16, 6)


def UtcbAreaSize(kip: Kip | None = None) -> int:
    """Return the bytes of the smallest UTCB area."""
    return 1 << UtcbAreaSizeLog2(kip)


def UtcbAlignmentLog2(kip: Kip | None = None) -> int:
    """Return log2 of the alignment of a UTCB."""
    return _field(kip, X2.UTCB_INFO, 10, 6)


def UtcbSize(kip: Kip | None = None) -> int:
    """Return the bytes of a UTCB."""
    return _field(kip, X2.UTCB_INFO, 0, 10) << UtcbAlignmentLog2(kip)


def KipAreaSizeLog2(kip: Kip | None = None) -> int:
    """Return log2 of the bytes of the smallest KIP area."""
    return _field(kip, X2.KIP_AREA_INFO, 0, 6)


def KipAreaSize(kip: Kip | None = None) -> int:
    """Return the bytes of the smallest KIP area."""
    return 1 << KipAreaSizeLog2(kip)


def BootInfo(kip: Kip | None = None) -> int:
    """Return the place of the boot records, in bytes from the page's start; 0: none. See `libexo.l4.boot`."""
    return page_of(kip).word(X2.BOOT_INFO * 8)
