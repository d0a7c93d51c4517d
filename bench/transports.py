"""The ways of others for two processes to exchange bytes: what a call is compared with.

All of them answer `bench.worker.sized`. Some are libraries that need not be installed: those that are not are
left out of a run, and `missing` says which, and what to do.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from bench.harness import Sampled, Worker, reference
from bench.worker import SIZES, sized


@dataclass(frozen=True)
class Way:
    """One of them."""

    name: str
    module: str
    """In `bench.references`."""
    arguments: tuple[str, ...] = ()
    package: str = ""
    """What must be importable; empty: comes with the project."""
    distribution: str = ""
    """How pip calls that."""
    most: int = SIZES[-1]
    """The largest payload, in bytes."""

    @property
    def installed(self) -> bool:
        """Whether it can be run here."""
        return not self.package or find_spec(self.package) is not None


WAYS = {
    "dealer": Way("raw pyzmq DEALER/ROUTER", "raw_zmq"),
    "req": Way("raw pyzmq REQ/REP", "zmq_patterns", ("REQ", "REP")),
    "pair": Way("raw pyzmq PAIR", "zmq_patterns", ("PAIR", "PAIR")),
    "packets": Way("Unix socket, SEQPACKET", "seqpacket", most=4 << 10),
    "pipe": Way("multiprocessing.Pipe", "mp_pipe"),
    "eventfd": Way("eventfd and shared memory", "eventfd"),
    "nng": Way("pynng REQ/REP", "nng", package="pynng", distribution="pynng"),
    "grpc": Way("gRPC unary call", "grpc_unary", package="grpc", distribution="grpcio"),
    "iceoryx2": Way("iceoryx2 request, event", "iceoryx", package="iceoryx2", distribution="iceoryx2"),
}
"""By how the command line calls them; the first one is what goals are about."""


@dataclass(frozen=True)
class Running:
    """A way and the process that measures it."""

    way: Way
    worker: Worker

    def subject(self, size: int) -> Sampled:
        """Return the round trip of *size* bytes."""
        return Sampled(self.way.name, self.worker, sized(size))


@contextlib.contextmanager
def running(ways: Sequence[Way], cores: Sequence[int] = ()) -> Iterator[list[Running]]:
    """Start those of *ways* that are installed, both parties of each on *cores*. Raises BenchError."""
    with contextlib.ExitStack() as open_:
        yield [
            Running(way, open_.enter_context(reference(_place(way), *way.arguments, cores=cores)))
            for way in ways
            if way.installed
        ]


def missing(ways: Sequence[Way]) -> list[str]:
    """Return a line for each of *ways* that is not installed."""
    return [
        f"{way.name} is left out: not installed: pip install {way.distribution}"
        for way in ways
        if not way.installed
    ]


def tell_missing(ways: Sequence[Way]) -> None:
    """Print them, where they do not mix with results."""
    for line in missing(ways):
        print(line, file=sys.stderr, flush=True)


def _place(way: Way) -> str:
    return f"bench.references.{way.module}"
