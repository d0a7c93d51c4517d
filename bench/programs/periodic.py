"""A program of jobs: each computes for so long, and is to be done before the next one comes."""

import time
from collections.abc import Callable
from functools import partial

from bench.deadlines import CAST, MS
from bench.worker import Sampler, work


def jobs(computes: int, period: int, length: int) -> list[int]:
    """Do jobs for *length* ns; return how late each was done, in ns, less than zero if in time.

    Each computes for *computes* ns of CPU time in each *period* ns; after one that is late the next begins at once.
    """
    arrival = begun = time.monotonic_ns()
    found: list[int] = []
    while arrival < begun + length:
        until = time.process_time_ns() + computes
        while time.process_time_ns() < until:
            pass
        arrival += period
        now = time.monotonic_ns()
        found.append(now - arrival)
        time.sleep(max(arrival - now, 0) / 1e9)
    return found


def greedy(length: int) -> list[int]:
    """Compute for *length* ns without sleep."""
    until = time.monotonic_ns() + length
    while time.monotonic_ns() < until:
        pass
    return []


def maker(computes: int, period: int) -> Callable[[], Sampler]:
    """Return what makes the sampler of such jobs, in ms; of one that computes without end for 0."""
    return lambda: partial(jobs, computes * MS, period * MS) if computes else greedy


if __name__ == "__main__":
    work({name: maker(each.computes, each.period) for name, each in CAST.items()})
