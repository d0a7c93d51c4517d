"""The boot records, read under the names of X.2: the booted modules, with their command lines.

    info = l4.BootInfo()
    record = l4.BootInfo_FirstEntry(info)
    for _ in range(l4.BootInfo_Entries(info)):
        print(l4.Module_Cmdline(record))
        record = l4.BootRec_Next(record)

A pointer in C is an offset into the kernel interface page here, of the calling program's system or of
the page that is given last. This boot loader writes module records only: there is no ELF image to decode, and
no firmware or multiboot loader below it. Functions for the other records read such a record if a page has
one, and otherwise raise ValueError that names the record's type; nobody can write to one.
"""

from typing import NoReturn

from kernel.abi.bootinfo import (
    BOOT_MAGIC,
    BOOT_VERSION,
    BootHeader,
    BootRec,
    BootRecord,
    Efi,
    Module,
    Multiboot,
    SimpleExec,
)
from libexo.kip import Kip
from libexo.l4.kip import page_of

__all__ = [
    "BOOTINFO_MAGIC",
    "BOOTINFO_VERSION",
    "BootInfo_EFITables",
    "BootInfo_Entries",
    "BootInfo_FirstEntry",
    "BootInfo_Module",
    "BootInfo_Multiboot",
    "BootInfo_SimpleExec",
    "BootInfo_Size",
    "BootInfo_Valid",
    "BootRec_Next",
    "BootRec_Type",
    "EFI_MemdescSize",
    "EFI_MemdescVersion",
    "EFI_Memmap",
    "EFI_MemmapSize",
    "EFI_Systab",
    "MBI_Address",
    "Module_Cmdline",
    "Module_Size",
    "Module_Start",
    "SimpleExec_BssPstart",
    "SimpleExec_BssSize",
    "SimpleExec_BssVstart",
    "SimpleExec_Cmdline",
    "SimpleExec_DataPstart",
    "SimpleExec_DataSize",
    "SimpleExec_DataVstart",
    "SimpleExec_Flags",
    "SimpleExec_InitialIP",
    "SimpleExec_Label",
    "SimpleExec_Set_Flags",
    "SimpleExec_Set_Label",
    "SimpleExec_TextPstart",
    "SimpleExec_TextSize",
    "SimpleExec_TextVstart",
]

BOOTINFO_MAGIC = BOOT_MAGIC
BOOTINFO_VERSION = BOOT_VERSION
BootInfo_Module = int(BootRecord.MODULE)
BootInfo_SimpleExec = int(BootRecord.SIMPLE_EXEC)
BootInfo_EFITables = int(BootRecord.EFI)
BootInfo_Multiboot = int(BootRecord.MULTIBOOT)

_NAMES = {
    BootRecord.MODULE: "a module",
    BootRecord.SIMPLE_EXEC: "an executable",
    BootRecord.EFI: "EFI tables",
    BootRecord.MULTIBOOT: "multiboot information",
}


def _field(record: int, kind: BootRecord, word: int, kip: Kip | None) -> int:
    """Return a word of a record that must be of *kind*. Raises ValueError when it is of another."""
    found = BootRec_Type(record, kip)
    if found != kind:
        known = _NAMES[BootRecord(found)] if found in tuple(BootRecord) else f"of type {found:#x}"
        raise ValueError(f"the boot record at {record:#x} is {known}, not {_NAMES[kind]}")
    return page_of(kip).word(record + word * 8)


def _text(record: int, offset: int, kip: Kip | None) -> str | None:
    return page_of(kip).text(record + offset) if offset else None


# ------------------------------------------------------------------------------------------------- the header


def BootInfo_Valid(info: int, kip: Kip | None = None) -> bool:
    """Say whether there are boot records at *info*, of the version known here."""
    page = page_of(kip)
    magic, version = page.word(info + BootHeader.MAGIC * 8), page.word(info + BootHeader.VERSION * 8)
    return magic == BOOTINFO_MAGIC and version == BOOTINFO_VERSION


def BootInfo_Size(info: int, kip: Kip | None = None) -> int:
    """Return the bytes of all of it: header, records, command lines."""
    return page_of(kip).word(info + BootHeader.SIZE * 8)


def BootInfo_FirstEntry(info: int, kip: Kip | None = None) -> int:
    """Return the first record."""
    return info + page_of(kip).word(info + BootHeader.FIRST * 8)


def BootInfo_Entries(info: int, kip: Kip | None = None) -> int:
    """Return the number of records."""
    return page_of(kip).word(info + BootHeader.ENTRIES * 8)


def BootRec_Type(record: int, kip: Kip | None = None) -> int:
    """Return the type of *record*: `BootInfo_Module` or another of these."""
    return page_of(kip).word(record + BootRec.TYPE * 8)


def BootRec_Next(record: int, kip: Kip | None = None) -> int:
    """Return the record behind *record*; `BootInfo_Entries` gives their number."""
    return record + page_of(kip).word(record + BootRec.NEXT * 8)


# -------------------------------------------------------------------------------------------------- modules


def Module_Start(record: int, kip: Kip | None = None) -> int:
    """Return a module's address in RAM; 0: it is a program of the host, and was not loaded into RAM."""
    return _field(record, BootRecord.MODULE, Module.START, kip)


def Module_Size(record: int, kip: Kip | None = None) -> int:
    """Return the bytes of RAM that a module takes; 0, as `Module_Start` explains."""
    return _field(record, BootRecord.MODULE, Module.SIZE, kip)


def Module_Cmdline(record: int, kip: Kip | None = None) -> str | None:
    """Return the command line of a module, its own name first; None: it has none."""
    return _text(record, _field(record, BootRecord.MODULE, Module.COMMAND, kip), kip)


# ---------------------------------------------------------------------------------------------- executables


def SimpleExec_TextPstart(record: int, kip: Kip | None = None) -> int:
    """Return the physical address of its text."""
    return _field(record, BootRecord.SIMPLE_EXEC, SimpleExec.TEXT_PSTART, kip)


def SimpleExec_TextVstart(record: int, kip: Kip | None = None) -> int:
    """Return the virtual address of its text."""
    return _field(record, BootRecord.SIMPLE_EXEC, SimpleExec.TEXT_VSTART, kip)


def SimpleExec_TextSize(record: int, kip: Kip | None = None) -> int:
    """Return the bytes of its text."""
    return _field(record, BootRecord.SIMPLE_EXEC, SimpleExec.TEXT_SIZE, kip)


def SimpleExec_DataPstart(record: int, kip: Kip | None = None) -> int:
    """Return the physical address of its data."""
    return _field(record, BootRecord.SIMPLE_EXEC, SimpleExec.DATA_PSTART, kip)


def SimpleExec_DataVstart(record: int, kip: Kip | None = None) -> int:
    """Return the virtual address of its data."""
    return _field(record, BootRecord.SIMPLE_EXEC, SimpleExec.DATA_VSTART, kip)


def SimpleExec_DataSize(record: int, kip: Kip | None = None) -> int:
    """Return the bytes of its data."""
    return _field(record, BootRecord.SIMPLE_EXEC, SimpleExec.DATA_SIZE, kip)


def SimpleExec_BssPstart(record: int, kip: Kip | None = None) -> int:
    """Return the physical address of its zeroed data."""
    return _field(record, BootRecord.SIMPLE_EXEC, SimpleExec.BSS_PSTART, kip)


def SimpleExec_BssVstart(record: int, kip: Kip | None = None) -> int:
    """Return the virtual address of its zeroed data."""
    return _field(record, BootRecord.SIMPLE_EXEC, SimpleExec.BSS_VSTART, kip)


def SimpleExec_BssSize(record: int, kip: Kip | None = None) -> int:
    """Return the bytes of its zeroed data."""
    return _field(record, BootRecord.SIMPLE_EXEC, SimpleExec.BSS_SIZE, kip)


def SimpleExec_InitialIP(record: int, kip: Kip | None = None) -> int:
    """Return its entry point."""
    return _field(record, BootRecord.SIMPLE_EXEC, SimpleExec.INITIAL_IP, kip)


def SimpleExec_Flags(record: int, kip: Kip | None = None) -> int:
    """Return its flags."""
    return _field(record, BootRecord.SIMPLE_EXEC, SimpleExec.FLAGS, kip)


def SimpleExec_Label(record: int, kip: Kip | None = None) -> int:
    """Return its label."""
    return _field(record, BootRecord.SIMPLE_EXEC, SimpleExec.LABEL, kip)


def SimpleExec_Cmdline(record: int, kip: Kip | None = None) -> str | None:
    """Return its command line; None: it has none."""
    return _text(record, _field(record, BootRecord.SIMPLE_EXEC, SimpleExec.COMMAND, kip), kip)


def SimpleExec_Set_Flags(record: int, w: int, kip: Kip | None = None) -> NoReturn:
    """Raise ValueError: only the kernel writes the page."""
    _refuse(record, kip)


def SimpleExec_Set_Label(record: int, w: int, kip: Kip | None = None) -> NoReturn:
    """Raise ValueError: only the kernel writes the page."""
    _refuse(record, kip)


def _refuse(record: int, kip: Kip | None) -> NoReturn:
    _field(record, BootRecord.SIMPLE_EXEC, SimpleExec.FLAGS, kip)
    raise ValueError("boot records are in the kernel interface page, which only the kernel writes")


# ------------------------------------------------------------------------------------- other boot loaders' own


def EFI_Systab(record: int, kip: Kip | None = None) -> int:
    """Return the address of the system table."""
    return _field(record, BootRecord.EFI, Efi.SYSTAB, kip)


def EFI_Memmap(record: int, kip: Kip | None = None) -> int:
    """Return the address of the memory map."""
    return _field(record, BootRecord.EFI, Efi.MEMMAP, kip)


def EFI_MemmapSize(record: int, kip: Kip | None = None) -> int:
    """Return the bytes of the memory map."""
    return _field(record, BootRecord.EFI, Efi.MEMMAP_SIZE, kip)


def EFI_MemdescSize(record: int, kip: Kip | None = None) -> int:
    """Return the bytes of one entry of the memory map."""
    return _field(record, BootRecord.EFI, Efi.MEMDESC_SIZE, kip)


def EFI_MemdescVersion(record: int, kip: Kip | None = None) -> int:
    """Return the version of the memory map's entries."""
    return _field(record, BootRecord.EFI, Efi.MEMDESC_VERSION, kip)


def MBI_Address(record: int, kip: Kip | None = None) -> int:
    """Return the address of the multiboot information."""
    return _field(record, BootRecord.MULTIBOOT, Multiboot.ADDRESS, kip)
