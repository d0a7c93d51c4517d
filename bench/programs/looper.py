"""A program that computes, and notes each stretch of time in which it had the processor."""

from time import monotonic_ns

from bench.worker import work

GAP = 30_000
"""Nanoseconds between two looks at the clock from which on it did not have the processor between them."""


def stretches(length: int) -> list[int]:
    """Compute for *length* ns; return when each stretch began, and when it ended, one after the other."""
    begun = last = monotonic_ns()
    until, found = begun + length, [begun]
    while last < until:
        now = monotonic_ns()
        if now - last > GAP:
            found += (last, now)
        last = now
    return [*found, last]


if __name__ == "__main__":
    work({"stretches": lambda: stretches})
