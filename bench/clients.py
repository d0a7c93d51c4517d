"""`exo bench clients`: how many calls a second one server answers, against how many clients call it at a time.

All clients are told to begin, one after the other, and each makes the same number of calls; what counts is the
time from when the first one began to when the last one ended, on the clock they share. A sample is that time over
all calls. A client makes calls enough to be still at it when the last one begins.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.harness import Measure, Result, Worker, reference
from bench.report import show_rate
from bench.system import System

COUNTS = (1, 2, 4, 8, 16, 32)
KEPT = 0.8
"""The part of the throughput with one client that must be left with the most."""
CALLS = {"ring": 4000, "zmq": 400}
"""Of one client, in a sample: in about as much time, some ten milliseconds when it is alone."""
BLOCK = 1
KEYS = ("ring", "zmq", "raw")
NAMES = {"ring": "typed stubs over rings", "zmq": "typed stubs over ZeroMQ", "raw": "raw pyzmq DEALER/ROUTER"}
MEMORY = "1 GiB"
"""Of a system that is booted: every ring takes some."""


@dataclass(frozen=True)
class Together:
    """Workers that call one server at the same time, as a subject."""

    name: str
    workers: Sequence[Worker]
    calls: int
    """Of each."""

    def sample(self, count: int) -> list[int]:
        """Have all of them do so *count* times, and each time return the nanoseconds a call took."""
        return [self._once() for _ in range(count)]

    def _once(self) -> int:
        for worker in self.workers:
            worker.tell("calls", self.calls)
        begun, ended = zip(*(worker.answer() for worker in self.workers), strict=True)
        return int(max(ended) - min(begun)) // (len(self.workers) * self.calls)


@contextlib.contextmanager
def measures(
    system: System, keys: Sequence[str], cores: Sequence[int], counts: Sequence[int]
) -> Iterator[dict[int, Measure]]:
    """Give the measure of each of *counts* clients; its parties are those of *keys*, the first the subject."""
    with contextlib.ExitStack() as open_:
        workers = {key: _workers(system, key, max(counts), cores, open_) for key in KEYS if key in keys}
        yield {count: _measure(workers, count) for count in counts}


def _measure(workers: Mapping[str, Sequence[Worker]], count: int) -> Measure:
    subject, *others = (together(key, all_, count) for key, all_ in workers.items())
    return Measure("clients", f"{clients(count)} of one server: time of a call", subject, others, BLOCK)


def together(key: str, workers: Sequence[Worker], count: int, name: str = "") -> Together:
    """Return the first *count* of *workers*, which call by the way *key*, as a subject."""
    return Together(name or NAMES[key], workers[:count], CALLS["ring" if key == "ring" else "zmq"])


def clients(count: int) -> str:
    """Return *count* clients in words."""
    return f"{count} client{'s' * (count != 1)}"


def _workers(
    system: System, key: str, count: int, cores: Sequence[int], open_: contextlib.ExitStack
) -> list[Worker]:
    return _raw(count, cores, open_) if key == "raw" else environments(system, key, count, cores)


def environments(system: System, transport: str, count: int, cores: Sequence[int]) -> list[Worker]:
    """Start a server and *count* clients that call it over *transport*."""
    echo = f"{transport}-shared-{os.getpid()}"
    pid = system.start("bench.programs.echo", echo)
    environ = {"BENCH_ECHO": echo, "BENCH_TRANSPORT": transport}
    made = [
        system.worker("bench.programs.client", f"{transport}-{os.getpid()}-{number}", environ)
        for number in range(count)
    ]
    system.place([pid, *(worker.pid for worker in made)], cores)
    return made


def _raw(count: int, cores: Sequence[int], open_: contextlib.ExitStack) -> list[Worker]:
    """Start as many plain processes, of which the first has the server as its child."""
    address = f"ipc://{Path(open_.enter_context(TemporaryDirectory(prefix='exo-bench-'))) / 'reference'}"
    return [
        open_.enter_context(
            reference("bench.references.zmq_clients", address, *["--serve"] * (number == 0), cores=cores)
        )
        for number in range(count)
    ]


def kept(points: Mapping[int, Result]) -> float:
    """Return what part of the throughput of the fewest clients the most have left."""
    results = [*points.values()]
    return results[0].figures.p50 / results[-1].figures.p50


def text(count: int, result: Result) -> str:
    """Return a point as a line."""
    parties = [(result.measure.subject.name, result.figures)]
    parties += [(each.name, each.figures) for each in result.references]
    told = "; ".join(
        f"{name} {show_rate(figures.p50)}/s [{show_rate(figures.high)}, {show_rate(figures.low)}]"
        for name, figures in parties
    )
    return f"{clients(count):>10}: {told}; n {result.figures.n}"
