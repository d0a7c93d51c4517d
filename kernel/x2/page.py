"""The L4 X.2 half of the kernel interface page, written: what the kernel is, and the machine it runs on.

Physical addresses count bytes of RAM from frame 0. The kernel's own pages are the host's, and no frames; since
X.2 has memory descriptors for them too, they are given the addresses right above RAM.
"""

import struct
from typing import TYPE_CHECKING, NamedTuple

from kernel.abi import traps
from kernel.abi.ids import SYSTEM_BASE, USER_BASE
from kernel.abi.kip import (
    API_FLAGS,
    API_VERSION,
    BOOT,
    FEATURES,
    GENERATED,
    KERN_DESC,
    KERNEL,
    KERNEL_ID,
    MAGIC,
    MEMORY,
    MEMORY_DESC,
    PAGE_RIGHTS,
    PROC_DESC,
    PROCESSOR,
    PROCESSOR_LOG2,
    READ_PRECISION_US,
    SCHEDULE_PRECISION_US,
    SUPPLIER,
    UTCB_ALIGN_LOG2,
    UTCB_AREA_LOG2,
    UTCB_SIZE,
    VERSION,
    VERSION_TEXT,
    X2,
    BootMemory,
    MemoryType,
    kip_size,
)
from kernel.abi.limits import FRAME_SIZE, MAX_THREADS
from kernel.abi.space import USER_END

if TYPE_CHECKING:
    from hwmodel.machine import Machine

_FIRST_YEAR = 2000
_CALLS: dict[X2, type[traps.Trap]] = {
    X2.SPACE_CONTROL: traps.SpaceControl,
    X2.THREAD_CONTROL: traps.ThreadControl,
    X2.PROCESSOR_CONTROL: traps.ProcessorControl,
    X2.THREAD_SWITCH: traps.ThreadSwitch,
}
"""The calls of X.2 that are one trap each."""
_NUMBERS = {trap: number for number, trap in traps.TRAPS.items()}


class Range(NamedTuple):
    """The range and type in one memory descriptor."""

    type: MemoryType
    first: int
    size: int
    """In bytes, as *first*: multiples of 1024."""
    subtype: int = 0
    virtual: bool = False

    def words(self) -> tuple[int, int]:
        """Return the two words of the descriptor, which names the last byte, not the one behind it."""
        kind = self.type | self.subtype << 4 | self.virtual << 9
        return self.first | kind, (self.first + self.size - 1) & ~0x3FF


def write_x2(buffer: memoryview, machine: "Machine") -> None:
    """Write the X.2 half of a zeroed page 0; `write_ranges` adds the boot records."""
    words = buffer.cast("Q")
    frames = machine.memory.frames
    words[X2.MAGIC], words[X2.API_VERSION], words[X2.API_FLAGS] = MAGIC, API_VERSION, API_FLAGS
    words[X2.UTCB_INFO] = UTCB_SIZE >> UTCB_ALIGN_LOG2 | UTCB_ALIGN_LOG2 << 10 | UTCB_AREA_LOG2 << 16
    words[X2.KIP_AREA_INFO] = (kip_size(frames) - 1).bit_length()
    words[X2.CLOCK_INFO] = READ_PRECISION_US | SCHEDULE_PRECISION_US << 16
    words[X2.THREAD_INFO] = (MAX_THREADS - 1).bit_length() | SYSTEM_BASE << 8 | USER_BASE << 20
    words[X2.PAGE_INFO] = PAGE_RIGHTS | FRAME_SIZE
    words[X2.PROCESSOR_INFO] = len(machine.cores) - 1 | PROCESSOR_LOG2 << 60
    for call, trap in _CALLS.items():
        words[call] = _NUMBERS[trap]
    _write_kernel(buffer, words)
    write_ranges(buffer, frames, 0)
    words[X2.PROC_DESC] = PROC_DESC
    for number, (internal, external) in enumerate(machine.frequencies):
        write_processor(buffer, number, internal, external)


def _write_kernel(buffer: memoryview, words: memoryview) -> None:
    """Write the kernel descriptor: numbers, version, features."""
    year, month, day = GENERATED
    major, minor, patch = VERSION
    date = day | month << 5 | (year - _FIRST_YEAR) << 9
    head = KERNEL.pack(KERNEL_ID, date, major << 24 | minor << 16 | patch, SUPPLIER)
    strings = "\0".join((VERSION_TEXT.format(*VERSION), *FEATURES, "", ""))
    raw = head + strings.encode()
    assert KERN_DESC + len(raw) <= PROC_DESC
    buffer[KERN_DESC : KERN_DESC + len(raw)] = raw
    words[X2.KERN_DESC] = KERN_DESC


def write_ranges(buffer: memoryview, frames: int, records: int) -> None:
    """Write the memory descriptors of a machine of *frames* frames, whose boot records have *records* bytes.

    Of two descriptors that fit an address the later one counts (X.2).
    """
    ranges = [
        Range(MemoryType.CONVENTIONAL, 0, USER_END, virtual=True),
        Range(MemoryType.CONVENTIONAL, 0, frames * FRAME_SIZE),
        Range(MemoryType.RESERVED, frames * FRAME_SIZE, kip_size(frames)),
    ]
    if records:
        size = -(-records // FRAME_SIZE) * FRAME_SIZE
        first = frames * FRAME_SIZE + BOOT
        ranges.append(Range(MemoryType.BOOT_LOADER, first, size, BootMemory.TABLES))
    for number, each in enumerate(ranges):
        MEMORY.pack_into(buffer, MEMORY_DESC + number * MEMORY.size, *each.words())
    struct.pack_into("<Q", buffer, X2.MEMORY_INFO * 8, len(ranges) | MEMORY_DESC << 32)


def write_processor(buffer: memoryview, number: int, internal: int, external: int) -> None:
    """Write the frequencies of processor *number*, in kHz; 0: unknown."""
    PROCESSOR.pack_into(buffer, PROC_DESC + number * PROCESSOR.size, external, internal)


def write_records(buffer: memoryview, frames: int, records: bytes) -> None:
    """Write the boot records, and where they are."""
    buffer[BOOT : BOOT + len(records)] = records
    write_ranges(buffer, frames, len(records))
    struct.pack_into("<Q", buffer, X2.BOOT_INFO * 8, BOOT)
