"""`exo bench vm`: a page fault that another program answers, beside the same with no kernel of ours in between.

The reference is a process that reads the fault, stores the page and continues. Ours takes a message to the pager
and a trap back besides: so on one processor the goal is a multiple of both together. On two, nobody of ours is kept
anywhere: the kernel brings those who talk together (decision 0046), and the reference's parties stay apart.

Of the memory server's pager, which swaps, there are two measures more: a page that comes with its neighbours,
beside one that comes by itself; and how many pages a program waits for when it starts again, beside its first
start.

Then come the measures of Appel and Li (`bench.appel`).
"""

import contextlib
import os
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench import appel
from bench.errors import BenchError
from bench.harness import Measure, Sampled, Subject, Worker, place, reference
from bench.references.userfault import AROUND
from bench.system import System

BLOCK = 512
GOALS: Mapping[str, tuple[float, ...]] = {
    "fault": (2,), "fault-other": (1.5,), "around": (1 / 4,), "swap-around": (1 / 4,), "restart": (1 / 10,),
}  # fmt: skip
"""Of each measure of ours, the largest ratios to its references that are good enough."""
FAULTS = ("fault", "around", "fault-other")
SWAP = ("swap-around", "restart")
KEYS = (*FAULTS, *SWAP, *appel.KEYS)
SERVER = "pager"
"""The name of the memory server's pager."""
APART = frozenset({"fault-other"})
"""Those of parties on two cores."""
_BOTH = 2


@dataclass(frozen=True)
class Sum:
    """What two subjects take together."""

    name: str
    parts: Sequence[Subject]

    def sample(self, count: int) -> list[int]:
        """Add the shortest to the shortest, and so on: it is the sum of what they take usually."""
        return [sum(each) for each in zip(*(sorted(part.sample(count)) for part in self.parts), strict=True)]


def possible(keys: Sequence[str], cores: Sequence[int]) -> list[str]:
    """Return those of *keys* for which *cores* suffice. Raises BenchError when none is left."""
    left = [key for key in KEYS if key in keys and (len(cores) >= _BOTH or key not in APART)]
    if not left:
        raise BenchError(f"two parties on different CPUs take two cores, and there is {cores[0]} only")
    return left


def measures(system: System, keys: Sequence[str], cores: Sequence[int]) -> Generator[Measure, None, None]:
    """Give the measures of *keys* on *system*, one after another, each ready to run."""
    for key in keys:
        if key in FAULTS:
            with _fault(system, key, cores) as made:
                yield made
    others = [key for key in keys if key in appel.KEYS]
    swapper = _swapper(system, cores[0]) if others or set(keys) & set(SWAP) else None
    if swapper is not None:
        yield from (_swapped(key, swapper) for key in keys if key in SWAP)
    if others:
        toucher = start(system, "appel", (cores[0],))
        with appel.linux(cores[0]) as plain:
            for key in others:
                yield appel.measure(key, toucher, plain, swapper)


def _swapper(system: System, core: int) -> Worker | None:
    """Start a program that has swapped memory, on *core* with the pager; None, which is said: there is no swap."""
    if SERVER not in system.kip.names():
        print("the memory server's pager is left out: this system has no swap", file=sys.stderr)
        return None
    worker = system.worker("bench.programs.swapper", f"bench-swapper-{os.getpid()}", paged=True)
    system.place([worker.pid], (core,))
    return worker


def _swapped(key: str, swapper: Worker) -> Measure:
    """Return a measure of the memory server's pager."""
    if key == "restart":
        cold, warm = Sampled("its first start", swapper, "cold"), Sampled("a second start", swapper, "warm")
        return Measure(
            key, "a warm start: pages that are waited for", warm, [cold], 1, GOALS[key], unit="faults"
        )
    one, around = (
        Sampled("a fault for each", swapper, "fault"),
        Sampled(f"a page, {AROUND} for a fault", swapper, "around"),
    )
    title = f"swap, fault-around {AROUND}, one core: time of a page that comes from the store"
    return Measure(key, title, around, [one], BLOCK // AROUND, GOALS[key])


@contextlib.contextmanager
def _fault(system: System, key: str, cores: Sequence[int]) -> Iterator[Measure]:
    """Give one of ours: all on the first of *cores*, or nobody kept, and the reference on both."""
    apart = key in APART
    near = cores[1 if apart else 0]
    toucher = start(system, key, () if apart else (near,))
    with reference("bench.references.userfault", cores=(near,), peer_cores=(cores[0],)) as plain:
        bare = Sampled("a bare handler in Python", plain, "fault")
        fault = Sampled("a fault, answered by a pager", toucher, "fault")
        null = Sampled("null trap", toucher, "null")
        if key == "around":
            subject = Sampled(f"a page of {AROUND} supplied at once", toucher, "around")
            title = f"fault-around {AROUND}, one core: time of a page"
            yield Measure(key, title, subject, [fault], BLOCK // AROUND, GOALS[key])
        elif apart:
            bare = Sampled("a bare handler in Python, on two cores", plain, "fault")
            yield Measure(key, "a page fault answered by another program, nobody kept on a core", fault, [bare],
                          BLOCK, GOALS[key])  # fmt: skip
        else:
            both = Sum("bare handler and null trap", [bare, null])
            yield Measure(key, "a page fault answered by another program, one core", fault, [both, bare], BLOCK,
                          GOALS[key])  # fmt: skip


def start(system: System, key: str, cores: Sequence[int]) -> Worker:
    """Start a pager, and who touches its pages, on *cores*, with the kernel; none: anywhere. Return the second."""
    pager = f"bench-pages-{key}-{os.getpid()}"
    pid = system.start("bench.programs.pages", pager)
    system.place([pid], cores or sorted(os.sched_getaffinity(0)))
    worker = system.worker(
        "bench.programs.toucher", f"bench-toucher-{key}-{os.getpid()}", {"BENCH_PAGES": pager}, paged=True
    )
    place([worker.pid], cores)
    return worker
