"""A program of jobs: each computes for so long, and is to be done before the next one comes."""

import time
from functools import partial

from bench.deadlines import CAST, MS
from bench.worker import Sampler, work


def jobs(computes: int, period: int, length: int) -> list[int]:
    """Do jobs for *length* ns; return when each was done, and how late, in ns, less than zero if in time.

    One that is late does the next one at once. Each *computes* for so much CPU time in each *period*, in ns.
    """
    arrival = begun = time.monotonic_ns()
    found: list[int] = []
    while arrival < begun + length:
        until = time.process_time_ns() + computes
        while time.process_time_ns() < until:
            pass
        done = time.monotonic_ns()
        arrival += period
        found += (done, done - arrival)
        time.sleep(max(arrival - time.monotonic_ns(), 0) / 1e9)
    return found


def overload(length: int) -> list[int]:
    """Compute for *length* ns without sleep."""
    until = time.monotonic_ns() + length
    while time.monotonic_ns() < until:
        pass
    return []


def made(name: str) -> Sampler:
    """Return the jobs of one of the cast."""
    each = CAST[name]
    return partial(jobs, each.work * MS, each.period * MS)


if __name__ == "__main__":
    work({**{name: partial(made, name) for name in CAST}, "overload": lambda: overload})
