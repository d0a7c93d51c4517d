"""`exo bench extents`: does carving take longer where more extents exist? It must not; and what each of them costs.

200 environments hold them, of one frame each, in a machine of 4 GiB, until the host has no more descriptors: each
extent is a memory file that the kernel keeps open. There the refusal has to be a clear one.
"""

import contextlib
import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import BenchError
from bench.harness import Measure, Result, Sampled, Worker, reference, run_together
from bench.scale import growth
from bench.system import System
from kernel.abi.errors import Refusal
from kernel.abi.kip import EXTENT_ROW, Head

MEMORY = "4 GiB"
HOLDERS = 200
COUNTS = (0, 1000, 4000, 8000, 16000)
FLAT = 1.25
"""The most that anything may take at the largest count, in times of the smallest, host drift taken out."""
BLOCK = 50
SPARE = 2000
"""Descriptors that are left for what the system does beside."""
KEYS = {
    "carve": "four frames carved and freed, by trap",
    "object": "a paged object made and dropped",
    "allocate": "four frames from the memory server, and freed",
}
"""What is measured: also what the worker calls it."""


@dataclass
class Cost:
    """Resident memory of the kernel in bytes, at each count of extents; and how it ended."""

    resident: dict[int, int] = field(default_factory=dict)
    most: int = 0
    """Extents, when one more was refused."""
    refusal: int = 0

    @property
    def each(self) -> float:
        """Bytes of the kernel for each extent."""
        (few, low), *_, (many, high) = sorted(self.resident.items())
        return (high - low) / (many - few)


def counts() -> list[int]:
    """Return those of COUNTS for which the host has descriptors."""
    return [count for count in COUNTS if count <= _limit() - SPARE]


def _limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def points(
    system: System, rounds: int, cores: Sequence[int], wanted: Sequence[int], cost: Cost
) -> Iterator[tuple[int, Mapping[str, Result]]]:
    """Yield the results, by key, with each of the *wanted* counts of extents; note what they *cost*."""
    name = f"bench-hoarder-{os.getpid()}"
    measuring = system.worker("bench.programs.hoarder", name)
    holders = [system.worker("bench.programs.hoarder", f"{name}-{n}") for n in range(HOLDERS)]
    system.place([measuring.pid], cores)
    with contextlib.ExitStack() as opened:
        host = opened.enter_context(reference("bench.references.memory", cores=cores))
        measures = [_measure(key, title, measuring, host) for key, title in KEYS.items()]
        held = 0
        for count in wanted:
            _hold(holders, (count - held) // HOLDERS)
            held = count
            results = run_together(measures, rounds)
            cost.resident[count] = resident(system)
            yield count, dict(zip(KEYS, results, strict=True))
    cost.most, cost.refusal = _fill(holders, held)


def _measure(key: str, title: str, worker: Worker, host: Worker) -> Measure:
    return Measure(
        key, title, Sampled(title, worker, key), [Sampled("memfd and mmap", host, "closed")], BLOCK
    )


def _hold(holders: Sequence[Worker], each: int) -> None:
    for holder in holders if each else ():
        done, refusal = holder.sample("hold", each)
        if done != each:
            raise BenchError(f"an extent was refused early: {Refusal(refusal).text}")


def _fill(holders: Sequence[Worker], held: int) -> tuple[int, int]:
    """Hold more until one is refused; return how many were held then, and the refusal."""
    for holder in holders:
        done, refusal = holder.sample("hold", 500)
        held += done
        if refusal:
            return held, refusal
    return held, 0


def resident(system: System) -> int:
    """Return the resident memory of the kernel, in bytes."""
    status = Path(f"/proc/{system.kip.head(Head.KERNEL_PID)}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS"))


def text(count: int, results: Mapping[str, Result], cost: Cost) -> str:
    """Return a line for one point."""
    took = "; ".join(
        f"{key} {result.figures.p50 / 1000:.1f} µs ({result.references[0].ratio.value:.2f})"
        for key, result in results.items()
    )
    return f"{count:6} extents: {took}; the kernel has {cost.resident[count] / (1 << 20):.1f} MiB"


def verdicts(results: Mapping[int, Mapping[str, Result]], cost: Cost) -> dict[str, bool]:
    """Return each sentence of the verdict, and whether its goal was met."""
    few, many = min(results), max(results)
    found = {}
    for key, title in KEYS.items():
        times = growth([results[few][key], results[many][key]])
        found[f"{title}: {times:.2f} times from {few} to {many} extents (goal: at most {FLAT})"] = (
            times <= FLAT
        )
    row = f"{EXTENT_ROW + 4 + 2} bytes for each frame of RAM"
    found[f"the kernel has {cost.each:.0f} bytes for each extent, and {row}"] = True
    why = Refusal(cost.refusal).text if cost.refusal else "nothing"
    ended = f"with {cost.most} extents one more is refused: {why}"
    found[f"{ended} (goal: {Refusal.HOST_FULL.text})"] = cost.refusal == Refusal.HOST_FULL
    return found
