"""`exo bench scale`: does a trap take longer where more environments live? It must not."""

import contextlib
import os
from collections.abc import Iterator, Sequence

from bench.harness import Measure, Result, Sampled, Worker, reference, run
from bench.ipc import BLOCK
from bench.system import System

COUNTS = (1, 10, 25, 50, 100, 150, 200)
FLAT = 1.25
"""The most a trap may take at the largest count, in times of that at the smallest, host drift taken out."""


def points(
    system: System, rounds: int, cores: Sequence[int] = (), counts: Sequence[int] = COUNTS
) -> Iterator[Result]:
    """Yield the null trap's result with each of *counts* idle environments living beside the one that measures."""
    name = f"bench-client-{os.getpid()}"
    client = system.worker("bench.programs.client", name)
    system.place([client.pid], cores)
    with contextlib.ExitStack() as open_:
        packets = open_.enter_context(reference("bench.references.seqpacket", cores=cores))
        living = 0
        for count in counts:
            for number in range(living, count):
                system.start("bench.programs.idle", f"bench-idle-{os.getpid()}-{number}")
            living = count
            yield run(_measure(client, packets), rounds)


def default_cores() -> tuple[int, ...]:
    """Return one core, where we may pin: whether two processes happen to share one would drown what is measured."""
    return (min(os.sched_getaffinity(0)),) if os.geteuid() == 0 else ()


def _measure(client: Worker, packets: Worker) -> Measure:
    return Measure(
        "scale", "null trap against the number of living environments",
        Sampled("null trap", client, "null"), [Sampled("SEQPACKET round trip", packets, "null")], BLOCK,
    )  # fmt: skip


def growth(results: Sequence[Result]) -> float:
    """Return how many times longer the last point's trap takes than the first's, each against its reference."""
    first, last = results[0].references[0].ratio.value, results[-1].references[0].ratio.value
    return last / first
