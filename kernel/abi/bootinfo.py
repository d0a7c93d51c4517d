"""The boot records of L4 X.2: the booted modules, in order, with their command lines.

They are in pages of their own of the kernel interface page, at `kernel.abi.kip.BOOT`, in 64-bit words: a
header, then the records, then the command lines. Offsets count bytes: of the first record from the header, of
the next record and of a command line from the record itself; offset 0 means no command line.

Only `Module` records are written here. Other X.2 boot loaders may write the other types: their layouts are
known, so that a reader tells them apart.
"""

import struct
from enum import IntEnum
from typing import Final

BOOT_MAGIC: Final = 0x14B0_021D
BOOT_VERSION: Final = 1
"""Of the header, and of each kind of record."""
BOOT_HEADER: Final = struct.Struct("<QQQQQ24x")
"""The words of `BootHeader`, and three more that are zero."""
MAX_MODULES: Final = 32
"""Modules of one boot."""
MAX_COMMANDS: Final = 4096
"""Bytes of their command lines together, a zero byte behind each included."""


class BootRecord(IntEnum):
    """Types of boot records."""

    MODULE = 1
    SIMPLE_EXEC = 2
    EFI = 0x101
    MULTIBOOT = 0x102


class BootHeader(IntEnum):
    """Word indices of the header."""

    MAGIC = 0
    VERSION = 1
    SIZE = 2
    """Bytes of all: header, records, command lines."""
    FIRST = 3
    """Byte offset of the first record."""
    ENTRIES = 4


class BootRec(IntEnum):
    """Word indices of the fields every boot record begins with."""

    TYPE = 0
    VERSION = 1
    NEXT = 2


class Module(IntEnum):
    """Word indices of a module: its place, and its command line."""

    START = 3
    """Physical address; 0: it is a program of the host, and was not loaded into RAM."""
    SIZE = 4
    COMMAND = 5


class SimpleExec(IntEnum):
    """Word indices of an executable that the boot loader decoded."""

    TEXT_PSTART = 3
    TEXT_VSTART = 4
    TEXT_SIZE = 5
    DATA_PSTART = 6
    DATA_VSTART = 7
    DATA_SIZE = 8
    BSS_PSTART = 9
    BSS_VSTART = 10
    BSS_SIZE = 11
    INITIAL_IP = 12
    FLAGS = 13
    LABEL = 14
    COMMAND = 15


class Efi(IntEnum):
    """Word indices of the tables of an EFI firmware."""

    SYSTAB = 3
    MEMMAP = 4
    MEMMAP_SIZE = 5
    MEMDESC_SIZE = 6
    MEMDESC_VERSION = 7


class Multiboot(IntEnum):
    """Word indices of a multiboot loader's information."""

    ADDRESS = 3


MODULE_WORDS: Final = 6
"""Words of a `Module` record."""
