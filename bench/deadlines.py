"""Deadlines missed for our reasons, beside what the host took from the jobs and from those that plan them."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

MS = 1_000_000
LOOK = 5 * MS
"""From one look at what the host takes to the next."""


class Periodic(NamedTuple):
    """A program of jobs. In ms."""

    work: int
    """What a job computes: less than the runtime, for sleep is noticed late."""
    runtime: int
    """What is reserved in each period."""
    period: int


CAST = {"short": Periodic(4, 8, 40), "middle": Periodic(18, 24, 80), "long": Periodic(56, 64, 160)}
"""90 % of a core are reserved, and 67.5 % used."""
LONGEST = max(each.period for each in CAST.values()) * MS


class Job(NamedTuple):
    """When one was done, and by how much it was late, in ns; less than zero: it was in time."""

    done: int
    late: int


class Taken(NamedTuple):
    """What the host had taken until a moment, in ns."""

    at: int
    lost: int


def paired(samples: Sequence[int]) -> list[Job]:
    """Return the jobs of a program by what it answered."""
    return [Job(*each) for each in zip(samples[::2], samples[1::2], strict=True)]


def unexcused(jobs: Mapping[str, Sequence[Job]], taken: Sequence[Taken]) -> int:
    """Return how many *jobs* were later than what the host had *taken* meanwhile explains.

    That counts from two of the longest periods before the deadline: so long can a delay be handed on. One that was
    late hands that on to the next one of its program.
    """
    missed = 0
    for each in jobs.values():
        carried = 0
        for done, late in each:
            lost = _lost(taken, done) - _lost(taken, done - late - 2 * LONGEST)
            missed += late > lost + carried
            carried = max(late, 0)
    return missed


def _lost(taken: Sequence[Taken], at: int) -> int:
    """Return what the host had taken by the time *at*, as known from the last look until then, or the first one."""
    return next((each.lost for each in reversed(taken) if each.at <= at), taken[0].lost)


def waited(pid: int) -> int:
    """Return for how long the host has kept process *pid* waiting for a core: the second of /proc/PID/schedstat."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1])


def watched(pids: Sequence[int], does: Callable[[], None]) -> list[Taken]:
    """Look at what *pids* wait for, again and again, while somebody *does* something."""
    found, over = [], Event()

    def look() -> None:
        while True:
            found.append(Taken(time.monotonic_ns(), sum(map(waited, pids))))
            if over.wait(LOOK / 1e9):
                return

    looking = Thread(target=look)
    looking.start()
    try:
        does()
    finally:
        over.set()
        looking.join()
    return [*found, Taken(time.monotonic_ns(), sum(map(waited, pids)))]
