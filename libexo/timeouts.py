"""Time-outs: in seconds, as callers give them, and in ns of the host's clock, when they are over.

A time-out is None or infinity (for ever), 0, or any number of seconds: months are as good as milliseconds. A
negative one, or one that is not a number, is the caller's mistake and raises.
"""

import math

SECOND = 1_000_000_000
LONGEST = 10_000_000_000
"""Seconds beyond which it makes no difference: three hundred years."""


def seconds(timeout: object) -> float | None:
    """Return *timeout* in seconds; None: for ever. Raises ValueError, TypeError."""
    if timeout is None:
        return None
    if not hasattr(timeout, "__float__") and not hasattr(timeout, "__index__"):
        raise TypeError(f"timeout = {timeout!r}: a time-out is a number of seconds, or None: for ever")
    number = float(timeout)  # type: ignore[arg-type]
    if math.isnan(number) or number < 0:
        raise ValueError(
            f"timeout = {timeout!r}: a time-out is a number of seconds from 0, or None: for ever"
        )
    return number if number <= LONGEST else None


def after(now: int, timeout: float | None) -> int | None:
    """Return when *timeout* that begins *now* is over; None: never. Raises ValueError, TypeError."""
    number = seconds(timeout)
    return None if number is None else now + int(number * SECOND)


def nanoseconds(timeout: float) -> int:
    """Return *timeout* in ns; for ever is LONGEST. Raises ValueError, TypeError."""
    number = seconds(timeout)
    return int((LONGEST if number is None else number) * SECOND)
