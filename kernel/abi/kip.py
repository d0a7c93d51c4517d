"""The kernel interface page: the layout every reader shares.

Page 0 holds the L4 X.2 fields (64-bit words) in its first half, with the kernel, processor and memory descriptors
they point to. Its second half is a head of our own. The exposed tables follow, each
at a fixed offset. The kernel is the only writer. A table's readers compare its sequence word before and after
(odd: being written), so that no row is read torn. `FRAMES` has one 32-bit word a frame, and the table of extents
behind it one row a frame. They are last, because their length is the machine's.
"""

import struct
from enum import IntEnum
from typing import Final

from kernel.abi.budget import Item
from kernel.abi.events import ANYBODY
from kernel.abi.ids import thread_number
from kernel.abi.limits import (
    FRAME_SIZE,
    MAX_CPUS,
    MAX_ENVIRONMENTS,
    MAX_NAMES,
    MAX_SLICES,
    MAX_SPACE_THREADS,
    MAX_THREADS,
)

MAGIC: Final = 0x4B_E6_34_4C
"""Bytes 'L' '4' 0xE6 'K', as X.2 has them."""
API_VERSION: Final = 0x84_05_0000
API_FLAGS: Final = 0b01_00
"""Little endian, 64-bit words."""
KERNEL_ID: Final = 0x45_01_0000
"""Kernel id 0x45 in bits 31..24, subid 1 in bits 23..16: no other X.2 kernel has that id (Pistachio has 4.2)."""
GENERATED: Final = (2026, 11, 22)
"""Year, month, day this interface was made: the generation date of the kernel descriptor."""
VERSION: Final = (0, 1, 0)
"""Version, subversion, subsubversion of the kernel: those of the distribution."""
SUPPLIER: Final = b"EXO "
VERSION_TEXT: Final = "exokernel {}.{}.{}"
FEATURES: Final = ("exokernel",)
"""Extensions of X.2 by name: `exokernel` says that the head and the tables of this module follow."""
ABI_LEVEL: Final = 2
"""Level of our own tables and traps: raised by every incompatible change."""

UTCB_ALIGN_LOG2: Final = 10
UTCB_SIZE: Final = 1 << UTCB_ALIGN_LOG2
"""Bytes of a UTCB."""
UTCB_AREA_LOG2: Final = 12
"""The smallest UTCB area: one page, four threads."""
READ_PRECISION_US: Final = 1
"""Microseconds between two readings of the clock that differ."""
SCHEDULE_PRECISION_US: Final = 50
"""Microseconds by which a slice, or the end of a time-out, may be late on an idle host: the cost of a switch."""
PAGE_RIGHTS: Final = 6
"""The rights of an fpage that the host can enforce: r 4 and w 2. What can be read can be executed."""


class X2(IntEnum):
    """Word indices of the X.2 fields."""

    MAGIC = 0
    API_VERSION = 1
    API_FLAGS = 2
    KERN_DESC = 3
    """Byte offset of the kernel descriptor."""
    SIGMA0 = 8
    """SP, IP, low, high; SIGMA1 and ROOT_TASK likewise. All zero: they are programs of the host, not images."""
    SIGMA1 = 12
    ROOT_TASK = 16
    MEMORY_INFO = 21
    """Memory descriptors: how many in the low half, byte offset of the first in the high half."""
    UTCB_INFO = 42
    KIP_AREA_INFO = 43
    BOOT_INFO = 46
    """Byte offset of the boot information, from the start of the KIP."""
    PROC_DESC = 47
    """Byte offset of the processor descriptors."""
    CLOCK_INFO = 48
    THREAD_INFO = 49
    PAGE_INFO = 50
    PROCESSOR_INFO = 51
    SPACE_CONTROL = 52
    """From here on, each call of X.2: there is no code to jump to, so it is the number of the trap that is this
    call, or 0 where the library does it without the kernel or by several traps."""
    THREAD_CONTROL = 53
    PROCESSOR_CONTROL = 54
    MEMORY_CONTROL = 55
    IPC = 56
    LIPC = 57
    UNMAP = 58
    EXCHANGE_REGISTERS = 59
    SYSTEM_CLOCK = 60
    THREAD_SWITCH = 61
    SCHEDULE = 62


class Head(IntEnum):
    """Word indices of our own head, in the second half of page 0."""

    ABI_LEVEL = 256
    BINDING_EPOCH = 257
    """Raised whenever a binding falls: receivers forget which senders they identified."""
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
    THREAD_SEQUENCE = 267
    EXTENT_SEQUENCE = 268
    PROCESSORS_OFF = 269
    """A bit for each processor that was taken out; members that it still has are being moved."""
    COUNTERS = 288
    """The first of the counters, in the order of `Counter`."""
    TURN_TRAP = 400
    """The last thing the kernel's loop did: the number of a trap, or 0. From here on, how long its turns take."""
    LONGEST_TURN = 401
    """CPU time of the kernel's thread in the longest turn of its loop, in ns; 0 on a machine that has no turns."""
    LONGEST_TURN_WALL = 402
    """How long that turn took by the clock, in ns."""
    LONGEST_TURN_TRAP = 403
    """What the loop did last in it."""
    LONGEST_WALL = 404
    """How long the longest turn by the clock took, in ns: the host did other things meanwhile."""
    TURNS = 405
    """The first of TURN_BUCKETS words: bucket n counts turns of less than 2**n us of CPU time, and no less than
    half of that; the last one all others."""


TURN_BUCKETS: Final = 20
"""Buckets of the histogram of turns."""


class MemoryType(IntEnum):
    """What a memory descriptor says of its range: bits 3..0 of its first word."""

    UNDEFINED = 0
    CONVENTIONAL = 1
    RESERVED = 2
    """The kernel's own."""
    DEDICATED = 3
    SHARED = 4
    BOOT_LOADER = 14
    """With a `BootMemory` in bits 7..4."""
    ARCHITECTURE = 15


class BootMemory(IntEnum):
    """The content of a range of the boot loader's."""

    TABLES = 1
    SERVERS = 2
    MODULES = 3


class SystemState(IntEnum):
    """The state of the system."""

    BOOTING = 0
    UP = 1
    ENDING = 2


class Counter(IntEnum):
    """The kernel's counters since boot."""

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
    SLICES_OVERDUE = 19
    """Slices that ended by the clock."""
    UNRESPONSIVE = 20
    """Servers that were ended because they did not answer."""


class EnvironmentState(IntEnum):
    """The state of an environment in its table."""

    FREE = 0
    STARTING = 1
    READY = 2
    """It runs, or would if it had the processor."""
    RUNNING = 3
    """It has the processor of its plan."""
    BLOCKED = 4
    """It is under a plan and sleeps."""
    DEAD = 5
    """It ended; its capabilities await a successor, or its record a reader."""


class ThreadState(IntEnum):
    """The state of a thread in its table."""

    INACTIVE = 1
    """It has a number and a space, but was not started."""
    ACTIVE = 2


# state, uid, pid, cpu (-1: no plan), thread, started ns, consumed ns, traps, frames, handles, fault, family, name
ENVIRONMENT = struct.Struct("<IIIiQQQQIIiI32s")
FAMILY_SERIALS: Final = (1 << 32) // MAX_THREADS
"""A family is a serial number, from 1 to below this, times MAX_THREADS, plus the thread number of its first; what
a program starts is of its family, even if others between ended. 0: of none. Servers of the topology and
attached operators are of none; each program that they start is the first of a family."""
NAME = struct.Struct("<Q32s")
# per processor: host core, slices, running environment + 1, the one + 1 whose slice goes on when reservations have
# run, or who has lent it (0: none), slices of the plan that have begun in this round; then the slices
PLAN_HEAD = struct.Struct("<IIIHH")
PLAN_SLICE = struct.Struct("<II")
"""Environment number, microseconds."""
# thread id, number of its environment + 1 (0: no such thread), state, pager, scheduler, redirector of its space
THREAD = struct.Struct("<QIIQQQ")
NO_THREAD: Final = (0,) * 6
KERNEL = struct.Struct("<QQQ4s4x")
"""Kernel id, generation date, version, supplier; then the version, then the features, each with a zero byte
behind it, and one more."""
PROCESSOR = struct.Struct("<QQ16x")
"""External and internal frequency, in kHz; 0: unknown."""
PROCESSOR_LOG2: Final = 5
"""Of the bytes of a processor descriptor."""
MEMORY = struct.Struct("<QQ")
"""Type, subtype << 4, virtual << 9, and in bits 10.. the first byte; in bits 10.. the last byte."""
PLAN_SIZE: Final = PLAN_HEAD.size + MAX_SLICES * PLAN_SLICE.size

KERN_DESC: Final = 0x240
"""The first byte behind the X.2 words."""
PROC_DESC: Final = 0x380
MEMORY_DESC: Final = PROC_DESC + MAX_CPUS * PROCESSOR.size
ENVIRONMENTS: Final = FRAME_SIZE
NAMES: Final = ENVIRONMENTS + MAX_ENVIRONMENTS * ENVIRONMENT.size
PLANS: Final = NAMES + MAX_NAMES * NAME.size
THREADS: Final = PLANS + MAX_CPUS * PLAN_SIZE
BUDGETS: Final = THREADS + MAX_THREADS * THREAD.size
"""One row for each row of the table of environments: for each `Item`, what is used and the limit, 32 bits each."""
BUDGET_ROW: Final = 8 * len(Item)
BOOT: Final = -(-(BUDGETS + MAX_ENVIRONMENTS * BUDGET_ROW) // FRAME_SIZE) * FRAME_SIZE
"""The boot records, in pages of their own: layout in `kernel.abi.bootinfo`."""
BOOT_SIZE: Final = 2 * FRAME_SIZE
FRAMES: Final = BOOT + BOOT_SIZE


def extent_at(frames: int, first: int) -> int:
    """Return where the row of the extent that begins at frame *first* is, on a machine of *frames* frames."""
    return FRAMES + -(-frames * 4 // FRAME_SIZE) * FRAME_SIZE + first * EXTENT_ROW


def kip_size(frames: int) -> int:
    """Return the bytes of a KIP for a machine of *frames* frames, in whole pages."""
    return extent_at(frames, 0) + -(-frames * EXTENT_ROW // FRAME_SIZE) * FRAME_SIZE


EXTENT_ROW: Final = 32
EXTENT_WORDS: Final = EXTENT_ROW // 4
"""Bytes, and 32-bit words, in the table of extents for each frame. An extent has the rows of its frames: words as
`ExtentWord` names them, and behind them one for each capability to it, the oldest first, while there is room."""


class ExtentWord(IntEnum):
    """Word indices of the row of the extent that begins at a frame."""

    FRAMES = 0
    """0: none begins there."""
    PAGES = 1
    RESIDENT = 2
    """Pages that are supplied, plus one; 0: it is not paged."""
    PAGER = 3
    """The number of its pager's environment, plus one; 0: it has none."""
    CAPABILITIES = 4
    HOLDERS = 5
    """The first of the words of its holders: number of the environment plus one, and its rights from bit 16 on."""


def holders_shown(frames: int) -> int:
    """Return how many holders the row of an extent of *frames* has room for; of a large one 64 are shown."""
    return min(frames * EXTENT_WORDS - ExtentWord.HOLDERS, 64)


class Page(IntEnum):
    """Word indices of the environment page, shared between the kernel and one environment, both writing.

    Its first frame is theirs alone, but nothing in it is secret: any environment bound to it may read it all.
    """

    PENDING = 0
    """Upcalls that wait in the gate."""
    SLICES = 1
    """Slices begun."""
    CRITICAL = 2
    """Set by the program: do not end my slice now (bounded)."""
    OVERDUE = 3
    """Set by the kernel: the slice ended inside a critical section; give it up at its end."""
    REPOSSESSED = 4
    """How many handles follow: those taken by force, newest last."""
    EXCEPTION_HANDLER = 5
    """Set by the program: the thread that is told, as of an exception, how the environment ended."""
    PREEMPTIONS = 6
    """How often the processor was taken away: slices that ended before the program was idle."""
    REPOSSESSED_LIST = 8
    SLICE_BEGAN = FRAME_SIZE // 8 - 3
    """When its slice began, in ns of the clock; the list of what was taken ends before this word."""
    SLICE_ENDS = FRAME_SIZE // 8 - 2
    """The CPU time it will have used, in ns, when that slice is over; what it sleeps in the slice counts, too."""
    SLICE_ASKED = FRAME_SIZE // 8 - 1
    """Set by the program: tell me when a slice begins. The kernel does it once, by SLICE, and clears it."""
    WAITS = FRAME_SIZE // 8
    """The first of the rows of its threads, each with the words of `Wait`. The kernel assigns the rows."""


class Wait(IntEnum):
    """Word indices of the row that says for whom a thread waits, so that others know and need not guess.

    A sender reads the row after its message is on the way. A receiver writes it before it looks for messages. So
    either the receiver finds the message when it looks, or the sender knows that nobody waited.
    """

    THREAD = 0
    """Its id; 0: the row is free."""
    FOR = 1
    """From whom it receives, as IPC has it: a thread, any, any of its own environment; 0: it does not receive. The
    kernel writes the pager when it activates a thread, which then waits for its start message."""
    SENDS = 2
    """To whom it sends a message that, as far as it knows, was not taken yet; it receives only after that."""
    ANSWER = 3
    """Who is to answer, to take what it sends, or to send to its event loop, while it sleeps: for those that ask
    why it does not run, and no others."""


WAIT_WORDS: Final = 4
"""Words of a row."""


def awaited(page: memoryview, row: int) -> int:
    """Return the number of the thread for which row *row* of an environment's *page* says that its thread waits.

    0: for none; ANYBODY: for any of several. It is the program's own claim.
    """
    at = Page.WAITS + row * WAIT_WORDS
    whom = (page[at + Wait.SENDS] or page[at + Wait.FOR] or page[at + Wait.ANSWER]) if row >= 0 else 0
    return min(thread_number(whom), ANYBODY)


PAGE_SIZE: Final = FRAME_SIZE + MAX_SPACE_THREADS * WAIT_WORDS * 8
"""Bytes of an environment page."""
