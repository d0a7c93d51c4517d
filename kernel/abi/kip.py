"""The kernel interface page: the layout every reader shares.

Page 0 holds the L4 X.2 fields (64-bit words); the exposed tables follow, each at a fixed offset. The kernel is
the only writer. A table's readers compare its sequence word before and after (odd: being written), so that
no row is read torn. `FRAMES` has one 32-bit word a frame and is last, because its length is the machine's.
"""

import struct
from enum import IntEnum
from typing import Final

from kernel.abi.limits import FRAME_SIZE, MAX_CPUS, MAX_ENVIRONMENTS, MAX_NAMES, MAX_SLICES

MAGIC: Final = 0x4B_E6_34_4C
"""Bytes 'L' '4' 0xE6 'K', as X.2 has them."""
API_VERSION: Final = 0x84_05_0000
API_FLAGS: Final = 0b01_00
"""Little endian, 64-bit words."""
ABI_LEVEL: Final = 1
"""Level of our own tables and traps: raised by every incompatible change."""


class X2(IntEnum):
    """Word indices of the X.2 fields we fill."""

    MAGIC = 0
    API_VERSION = 1
    API_FLAGS = 2
    CLOCK_INFO = 48
    THREAD_INFO = 49
    PAGE_INFO = 50
    PROCESSOR_INFO = 51


class Head(IntEnum):
    """Word indices of our own head, in the second half of page 0."""

    ABI_LEVEL = 256
    BINDING_EPOCH = 257
    """Raised whenever a binding falls: receivers forget whom they identified."""
    BOOT_NS = 258
    """Host monotonic clock at boot: the system clock is the time since, in microseconds."""
    KERNEL_PID = 259
    FRAME_COUNT = 260
    FREE_FRAMES = 261
    CPU_COUNT = 262
    STATE = 263
    """A `SystemState`."""
    ENVIRONMENT_SEQUENCE = 264
    NAME_SEQUENCE = 265
    PLAN_SEQUENCE = 266
    COUNTERS = 288
    """The first of the counters, in the order of `Counter`."""


class SystemState(IntEnum):
    """How far the system is."""

    BOOTING = 0
    UP = 1
    ENDING = 2


class Counter(IntEnum):
    """What the kernel counts since boot."""

    TRAPS = 0
    REFUSALS = 1
    FAULTS = 2
    UPCALLS = 3
    ENVIRONMENTS_CREATED = 4
    ENVIRONMENTS_ENDED = 5
    RESTARTS = 6
    BINDS = 7
    IDENTIFIES = 8
    UNKNOWN_TOKENS = 9
    TRANSFERS = 10
    REVOCATIONS = 11
    CARVES = 12
    SWITCHES = 13
    PREEMPTIONS = 14
    SLICES_SKIPPED = 15
    WATCHDOG_FALLBACKS = 16
    INTERRUPTS = 17
    UPCALLS_DROPPED = 18


class EnvironmentState(IntEnum):
    """What an environment is doing, as the table shows it."""

    FREE = 0
    STARTING = 1
    READY = 2
    """It runs, or would if it had the processor."""
    RUNNING = 3
    """It has the processor of its plan."""
    BLOCKED = 4
    """It is under a plan and sleeps."""
    DEAD = 5
    """It ended; its capabilities wait for a successor or its record for a reader."""


# state, uid, pid, cpu (-1: no plan), thread, started ns, consumed ns, traps, frames, handles, fault, name
ENVIRONMENT = struct.Struct("<IIIiQQQQIIi4x32s")
NAME = struct.Struct("<Q32s")
# per processor: host core, slices, running environment + 1, spare; then the slices
PLAN_HEAD = struct.Struct("<IIII")
PLAN_SLICE = struct.Struct("<II")
"""Environment number, microseconds."""
PLAN_SIZE: Final = PLAN_HEAD.size + MAX_SLICES * PLAN_SLICE.size

ENVIRONMENTS: Final = FRAME_SIZE
NAMES: Final = ENVIRONMENTS + MAX_ENVIRONMENTS * ENVIRONMENT.size
PLANS: Final = NAMES + MAX_NAMES * NAME.size
FRAMES: Final = -(-(PLANS + MAX_CPUS * PLAN_SIZE) // FRAME_SIZE) * FRAME_SIZE


def kip_size(frames: int) -> int:
    """Return the bytes of a KIP for a machine of *frames* frames, in whole pages."""
    return FRAMES + -(-frames * 4 // FRAME_SIZE) * FRAME_SIZE


class Page(IntEnum):
    """Word indices of the environment page, shared between the kernel and one environment, both writing."""

    PENDING = 0
    """Upcalls that wait in the gate."""
    SLICES = 1
    """Slices begun."""
    CRITICAL = 2
    """Set by the program: do not end my slice now (bounded)."""
    OVERDUE = 3
    """Set by the kernel: the slice ended inside a critical section; give it up at its end."""
    REPOSSESSED = 4
    """How many handles follow: what was taken by force, newest last."""
    REPOSSESSED_LIST = 8
