"""Thread ids, by the names of X.2.

An id is a plain int. Global: thread number in bits 63..32, version in bits 31..0. Local: the address of a UTCB,
which is a multiple of 64, so an id whose low six bits are zero *is* local, and no version may end so.
"""

from kernel.abi.ids import (
    ANY_LOCAL_THREAD,
    ANY_THREAD,
    NIL_THREAD,
    ThreadId,
    is_local,
    thread_id,
    thread_number,
    thread_version,
)
from libexo.l4.format.words import within, word

__all__ = [
    "GlobalId",
    "IsGlobalId",
    "IsLocalId",
    "IsNilThread",
    "IsThreadEqual",
    "IsThreadNotEqual",
    "ThreadId",
    "ThreadNo",
    "Version",
    "anylocalthread",
    "anythread",
    "nilthread",
]

nilthread = NIL_THREAD
anythread = ANY_THREAD
anylocalthread = ANY_LOCAL_THREAD

_HALF = (1 << 32) - 1


def GlobalId(threadno: int, version: int) -> ThreadId:
    """Return the global id of thread *threadno* in *version*.

    Raises ValueError when one does not fit in 32 bits, or the version's low six bits are zero: such an id would
    look like a local one.
    """
    number = within(threadno, 0, _HALF, "thread number")
    version = within(version, 0, _HALF, "version")
    made = thread_id(number, version)
    if IsLocalId(made):
        raise ValueError(f"version {version:#x} has its low six bits zero: the id would be a local one")
    return made


def Version(t: int) -> int:
    """Return the version of global id *t*: bits 31..0."""
    return thread_version(word(t, "thread id"))


def ThreadNo(t: int) -> int:
    """Return the thread number of global id *t*: bits 63..32."""
    return thread_number(word(t, "thread id"))


def IsThreadEqual(left: int, right: int) -> bool:
    """Say whether two ids are equal. The global and the local id of one thread are not: see SameThreads."""
    return left == right


def IsThreadNotEqual(left: int, right: int) -> bool:
    """Say whether two ids differ."""
    return left != right


def IsNilThread(t: int) -> bool:
    """Say whether *t* is nilthread."""
    return t == nilthread


def IsLocalId(t: int) -> bool:
    """Say whether the low six bits of *t* are zero: so they are in local ids, anylocalthread and nilthread."""
    return is_local(t) or IsNilThread(t)


def IsGlobalId(t: int) -> bool:
    """Say whether *t* is not a local id: anythread counts as global."""
    return not IsLocalId(t)
