"""Names of things: thread ids and handles, both plain integers with a layout.

A *thread id* has the L4 X.2 64-bit layout: thread number in bits 63..32, version in bits 31..0. The low six
bits of a version are never zero (such an id could not be told from a local one), so versions are odd and a
restarted thread takes the next odd one. A *handle* names a slot of the caller's capability table: generation
in bits 31..16, slot in bits 15..0. Slot 0 is never used, so a zero handle is always wrong.
"""

from typing import NewType

ThreadId = NewType("ThreadId", int)
Handle = NewType("Handle", int)

NIL_THREAD = ThreadId(0)
ANY_THREAD = ThreadId((1 << 64) - 1)
ANY_LOCAL_THREAD = ThreadId((1 << 64) - 64)
"""Any thread of the caller's own environment: all ones, except the low six bits, zero as in every local id."""
NIL_HANDLE = Handle(0)
ANY_FRAME = -1
"""As the first frame of a carve: any free run of the right length."""

SYSTEM_BASE = 64
"""Thread numbers below are interrupt threads, one per line (X.2: ThreadInfo.SystemBase)."""
USER_BASE = 96
"""Thread numbers from SYSTEM_BASE up to here are the kernel's own (X.2: ThreadInfo.UserBase)."""

_VERSION_MASK = (1 << 32) - 1
_LOCAL_BITS = 63
_SLOT_MASK = (1 << 16) - 1


def thread_id(number: int, version: int = 1) -> ThreadId:
    """Return the global id of thread *number* in its incarnation *version*."""
    return ThreadId(number << 32 | version)


def thread_number(thread: int) -> int:
    """Return the number of *thread*: bits 63..32."""
    return thread >> 32


def thread_version(thread: int) -> int:
    """Return the version of *thread*: bits 31..0."""
    return thread & _VERSION_MASK


def is_interrupt(thread: int) -> bool:
    """Say whether *thread* can be an interrupt thread: a number below SYSTEM_BASE, version 1 (X.2)."""
    return thread_version(thread) == 1 and thread_number(thread) < SYSTEM_BASE


def next_version(version: int) -> int:
    """Return the version after *version*: odd, so never with its low six bits zero; wraps to 1."""
    return (version + 2) & _VERSION_MASK | 1


def is_local(thread: int) -> bool:
    """Say whether *thread* is a local id: the address of a UTCB, so its low six bits are zero; nil is not one."""
    return bool(thread) and not thread & _LOCAL_BITS


def show_thread(thread: int) -> str:
    """Return *thread* as people read it: ``97.3`` for number 97, version 3."""
    if thread == NIL_THREAD:
        return "nil"
    return "any" if thread == ANY_THREAD else f"{thread_number(thread)}.{thread_version(thread)}"


def handle(slot: int, generation: int) -> Handle:
    """Return the handle of table slot *slot* (1..65535) in its *generation* (0..65535)."""
    return Handle(generation << 16 | slot)


def handle_slot(name: int) -> int:
    """Return the table slot a handle names: bits 15..0."""
    return name & _SLOT_MASK


def handle_generation(name: int) -> int:
    """Return the generation a handle was made in: bits 31..16."""
    return name >> 16


# The kernel's own threads, the senders of its messages.
KERNEL_THREADS = thread_id(SYSTEM_BASE)
"""Reports that a partner is gone."""
KERNEL_ENVIRONMENTS = thread_id(SYSTEM_BASE + 1)
"""Reports the birth and death of environments."""
KERNEL_MEMORY = thread_id(SYSTEM_BASE + 2)
"""Asks for capabilities back, and reports what was taken."""
KERNEL_CPUS = thread_id(SYSTEM_BASE + 3)
"""Reports the fate of slices: preemption messages."""

KERNEL_PREDICATES = SYSTEM_BASE + 4
"""The number of those that report which clause of a predicate is true: the version is the predicate's number."""

FIRST_PROGRAM = USER_BASE + 64
"""User threads below are servers of the topology, which assigns their numbers; sigma0 is the first (X.2)."""
