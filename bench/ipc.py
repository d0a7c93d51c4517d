"""`exo bench ipc`: what a call, a trap, a binding, memory and a new environment cost."""

import contextlib
import os
from collections.abc import Iterator, Sequence

from bench import transports
from bench.harness import Measure, Sampled, Worker, reference
from bench.system import PROGRAMS, System
from bench.transports import WAYS
from bench.worker import SIZES

GOALS = {"stub": 1.15, "null": 5.0, "bind": 5.0}
"""The largest ratio to its first reference that is good enough."""
ONE_CORE = frozenset({"null", "bind"})
"""Those whose goal is for the case that all are on one core."""
BLOCK = 200
SPAWN_BLOCK = 5
KEYS = ("stub", "transports", "words", "null", "bind", "memory", "spawn")


@contextlib.contextmanager
def measures(
    system: System, keys: Sequence[str] = KEYS, cores: Sequence[int] = ()
) -> Iterator[list[Measure]]:
    """Give the measures of *keys*, ready to run on *system*; what takes part is kept on *cores*, if any."""
    names = {part: f"bench-{part}-{os.getpid()}" for part in ("echo", "mirror", "client")}
    pids = [system.start(f"bench.programs.{part}", names[part]) for part in ("echo", "mirror")]
    environ = {
        "BENCH_ECHO": names["echo"], "BENCH_MIRROR": names["mirror"], "BENCH_PROGRAMS": str(PROGRAMS)
    }  # fmt: skip
    client = system.worker("bench.programs.client", names["client"], environ)
    system.place([*pids, client.pid], cores)
    with contextlib.ExitStack() as open_:

        def plain(name: str, *arguments: str) -> Worker:
            return open_.enter_context(reference(f"bench.references.{name}", *arguments, cores=cores))

        packets, memory, spawn = plain("seqpacket"), plain("memory"), plain("spawn")
        pyzmq = [
            Sampled("raw pyzmq DEALER/ROUTER", plain("raw_zmq"), "call"),
            Sampled("the same, both in one session", plain("raw_zmq", "--one-session"), "call"),
        ]
        made = [
            Measure("stub", "64-byte call through typed stubs", Sampled("typed stub", client, "stub"), pyzmq,
                    BLOCK, _goal("stub", cores)),
            *_transports(client, keys, cores, open_),
            Measure("words", "call with 8 words", Sampled("ipc.Message", client, "words"), pyzmq, BLOCK),
            Measure("null", "null trap", Sampled("empty batch", client, "null"),
                    [Sampled("SEQPACKET round trip", packets, "null")], BLOCK, _goal("null", cores)),
            Measure("bind", "bind and unbind", Sampled("bind, unbind", client, "bind"),
                    [Sampled("2 round trips, 2 descriptors", packets, "bind")], BLOCK, _goal("bind", cores)),
            Measure("memory", "64 KiB: carve, grant, map, touch", Sampled("memory server", client, "memory"),
                    [Sampled("multiprocessing.shared_memory", memory, "shared_memory"),
                     Sampled("memfd and mmap", memory, "memfd")], BLOCK // 4),
            Measure("spawn", "spawn to first instruction", Sampled("Processes.spawn", client, "spawn"),
                    [Sampled("python -c", spawn, "interpreter"), Sampled("os.fork", spawn, "fork")], SPAWN_BLOCK),
        ]  # fmt: skip
        yield [measure for measure in made if measure.key in keys]


def _goal(key: str, cores: Sequence[int]) -> tuple[float, ...]:
    """Return the goal of measure *key* on *cores*."""
    return () if key in ONE_CORE and len(cores) != 1 else (GOALS[key],)


def _transports(
    client: Worker, keys: Sequence[str], cores: Sequence[int], open_: contextlib.ExitStack
) -> Iterator[Measure]:
    """Yield the measure of all of WAYS, if it is among *keys*: only then are they started."""
    if "transports" in keys:
        others = open_.enter_context(transports.running(list(WAYS.values()), cores))
        yield Measure(
            "transports", "64 bytes there and back, by the ways of others", Sampled("typed stub", client, "stub"),
            [other.subject(SIZES[0]) for other in others], BLOCK,
        )  # fmt: skip
