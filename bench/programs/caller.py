"""Calls the echo server BENCH_ECHO: a process that attaches by itself, on the host or in a container."""

import os

import libexo
from bench.programs.echo import Echo
from bench.worker import timed, work

PAYLOAD = bytes(range(64))


def main() -> None:
    """Measure until stdin ends."""
    echo = Echo.connect(libexo.attach(), os.environ["BENCH_ECHO"])
    echo.echo(PAYLOAD)
    work({"stub": lambda: timed(lambda: echo.echo(PAYLOAD))})


if __name__ == "__main__":
    main()
