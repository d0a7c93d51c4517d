"""`exo bench sizes`: what a payload there and back costs against its size, through us and by the ways of others."""

import contextlib
import os
from collections.abc import Iterator, Sequence

from bench import transports
from bench.harness import Measure, Sampled
from bench.report import show_size
from bench.system import System
from bench.transports import WAYS
from bench.worker import SIZES, sized

KEYS = tuple(WAYS)
USUAL = ("dealer", "packets", "pipe", "eventfd", "nng", "grpc", "iceoryx2")
"""Without --only: one of each library, since the patterns of pyzmq differ little."""
MOST, LEAST = 200, 20
"""Samples of a round: of the smaller payloads and of the larger ones, which take longer."""
FULL = 4 << 10
"""Bytes up to which a round has the most samples; beyond, the fewer the larger."""


@contextlib.contextmanager
def measures(system: System, keys: Sequence[str], cores: Sequence[int] = ()) -> Iterator[dict[int, Measure]]:
    """Give the measure of each size in bytes, ready to run on *system*, beside the ways of *keys*."""
    echo, client = (f"bench-{part}-{os.getpid()}" for part in ("echo", "client"))
    pid = system.start("bench.programs.echo", echo)
    ours = system.worker("bench.programs.client", client, {"BENCH_ECHO": echo})
    system.place([pid, ours.pid], cores)
    with transports.running([WAYS[key] for key in keys], cores) as others:
        yield {
            size: Measure(
                "sizes", f"{show_size(size)} there and back", Sampled("typed stub", ours, sized(size)),
                [other.subject(size) for other in others if size <= other.way.most], block(size),
            )
            for size in SIZES
        }  # fmt: skip


def block(size: int) -> int:
    """Return how many samples of *size* bytes a round takes."""
    return max(LEAST, min(MOST, MOST * FULL // size))
