"""`exo bench pingpong`: the classic of L4, what an IPC costs one way against the number of words it carries.

Ping calls pong, which sends everything back (ReplyWait). Two environments by Ipc; two threads of one environment
by Ipc, and by Lipc. Ping stays on one core, pong on the same or on another. A sample is half a round trip. After
L4Ka::Pistachio's user/apps/bench/pingpong, which takes 1000 round trips for each of 0 to 63 words.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.errors import BenchError
from bench.harness import Measure, Result, Sampled, Subject, Worker, place, place_threads, reference
from bench.system import System
from kernel.abi.limits import MAX_WORDS

TRIPS = 1000
"""Round trips of each subject for each count of words."""
STEP = 9
QUICK_TRIPS, QUICK_STEP = 200, 21
KINDS = {
    "inter-ipc": "two environments, Ipc",
    "intra-ipc": "two threads of one environment, Ipc",
    "intra-lipc": "two threads of one environment, Lipc",
}
PLACEMENTS = {"same": "same CPU", "other": "other CPU"}
KEYS = tuple(f"{kind}-{placement}" for placement in PLACEMENTS for kind in KINDS)
_BOTH = 2
"""CPUs that two parties on different ones take."""


@dataclass(frozen=True)
class OneWay:
    """A subject whose samples are those of round trips, halved."""

    trips: Subject

    @property
    def name(self) -> str:
        """The name of the round trips' subject."""
        return self.trips.name

    def sample(self, count: int) -> list[int]:
        """Take them."""
        return [sample // 2 for sample in self.trips.sample(count)]


Party = Callable[[int], Subject]
"""What goes there and back, with so many words."""


@dataclass(frozen=True)
class Variant:
    """One way for ping to reach pong, and what it is compared with."""

    key: str
    party: Party
    references: tuple[Party, ...]

    @property
    def title(self) -> str:
        """The places of the parties, in words."""
        kind, _, placement = self.key.rpartition("-")
        return f"{KINDS[kind]}, {PLACEMENTS[placement]}"

    def measure(self, words: int, block: int) -> Measure:
        """Return the measure of messages of *words* words, in blocks of *block* round trips."""
        title = f"{self.title}: one way with {words} words"
        references = [made(words) for made in self.references]
        return Measure(self.key, title, self.party(words), references, block)


def counts(step: int) -> list[int]:
    """Return the counts of words to measure: from none, *step* by *step*, and as many as there may be."""
    return [*range(0, MAX_WORDS, step), MAX_WORDS]


def block(trips: int, rounds: int) -> int:
    """Return how many round trips a round takes, so that all *rounds* together take at least *trips*."""
    return -(-trips // rounds)


def default_cores() -> tuple[int, ...]:
    """Return the first two cores we may use, or the only one."""
    return tuple(sorted(os.sched_getaffinity(0))[:_BOTH])


def possible(keys: Sequence[str], cores: Sequence[int]) -> list[str]:
    """Return those of *keys* for which *cores* suffice. Raises BenchError when none is left."""
    left = [key for key in KEYS if key in keys and (len(cores) >= _BOTH or key.endswith("-same"))]
    if not left:
        raise BenchError(f"two parties on different CPUs take two cores, and there is {cores[0]} only")
    return left


def panels(sweeps: Mapping[Variant, Mapping[int, Result]]) -> dict[str, dict[str, Mapping[int, Result]]]:
    """Return the sweeps of each placement, both by their titles: what a picture shows side by side."""
    made: dict[str, dict[str, Mapping[int, Result]]] = {}
    for variant, results in sweeps.items():
        kind, _, placement = variant.key.rpartition("-")
        made.setdefault(PLACEMENTS[placement], {})[KINDS[kind]] = results
    return made


# ---------------------------------------------------------------------------------------------- who takes part


@contextlib.contextmanager
def variants(system: System, keys: Sequence[str], cores: Sequence[int]) -> Iterator[list[Variant]]:
    """Give the variants of *keys* on *system*: ping on the first of *cores*, pong there or on the second.

    Raises BenchError, Trouble.
    """
    with contextlib.ExitStack() as open_:
        yield [_variant(system, key, cores, open_) for key in keys]


def _variant(system: System, key: str, cores: Sequence[int], open_: contextlib.ExitStack) -> Variant:
    kind, _, placement = key.rpartition("-")
    near, far = cores[0], cores[placement == "other"]
    if kind == "inter-ipc":
        ping = _environments(system, key, near, far)
        zmq, packets = (
            open_.enter_context(reference(f"bench.references.{name}", cores=(near,), peer_cores=(far,)))
            for name in ("raw_zmq", "seqpacket")
        )
        against = (_party("raw pyzmq", zmq, "call"), _party("SEQPACKET", packets, "call"))
    else:
        ping = system.worker("bench.programs.pingpong_ping", _name("ping", key))
        threads = open_.enter_context(reference("bench.references.threads", cores=(near,)))
        place([ping.pid], (near,))
        seconds = [ping.thread(kind), threads.thread("zmq"), threads.thread("packets")]
        place_threads(seconds, (far,))
        against = (_party("pyzmq inproc", threads, "zmq"), _party("SEQPACKET", threads, "packets"))
    return Variant(key, _party("Lipc" if kind == "intra-lipc" else "Ipc", ping, kind), against)


def _environments(system: System, key: str, near: int, far: int) -> Worker:
    """Start pong, and ping, which is returned."""
    pong = system.start("bench.programs.pingpong_pong", _name("pong", key))
    ping = system.worker(
        "bench.programs.pingpong_ping", _name("ping", key), {"BENCH_PONG": _name("pong", key)}
    )
    place([ping.pid], (near,))
    place([pong], (far,))
    return ping


def _name(part: str, key: str) -> str:
    return f"{part}-{key}-{os.getpid()}"


def _party(name: str, worker: Worker, what: str) -> Party:
    return lambda words: OneWay(Sampled(name, worker, f"{what}-{words}"))
