"""The measuring side of the system: an environment like any other, which times what it does itself."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import monotonic_ns

import libexo
from bench.programs.connecting import connected
from bench.programs.echo import Echo
from bench.worker import SIZES, Sampler, round_trip, sized, span, timed, work
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.program import ProgramKind
from libexo import vm
from libexo.environment import Environment
from libexo.ipc.message import Message
from servers.memory.api import Memory
from servers.process.api import Processes, ProgramSpec

PAYLOAD = bytes(range(64))
WORDS = tuple(range(1, 9))
PAGES = 16
LONG = 3600.0
"""Seconds a call with a time-out may take: it never does."""


def main() -> None:
    """Measure what is asked for until stdin ends."""
    environment = libexo.attach()
    work(
        {
            "stub": lambda: timed(_echo(environment)),
            "kept": lambda: timed(_echo(environment, LONG)),
            "calls": lambda: span(_echo(environment)),
            "words": lambda: _words(environment),
            "null": lambda: timed(lambda: environment.sys.batch(())),
            "bind": lambda: _bind(environment),
            "memory": lambda: _memory(environment),
            "spawn": lambda: _Spawner(environment).sample,
            **{sized(size): partial(_echoed, environment, size) for size in SIZES},
        }
    )


def _echo(environment: Environment, timeout: float | None = None) -> Callable[[], bytes]:
    echo = connected(Echo, environment, os.environ["BENCH_ECHO"], timeout)
    assert echo.echo(PAYLOAD) == PAYLOAD
    return lambda: echo.echo(PAYLOAD)


def _echoed(environment: Environment, size: int) -> Sampler:
    return round_trip(connected(Echo, environment, os.environ["BENCH_ECHO"]).echo, size)


def _words(environment: Environment) -> Sampler:
    thread, to, message = (
        environment.thread,
        environment.lookup(os.environ["BENCH_MIRROR"], 5),
        Message(1, WORDS),
    )
    assert thread.call(to, message).words == WORDS
    return timed(lambda: thread.call(to, message))


def _bind(environment: Environment) -> Sampler:
    sys, to, close = (
        environment.sys,
        environment.lookup(os.environ["BENCH_MIRROR"], 5),
        environment.host.close_descriptor,
    )

    def bind() -> None:
        bound, tickets = sys.bind(to)
        for ticket in tickets:
            close(ticket)
        sys.unbind(bound.token)

    return timed(bind)


def _memory(environment: Environment) -> Sampler:
    memory = Memory.connect(environment)
    made = []

    def make() -> None:
        extent = memory.allocate(PAGES)
        view = vm.map(environment, extent)
        for page in range(0, PAGES * FRAME_SIZE, FRAME_SIZE):
            view[page] = 1
        made.append((extent, view))

    def free() -> None:
        extent, view = made.pop()
        vm.unmap(environment, view)
        memory.free(extent)

    return timed(make, free)


class _Spawner:
    """Spawns a program that says when its first instruction ran, on the clock all processes share."""

    def __init__(self, environment: Environment) -> None:
        self._thread = environment.thread
        self._processes = Processes.connect(environment)
        environ: Mapping[str, str] = {"BENCH_PARENT": str(environment.thread.id)}
        program = str(Path(os.environ["BENCH_PROGRAMS"]) / "first.py")
        self._spec = ProgramSpec(int(ProgramKind.PYTHON), (program,), environ=tuple(environ.items()))

    def sample(self, count: int) -> list[int]:
        """Spawn *count* programs, one after the other."""
        return [self._one() for _ in range(count)]

    def _one(self) -> int:
        start = monotonic_ns()
        child = self._processes.spawn(self._spec)
        _, message = self._thread.receive(child, 10)
        self._processes.wait(child)
        return message.words[0] - start


if __name__ == "__main__":
    main()
