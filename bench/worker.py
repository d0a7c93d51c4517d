"""The inside of a process that measures: told over its stdin what to do, it answers with samples on its stdout.

A line in is `NAME COUNT`, a line out the JSON of COUNT samples in nanoseconds. The first line out is empty: it
is ready. It ends with its stdin. Environments and plain processes speak the same, so they are timed alike.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from time import monotonic_ns

import msgspec

Sampler = Callable[[int], list[int]]
"""Takes that many samples."""

_PR_SET_PDEATHSIG = 1


def timed(action: Callable[[], object], after: Callable[[], object] | None = None) -> Sampler:
    """Return a sampler of how long *action* takes; *after* is called between samples, on nobody's time."""

    def sample(count: int) -> list[int]:
        samples = []
        for _ in range(count):
            start = monotonic_ns()
            action()
            samples.append(monotonic_ns() - start)
            if after is not None:
                after()
        return samples

    return sample


def work(makers: Mapping[str, Callable[[], Sampler]]) -> None:
    """Serve the samplers of *makers* until stdin ends; each is made when it is first asked for."""
    samplers: dict[str, Sampler] = {}
    encode = msgspec.json.Encoder().encode
    out = sys.stdout.buffer
    out.write(b"\n")
    out.flush()
    for line in sys.stdin:
        name, count = line.split()
        if name not in samplers:
            samplers[name] = makers[name]()
        out.write(encode(samplers[name](int(count))) + b"\n")
        out.flush()


@contextlib.contextmanager
def peer(serve: Callable[[], None], *, own_session: bool) -> Iterator[int]:
    """Fork a process that runs *serve*, ended with the block or with us; gives its process id.

    Linux schedules sessions against each other (autogroup), and a wake-up from one to another costs more than
    within one. Environments have a session each, so what they are compared with has too: *own_session*.
    """
    pid = os.fork()
    if pid == 0:
        if own_session:
            os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(BaseException):
            serve()
        os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
