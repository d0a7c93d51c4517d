"""Sends BENCH_SINK messages of 64 bytes, one after the other, and times them."""

import os

import libexo
from bench.programs.connecting import connected
from bench.programs.sink import STREAM, Sink
from bench.worker import Sampler, each_of, work
from libexo.environment import Environment
from libexo.message import Message

PATIENCE = 10.0
"""Seconds for the sink to be there."""


def main() -> None:
    """Measure until stdin ends."""
    environment = libexo.attach()
    work({"stream": lambda: _stream(environment)})


def _stream(environment: Environment) -> Sampler:
    name = os.environ["BENCH_SINK"]
    to, sink = environment.lookup(name, PATIENCE), connected(Sink, environment, name)
    assert sink.taken() == 0
    send, message = environment.thread.send, Message(STREAM, (), (bytes(range(64)),))

    def stream(count: int) -> None:
        for _ in range(count):
            send(to, message)
        if (taken := sink.taken()) != count:
            raise RuntimeError(f"of {count} messages {taken} were taken")

    return each_of(stream)


if __name__ == "__main__":
    main()
