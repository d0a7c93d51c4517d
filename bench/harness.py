"""The machinery: subjects, workers, interleaved runs.

A *subject* gives samples; so does each *reference*. A *measure* is a subject, its references and, where there
are any, the goals of the ratios. They take turns in blocks, a round at a time, each round in the other order, so
that whatever the host does meanwhile happens to all of them. The first blocks warm up and are thrown away.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import msgspec
import psutil

from bench.errors import BenchError
from bench.figures import Block, Ratio, Summary, compare, summarize

ROOT = Path(__file__).resolve().parent.parent
_SAMPLES = msgspec.json.Decoder(list[int])


class Subject(Protocol):
    """Something that can be measured."""

    @property
    def name(self) -> str:
        """Its name in tables and pictures."""

    def sample(self, count: int) -> list[int]:
        """Take *count* samples, in nanoseconds."""


@dataclass(frozen=True)
class Measure:
    """A subject and what it is compared with."""

    key: str
    """Names it in JSON and on the command line."""
    title: str
    subject: Subject
    references: Sequence[Subject]
    block: int
    """Samples of a round."""
    goals: Sequence[float | None] = ()
    """Of each reference the largest ratio of p50s that is good enough; those beyond the last have none."""
    most: float | None = None
    """The largest p50 that is good enough whatever the references say, in nanoseconds."""
    unit: str = ""
    """What is counted, where samples are no times."""


@dataclass(frozen=True)
class Reference:
    """A reference's part of a result."""

    name: str
    blocks: Sequence[Block]
    figures: Summary
    ratio: Ratio
    goal: float | None = None
    """The largest ratio that is good enough."""

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None without a goal."""
        return None if self.goal is None else self.ratio.value <= self.goal


@dataclass(frozen=True)
class Result:
    """The result of a measure."""

    measure: Measure
    blocks: Sequence[Block]
    figures: Summary
    references: Sequence[Reference]

    @property
    def met(self) -> bool | None:
        """Whether every goal was met; None without one."""
        most = self.measure.most
        each = [reference.met for reference in self.references]
        each.append(None if most is None else self.figures.p50 <= most)
        told = [met for met in each if met is not None]
        return all(told) if told else None


def run(measure: Measure, rounds: int) -> Result:
    """Run *measure* for *rounds* rounds, and one more to warm up."""
    return run_together([measure], rounds)[0]


def run_together(measures: Sequence[Measure], rounds: int) -> list[Result]:
    """Run *measures* so, side by side: a round takes a block of all that take part in any of them."""
    parties = [(measure.subject, *measure.references) for measure in measures]
    turns = [(of, party) for of, subjects in enumerate(parties) for party in range(len(subjects))]
    taken: list[list[list[Block]]] = [[[] for _ in subjects] for subjects in parties]
    for number in range(rounds + 1):
        for of, party in turns if number % 2 else reversed(turns):
            block = parties[of][party].sample(measures[of].block)
            if number:
                taken[of][party].append(block)
    return [_result(measure, *blocks) for measure, blocks in zip(measures, taken, strict=True)]


def _result(measure: Measure, own: Sequence[Block], *others: Sequence[Block]) -> Result:
    references = [
        Reference(reference.name, blocks, summarize(blocks), compare(own, blocks), goal)
        for reference, blocks, goal in zip(measure.references, others, _goals(measure), strict=True)
    ]
    return Result(measure, own, summarize(own), references)


def _goals(measure: Measure) -> list[float | None]:
    """Return the goal of each reference of *measure*."""
    return [*measure.goals, *[None] * (len(measure.references) - len(measure.goals))]


# ---------------------------------------------------------------------------------------------------- workers


class Worker:
    """A process that measures: see `bench.worker` for its side."""

    def __init__(self, told: IO[bytes], says: IO[bytes], pid: int, end: Callable[[], None]) -> None:
        """Talk to process *pid* over its stdin *told* and its stdout *says*; *end* ends it."""
        self.pid = pid
        self._told = told
        self._says = says
        self._end = end
        self._read()

    def sample(self, name: str, count: int) -> list[int]:
        """Have it take *count* samples of *name*."""
        self.tell(name, count)
        return self.answer()

    def tell(self, name: str, count: int) -> None:
        """Have it begin to take *count* samples of *name*, which `answer` returns."""
        try:
            self._told.write(f"{name} {count}\n".encode())
            self._told.flush()
        except BrokenPipeError:
            raise BenchError(f"process {self.pid}, which measures, is gone: its error is above") from None

    def answer(self) -> list[int]:
        """Return the samples it was told to take."""
        return _SAMPLES.decode(self._read())

    def thread(self, name: str) -> int:
        """Have it start its thread *name*; return what the host calls it."""
        return self.sample(name, 1)[0]

    def _read(self) -> bytes:
        line = self._says.readline()
        if not line:
            raise BenchError(f"process {self.pid}, which measures, ended: its error is above")
        return line

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(BrokenPipeError):
            self._told.close()
        self._end()
        self._says.close()


@dataclass(frozen=True)
class Sampled:
    """One thing a worker measures, as a subject."""

    name: str
    worker: Worker
    what: str

    def sample(self, count: int) -> list[int]:
        """Have the worker take them."""
        return self.worker.sample(self.what, count)


@contextlib.contextmanager
def reference(
    module: str, *arguments: str, cores: Sequence[int] = (), peer_cores: Sequence[int] | None = None
) -> Iterator[Worker]:
    """Run *module* as a plain process that measures, on *cores* (none: anywhere).

    What it starts runs there too, or on *peer_cores*.
    """
    environ = {**os.environ, "PYTHONPATH": import_path()}
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.closing(
        Worker(process.stdin, process.stdout, process.pid, lambda: _wait(process))
    ) as worker:
        place([process.pid], cores)
        peers = [child.pid for child in psutil.Process(process.pid).children()]
        place(peers, cores if peer_cores is None else peer_cores)
        yield worker


def _wait(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def place(pids: Sequence[int], cores: Sequence[int]) -> None:
    """Keep every thread of *pids* on *cores*; empty: where the host puts them."""
    if cores:
        place_threads([thread.id for pid in pids for thread in psutil.Process(pid).threads()], cores)


def place_threads(threads: Sequence[int], cores: Sequence[int]) -> None:
    """Keep *threads*, by what the host calls them, on *cores*."""
    try:
        for thread in threads:
            os.sched_setaffinity(thread, cores)
    except OSError as error:
        raise BenchError(
            f"cannot keep threads on cores {cores}: {error}; run as root, or without --cores"
        ) from None


def import_path() -> str:
    """Return a PYTHONPATH on which `bench` and the system are found."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
