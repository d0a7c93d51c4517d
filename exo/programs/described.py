"""A program that is described (`libexo.workload`), for real: `exo sched compare --real` starts it.

It says "ready", reads when to begin and when to end, in ns of the host's clock, works, and prints a line: its CPU
time in ns, and the jobs that it did or did not, each with release, length, deadline and when it was done.
"""

import sys
import time
from collections.abc import Callable, Iterator

import msgspec

from libexo.workload import Described, Done, undone

_PART = 1_000_000
"""CPU time after which a job looks at the clock, in ns."""


def work(described: Described, seed: int, begin: int, end: int) -> Iterator[Done]:
    """Do its jobs from *begin* to *end*; yield what came of each. Times in them are since *begin*."""
    jobs, now = described.jobs(seed), _clock(begin)
    job = jobs.next(now())
    while job is not None:
        _sleep(min(begin + job.release, end))
        if now() < job.release or not _compute(job.length, end):
            break
        yield Done(described.name, job, now())
        job = jobs.next(now())
    yield from undone(job, jobs, described.name, end - begin)


def _clock(begin: int) -> Callable[[], int]:
    return lambda: max(time.monotonic_ns() - begin, 0)


def _sleep(until: int) -> None:
    while (left := until - time.monotonic_ns()) > 0:
        time.sleep(left / 1e9)


def _compute(length: int, end: int) -> bool:
    """Use *length* ns of CPU time; False: it was *end* before that."""
    used = time.thread_time_ns()
    done = used + length
    while used < done:
        if time.monotonic_ns() >= end:
            return False
        part = min(used + _PART, done)
        while used < part:
            used = time.thread_time_ns()
    return True


def main() -> None:
    """Be the program that the first argument describes, by the seed that is the second."""
    described = msgspec.json.decode(sys.argv[1], type=Described)
    print("ready", flush=True)
    begin, end = map(int, sys.stdin.readline().split())
    _sleep(begin)
    before = time.thread_time_ns()
    done = list(work(described, int(sys.argv[2]), begin, end))
    _sleep(end)
    said = time.thread_time_ns() - before, [(*each.job, each.at) for each in done]
    print(msgspec.json.encode(said).decode(), flush=True)


if __name__ == "__main__":
    main()
