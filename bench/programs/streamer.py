"""Sends BENCH_SINK messages of 64 bytes, one after the other, and times them."""

import os

import libexo
from bench.programs.connecting import connected
from bench.programs.sink import Sink
from bench.worker import Sampler, each_of, work
from libexo.environment import Environment


def main() -> None:
    """Measure until stdin ends."""
    environment = libexo.attach()
    work({"stream": lambda: _stream(environment)})


def _stream(environment: Environment) -> Sampler:
    sink, data = connected(Sink, environment, os.environ["BENCH_SINK"]), bytes(range(64))
    assert sink.taken() == 0

    def stream(count: int) -> None:
        take = sink.take
        for _ in range(count):
            take(data)
        if (taken := sink.taken()) != count:
            raise RuntimeError(f"of {count} messages {taken} were taken")

    return each_of(stream)


if __name__ == "__main__":
    main()
