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
from functools import partial
from time import monotonic_ns

import msgspec

from kernel.abi.limits import FRAME_SIZE, MAX_WORDS

Sampler = Callable[[int], list[int]]
"""Takes that many samples."""

WORD_BYTES = 8
SIZES = (64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20)
"""The payloads there and back, in bytes, of measures with payloads of more than one size."""
STREAM = 2000
"""Messages of a stream that are timed together."""
BULK = tuple(64 << step for step in range(0, 26, 2))
"""What is passed one way, in bytes, by measures of bulk: 64 B to 1 GiB."""
PIECE = 1 << 20
"""Bytes at most of one message, or one write, of those that copy: the same ones again and again."""
_PR_SET_PDEATHSIG = 1


def timed(action: Callable[[], object], after: Callable[[], object] | None = None) -> Sampler:
    """Return a sampler of how long *action* takes; *after* is called between samples, outside the measured time."""

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


def span(action: Callable[[], object]) -> Sampler:
    """Return a sampler that does *action* as often as asked; its samples are when that began, and when it ended."""

    def sample(count: int) -> list[int]:
        start = monotonic_ns()
        for _ in range(count):
            action()
        return [start, monotonic_ns()]

    return sample


def each_of(action: Callable[[int], object]) -> Sampler:
    """Return a sampler of how long one takes of `STREAM` that *action* does in one go."""

    def sample(count: int) -> list[int]:
        samples = []
        for _ in range(count):
            start = monotonic_ns()
            action(STREAM)
            samples.append((monotonic_ns() - start) // STREAM)
        return samples

    return sample


def sweep(name: str, maker: Callable[[int], Sampler]) -> dict[str, Callable[[], Sampler]]:
    """Return the makers of NAME-0, NAME-1 and so on: *maker* for each count of words a message may have."""
    return {f"{name}-{words}": partial(maker, words) for words in range(MAX_WORDS + 1)}


def round_trips(call: Callable[[bytes], bytes]) -> dict[str, Callable[[], Sampler]]:
    """Return the makers of `round_trip` of *call*, for each of SIZES by its name."""
    return {sized(size): partial(round_trip, call, size) for size in SIZES}


def round_trip(call: Callable[[bytes], bytes], size: int) -> Sampler:
    """Return a sampler of *call* with a payload of *size* bytes, which returns what comes back: the same."""
    payload = bytes(range(SIZES[0])) * (size // SIZES[0])
    if call(payload) != payload:
        raise RuntimeError(f"{size} bytes came back otherwise")
    return timed(partial(call, payload))


def sized(size: int) -> str:
    """Return what a worker calls the round trip of *size* bytes."""
    return f"bytes-{size}"


def bulks(makers: Mapping[str, Callable[[int], Sampler]]) -> dict[str, Callable[[], Sampler]]:
    """Return *makers* for each size of `BULK`: under its name, with what `sized` says after it."""
    return {f"{name}-{sized(size)}": partial(maker, size) for name, maker in makers.items() for size in BULK}


def pieces(size: int) -> tuple[bytes, int]:
    """Return a piece, and how many of it are *size* bytes of BULK."""
    piece = bytes(range(SIZES[0])) * (min(size, PIECE) // SIZES[0])
    return piece, size // len(piece)


def read_pages(memory: memoryview) -> int:
    """Read a byte of every page of *memory*; return what they come to: proof that they were read."""
    return sum(memory[::FRAME_SIZE])


def message_bytes(words: int) -> int:
    """Return how many bytes *words* words take, with the tag before them."""
    return (1 + words) * WORD_BYTES


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
