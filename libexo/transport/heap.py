"""The C library's heap in a process that sends and receives long strings: memory of one message serves the next.

glibc gives the end of its heap back to the host as soon as 128 KiB of it are free, and has larger blocks mapped one
by one. A long string is in several blocks on its way through a process, one after the other: the host found and
cleared every page of each again, which took longer than all other work on the string.
"""

import ctypes

from kernel.abi.limits import MAX_STRING

APART = 2 * MAX_STRING
"""Bytes of a block that is mapped by itself, and given back at once: no string needs so many."""
KEPT = MAX_STRING + (1 << 20)
"""Bytes free at the end of the heap that are not given back: what a string of a MiB needs there and back, and a
longer one once. It is what one program can make a server keep for good."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""


def keep() -> None:
    """Have this process keep that much. Other C libraries than glibc are left as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, APART)
        mallopt(_TRIM_THRESHOLD, KEPT)


def trim() -> None:
    """Give back every page of the heap that nothing is in, but for those at its end that are kept.

    Strings of many senders lie between each other: freed, they leave holes that glibc keeps by itself.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(KEPT)
