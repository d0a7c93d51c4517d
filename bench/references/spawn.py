"""From the decision to start a program to its first instruction: a fresh interpreter, and a bare fork."""

import os
import subprocess
import sys
from collections.abc import Callable
from time import monotonic_ns

from bench.worker import Sampler, work

PROGRAM = "import time; FIRST = time.monotonic_ns(); print(FIRST)"


def interpreter() -> int:
    """Return what `python -c` says."""
    return int(subprocess.check_output([sys.executable, "-c", PROGRAM]))


def fork() -> int:
    """Return what a forked child says."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, str(monotonic_ns()).encode())
        os._exit(0)
    os.close(writing)
    first = int(os.read(reading, 64))
    os.close(reading)
    os.waitpid(pid, 0)
    return first


def sampler(start: Callable[[], int]) -> Sampler:
    """Return a sampler of the time until what *start* says."""

    def sample(count: int) -> list[int]:
        samples = []
        for _ in range(count):
            before = monotonic_ns()
            samples.append(start() - before)
        return samples

    return sample


if __name__ == "__main__":
    work({"interpreter": lambda: sampler(interpreter), "fork": lambda: sampler(fork)})
