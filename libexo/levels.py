"""Levels of memory pressure, and the marks between which programs are asked for frames. Plain numbers only.

*Marks* are numbers of free frames. When fewer than `low` are free, the memory server asks programs that have more
than their share, until `high` are. A *level* says how near the end of memory is. It follows from the free frames
alone, so a program that knows the marks reads it in the kernel interface page.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from kernel.abi.limits import FRAME_SIZE
from kernel.abi.topology import TopologyError, parse_size

RESERVE_DIVISOR = 32
"""This part of RAM is for servers of the topology and operators: programs do not get it."""
LOW_DIVISOR = 16
"""Below this part of RAM programs are asked, unless the memory server was told another mark."""
GRACE, LONGEST_GRACE = 0.5, 60.0
"""Seconds that programs have to give frames back: if nothing else is said, and at most."""
_USAGE = "write low=SIZE, high=SIZE, grace=SECONDS; a size is as '16 MiB', or a part of RAM as '6%'"


class Level(IntEnum):
    """How near the end of memory is."""

    NONE = 0
    LOW = 1
    """Fewer frames are free than the low mark: programs that have more than their share are asked for some."""
    HIGH = 2
    """No more is free than the reserve for servers: programs get nothing, or wait until others give back."""


class Marks(NamedTuple):
    """When programs are asked for frames; all but `grace` are in frames."""

    low: int
    """When fewer are free, programs are asked; 0: they never are, nor pressed for others."""
    high: int
    """So many are to be free then."""
    reserve: int
    grace: float = GRACE
    """Seconds that programs have to give back."""

    def level(self, free: int) -> Level:
        """Return the level when so many frames are *free*."""
        if free <= self.reserve:
            return Level.HIGH
        return Level.LOW if free < self.low else Level.NONE


def marks(total: int, arguments: Sequence[str] = ()) -> Marks:
    """Return the marks of a machine of *total* frames that *arguments* set, as the memory server takes them.

    Raises ValueError, which says what is wrong.
    """
    given = dict[str, str]()
    for word in arguments:
        name, equals, value = word.partition("=")
        if name not in ("low", "high", "grace") or not equals:
            raise ValueError(f"{word!r} is no option of the memory server: {_USAGE}")
        given[name] = value
    low = _frames(total, "low", given["low"]) if "low" in given else total // LOW_DIVISOR
    high = _frames(total, "high", given["high"]) if "high" in given else min(2 * low, total // 2)
    if not low <= high <= total // 2:
        raise ValueError(
            f"low={low} and high={high} of {total} frames: low is at most high, that half of RAM"
        )
    return Marks(low, high, total // RESERVE_DIVISOR, _seconds(given["grace"]) if "grace" in given else GRACE)


def _frames(total: int, name: str, text: str) -> int:
    try:
        if text.strip() == "0":
            return 0
        if text.endswith("%"):
            return int(total * float(text[:-1]) / 100)
        return parse_size(text) // FRAME_SIZE
    except (ValueError, OverflowError, TopologyError) as error:
        raise ValueError(f"{name}={text!r}: {_USAGE}") from error


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= LONGEST_GRACE:
        raise ValueError(f"grace={text!r}: seconds from 0 to {LONGEST_GRACE:g}")
    return found
