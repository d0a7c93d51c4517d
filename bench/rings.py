"""`exo bench rings`: what the ring transport is for, each aim beside what it is an aim in comparison with.

Two parties, each kept on a core: on the two given, or both on the first. Where both shall sleep between messages,
EXO_SPIN=0 keeps them from spinning. Only the clients of one server are left where the host puts them.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench import bulk, clients, transports
from bench.errors import BenchError
from bench.harness import Measure, Sampled, Subject, Worker, place, reference
from bench.report import show_size
from bench.system import System
from bench.transports import WAYS
from bench.worker import SIZES, sized

BLOCK = 500
STREAM_BLOCK = 5
MAP_BLOCK, FLAT_BLOCK = 2, 50
MEMORY = bulk.MEMORY
LARGE, SMALL = 1 << 30, 1 << 20
"""Bytes that are mapped: it must not matter how many."""
NEVER_SPIN = {"EXO_SPIN": "0"}
GOALS: Mapping[str, tuple[float, ...]] = {
    "call": (1 / 25, 7, 1),
    "kept": (4,),
    "sleep-other": (1.5,),
    "sleep-same": (1.5, 1 / 3),
    "zmq": (1.15,),
    "zmq-same": (1.15,),
    "map": (1 / 100,),
    "flat": (1.25,),
    "clients": (1 / clients.KEPT,),
}
"""Of each measure, the largest ratios to its references that are good enough."""
STREAM_GOAL = 2000
"""Nanoseconds for a message of a stream: 500,000 in a second."""
KEYS = ("call", "kept", "sleep-other", "sleep-same", "zmq", "zmq-same", "stream", "map", "flat", "clients")
APART = frozenset({"call", "kept", "sleep-other", "zmq", "stream"})
"""Those of parties on two cores."""
TOGETHER = frozenset({"sleep-same", "zmq-same"})
"""Those of parties on one core."""
MAPPING = frozenset({"map", "flat"})
"""Those that take memory."""
_BOTH = 2


@dataclass(frozen=True)
class Stage:
    """The places of a measure's parties."""

    system: System
    transport: str
    """What typed stubs go over."""
    near: int
    far: int
    """Cores: the measuring side's, and the other side's."""
    open: contextlib.ExitStack

    def stub(self, key: str, environ: Mapping[str, str] | None = None, transport: str = "") -> Sampled:
        """Start a server and a client of typed stubs, for the measure *key*; return the 64-byte call."""
        transport = transport or self.transport
        echo, client = (f"{key}-{part}-{os.getpid()}" for part in ("echo", "client"))
        environ = {**(environ or {}), "BENCH_TRANSPORT": transport}
        pid = self.system.start("bench.programs.echo", echo, environ=environ)
        worker = self.system.worker("bench.programs.client", client, {**environ, "BENCH_ECHO": echo})
        self._place(worker.pid, pid)
        return Sampled(f"typed stub, {transport}", worker, "stub")

    def stream(self) -> Sampled:
        """Start a sink and its sender; return the stream."""
        sink, streamer = (f"{part}-{os.getpid()}" for part in ("sink", "streamer"))
        environ = {"BENCH_TRANSPORT": self.transport, "BENCH_SINK": sink}
        pid = self.system.start("bench.programs.sink", sink, environ=environ)
        worker = self.system.worker("bench.programs.streamer", streamer, environ)
        self._place(worker.pid, pid)
        return Sampled(f"one way, {self.transport}", worker, "stream")

    def mapped(self, key: str, *sizes: int) -> list[Sampled]:
        """Start the giver of extents, for the measure *key*, and their mapper; return it for each of *sizes*."""
        bulk.check_host(max(sizes))
        store, worker = bulk.start(self.system, self.transport, f"{key}-")
        self._place(worker.pid, store)
        return [Sampled(f"{show_size(size)}, mapped", worker, f"ends-{sized(size)}") for size in sizes]

    def plain(self, module: str, *arguments: str) -> Worker:
        """Start a reference."""
        return self.open.enter_context(
            reference(f"bench.references.{module}", *arguments, cores=(self.near,), peer_cores=(self.far,))
        )

    def way(self, key: str) -> Sampled:
        """Start one of the ways of others; return 64 bytes there and back."""
        way = WAYS[key]
        return Sampled(way.name, self.plain(way.module, *way.arguments), sized(SIZES[0]))

    def _place(self, near: int, far: int) -> None:
        place([near], (self.near,))
        place([far], (self.far,))


def possible(keys: Sequence[str], cores: Sequence[int]) -> list[str]:
    """Return those of *keys* for which *cores* suffice. Raises BenchError when none is left."""
    left = [key for key in KEYS if key in keys and (len(cores) >= _BOTH or key not in APART)]
    if not left:
        raise BenchError(f"two parties on different CPUs take two cores, and there is {cores[0]} only")
    return left


def fitting(system: System, keys: Sequence[str]) -> list[str]:
    """Return those of *keys* for which *system* has the memory; say which it has not."""
    if not MAPPING.intersection(keys):
        return [*keys]
    bulk.tell_left_out(system, (SMALL, LARGE))
    fits = LARGE in bulk.fitting(system, (SMALL, LARGE))
    return [key for key in keys if fits or key not in MAPPING]


@contextlib.contextmanager
def measure(system: System, key: str, cores: Sequence[int], transport: str = "ring") -> Iterator[Measure]:
    """Give the measure *key* on *system*, ready to run; its parties end with the block. Raises BenchError."""
    with contextlib.ExitStack() as open_:
        far = cores[0] if key in TOGETHER else cores[-1 if len(cores) < _BOTH else 1]
        yield MAKERS[key](Stage(system, transport, cores[0], far, open_))


def _call(stage: Stage) -> Measure:
    references: list[Subject] = [
        stage.way("dealer"),
        Sampled("bare word, both spin", stage.plain("word"), "word"),
    ]
    if WAYS["iceoryx2"].installed:
        references.append(stage.way("iceoryx2"))
    transports.tell_missing([WAYS["iceoryx2"]])
    return Measure("call", "64-byte call through typed stubs, both awake, two cores", stage.stub("call"),
                   references, BLOCK, GOALS["call"][: len(references)])  # fmt: skip


def _kept(stage: Stage) -> Measure:
    ordinary = stage.stub("kept")
    kept = Sampled(f"with a time-out, {stage.transport}", ordinary.worker, "kept")
    return Measure("kept", "64-byte call that is kept account of, two cores", kept, [ordinary], BLOCK,
                   GOALS["kept"])  # fmt: skip


def _sleep_other(stage: Stage) -> Measure:
    return Measure("sleep-other", "64-byte call, both asleep between, two cores", stage.stub("other", NEVER_SPIN),
                   [stage.way("eventfd"), stage.way("dealer")], BLOCK, GOALS["sleep-other"])  # fmt: skip


def _sleep_same(stage: Stage) -> Measure:
    return Measure("sleep-same", "64-byte call, both asleep between, one core", stage.stub("same", NEVER_SPIN),
                   [stage.way("eventfd"), stage.way("dealer")], BLOCK, GOALS["sleep-same"])  # fmt: skip


def _zmq(stage: Stage) -> Measure:
    return _over_sockets(stage, "zmq", "two cores")


def _zmq_same(stage: Stage) -> Measure:
    return _over_sockets(stage, "zmq-same", "one core")


def _over_sockets(stage: Stage, key: str, where: str) -> Measure:
    return Measure(key, f"64-byte call through typed stubs over ZeroMQ, {where}", stage.stub(key, transport="zmq"),
                   [stage.way("dealer")], BLOCK, GOALS[key])  # fmt: skip


def _stream(stage: Stage) -> Measure:
    return Measure("stream", "64-byte messages one way, two cores: time for each", stage.stream(),
                   [Sampled("raw pyzmq DEALER/ROUTER", stage.plain("zmq_stream"), "stream")], STREAM_BLOCK,
                   most=STREAM_GOAL)  # fmt: skip


def _map(stage: Stage) -> Measure:
    return Measure("map", "1 GiB one way: an extent that is mapped", stage.mapped("map", LARGE)[0],
                   [Sampled("1 GiB through a pipe", stage.plain("pipe_bulk"), f"bulk-{sized(LARGE)}")],
                   MAP_BLOCK, GOALS["map"])  # fmt: skip


def _flat(stage: Stage) -> Measure:
    large, small = stage.mapped("flat", LARGE, SMALL)
    return Measure("flat", "an extent that is mapped, against its size", large, [small], FLAT_BLOCK,
                   GOALS["flat"])  # fmt: skip


def _clients(stage: Stage) -> Measure:
    most = max(clients.COUNTS)
    workers = clients.environments(stage.system, stage.transport, most, (stage.near, stage.far))
    subject, one = (
        clients.together(stage.transport, workers, count, clients.clients(count)) for count in (most, 1)
    )
    return Measure("clients", f"{subject.name} of one server: time of a call", subject, [one], clients.BLOCK,
                   GOALS["clients"])  # fmt: skip


MAKERS: Mapping[str, Callable[[Stage], Measure]] = {
    "call": _call, "kept": _kept, "sleep-other": _sleep_other, "sleep-same": _sleep_same, "zmq": _zmq,
    "zmq-same": _zmq_same, "stream": _stream, "map": _map, "flat": _flat, "clients": _clients,
}  # fmt: skip
