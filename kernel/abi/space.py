"""X.2's areas in an environment's addresses: UTCBs, the kernel interface page.

A UTCB location is a name here: the local id of its thread. The kernel keeps nothing at the address.
"""

from typing import Final

from kernel.abi.kip import UTCB_AREA_LOG2, UTCB_SIZE
from kernel.abi.limits import MAX_SPACE_THREADS

MIN_UTCB_AREA: Final = 1 << UTCB_AREA_LOG2
"""The smallest UTCB area, in bytes."""
USER_END: Final = 1 << 47
"""The end of user addresses."""
UTCB_AREA: Final = range(0x7000_0000_0000, 0x7000_0000_0000 + MAX_SPACE_THREADS * UTCB_SIZE)
"""The UTCB area of an environment whose creator chose none; its first thread's UTCB is at the base."""
UNCHANGED: Final = (1 << 64) - 1
"""As a UTCB location: leave it as it is."""

_SMALLEST = 10
"""Log2 of the smallest fpage."""


def fpage(word: int) -> range:
    """Return the addresses of fpage *word*: log2 of its size in bits 9..4, base / 1024 in bits 63..10 (X.2).

    Size 1 is the complete address space; any other below 10 is nil. The base is cut to a multiple of the size.
    """
    log2 = word >> 4 & 63
    if log2 < _SMALLEST:
        return range(1 << 64) if log2 == 1 else range(0)
    base = word & -(1 << log2) & UNCHANGED
    return range(base, base + (1 << log2))
