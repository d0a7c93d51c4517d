"""`exo bench rings --only pairs`: fresh pairs of processes, not pinned: how bad a place the host may give one.

Each pair is two new environments that call over a ring, and beside them two new plain processes with raw pyzmq, a
session each as well; they take turns. What counts is the worst pair.
"""

import contextlib
import os
from collections.abc import Iterator

from bench.harness import Measure, Result, Sampled, reference, run
from bench.system import System
from bench.transports import WAYS
from bench.worker import SIZES, sized

COUNT = 20
BLOCK = 500
GOAL = 0.3
"""Of the worst pair's call, in times of raw pyzmq beside it."""


def each(system: System, transport: str, rounds: int) -> Iterator[Result]:
    """Start COUNT pairs on *system*, one after the other, and give the result of each; it ends before the next."""
    for number in range(COUNT):
        with contextlib.ExitStack() as open_:
            own = open_.enter_context(contextlib.closing(System(system.run, booted=False)))
            yield run(_measure(own, transport, number, open_), rounds)


def _measure(system: System, transport: str, number: int, open_: contextlib.ExitStack) -> Measure:
    echo, client = (f"pair-{part}-{os.getpid()}-{number}" for part in ("echo", "client"))
    system.start("bench.programs.echo", echo)
    environ = {"BENCH_TRANSPORT": transport, "BENCH_ECHO": echo}
    worker = system.worker("bench.programs.client", client, environ)
    way = WAYS["dealer"]
    raw = open_.enter_context(reference(f"bench.references.{way.module}", *way.arguments))
    subject = Sampled(f"typed stub, {transport}, the worst pair", worker, "stub")
    title = f"64-byte call of {COUNT} fresh pairs, nobody pinned: the worst"
    return Measure("pairs", title, subject, [Sampled(way.name, raw, sized(SIZES[0]))], BLOCK, (GOAL,))


def ratio(result: Result) -> float:
    """Return what is compared."""
    return result.references[0].ratio.value


def text(number: int, result: Result) -> str:
    """Return one pair as a line, with what the machine did besides."""
    ring, raw = result.figures.p50 / 1000, result.references[0].figures.p50 / 1000
    load = os.getloadavg()[0]
    return f"  pair {number:2}: {ring:6.1f} µs, raw pyzmq {raw:6.1f} µs, ratio {ratio(result):.3f}, load {load:.1f}"
