"""Programs whose jobs have deadlines; and the same as plain processes, under the host's real-time class."""

import contextlib
import os
from collections.abc import Mapping
from typing import NamedTuple

from bench.harness import Worker, reference

MS = 1_000_000


class Periodic(NamedTuple):
    """A program of jobs. In ms."""

    computes: int
    """What a job computes: less than the runtime, for sleep is noticed late. 0: without end."""
    runtime: int
    """What is reserved in each period."""
    period: int


CAST = {
    "short": Periodic(5, 8, 40),
    "middle": Periodic(21, 24, 80),
    "long": Periodic(29, 32, 160),
    "greedy": Periodic(0, 20, 100),
}
"""90 % of a core are reserved. The last wants more than that."""


class Jobs(NamedTuple):
    """What became of all jobs."""

    done: int
    missed: int
    """How many were done after their deadline."""
    latest: float
    """By how much the latest was late, in ms; less than zero: that was in time."""


def told(workers: Mapping[str, Worker], length: int) -> Jobs:
    """Have *workers*, by their names in CAST, do their jobs for *length* ns."""
    for name, worker in workers.items():
        worker.tell(name, length)
    late = [ns for worker in workers.values() for ns in worker.answer()]
    return Jobs(len(late), sum(ns > 0 for ns in late), max(late) / MS)


def by_fifo(core: int, length: int) -> Jobs | None:
    """Return what the host's real-time class makes of them on *core*; None: this process may not use it.

    The shorter its period, the higher its priority (rate monotonic); who computes without end has an ordinary one.
    """
    with contextlib.ExitStack() as opened:
        workers = {
            name: opened.enter_context(reference("bench.programs.periodic", cores=(core,))) for name in CAST
        }
        ranks = sorted(CAST, key=lambda name: CAST[name].period, reverse=True)
        try:
            for rank, name in enumerate(ranks, 1):
                if CAST[name].computes:
                    os.sched_setscheduler(workers[name].pid, os.SCHED_FIFO, os.sched_param(rank))
        except PermissionError:
            return None
        return told(workers, length)
