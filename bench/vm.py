"""`exo bench vm`: a page fault that another program answers, beside the same with no kernel of ours in between.

The reference is a process that reads the fault, stores the page and continues. Ours takes a message to the pager
and a trap back besides: so on one processor the goal is a multiple of both together.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.errors import BenchError
from bench.harness import Measure, Sampled, Subject, Worker, place, reference
from bench.references.userfault import AROUND
from bench.system import System

BLOCK = 512
GOALS: Mapping[str, tuple[float, ...]] = {"fault": (2,), "fault-other": (1.5,), "around": (1 / 4,)}
"""Of each measure, the largest ratios to its references that are good enough."""
KEYS = ("fault", "around", "fault-other")
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


@contextlib.contextmanager
def measure(system: System, key: str, cores: Sequence[int]) -> Iterator[Measure]:
    """Give the measure *key* on *system*, ready to run: the pager and the kernel on the first of *cores*."""
    near = cores[-1 if len(cores) < _BOTH else 1] if key in APART else cores[0]
    toucher = start(system, key, cores[0], near)
    with reference("bench.references.userfault", cores=(near,), peer_cores=(cores[0],)) as plain:
        bare = Sampled("a bare handler in Python", plain, "fault")
        fault = Sampled("a fault, answered by a pager", toucher, "fault")
        null = Sampled("null trap", toucher, "null")
        where = "two cores" if key in APART else "one core"
        if key == "around":
            subject = Sampled(f"a page of {AROUND} supplied at once", toucher, "around")
            yield Measure(key, f"fault-around {AROUND}, {where}: time of a page", subject, [fault], BLOCK // AROUND,
                          GOALS[key])  # fmt: skip
        else:
            both: list[Subject] = [Sum("bare handler and null trap", [bare, null])] if key == "fault" else []
            yield Measure(key, f"a page fault answered by another program, {where}", fault, [*both, bare], BLOCK,
                          GOALS[key])  # fmt: skip


def start(system: System, key: str, far: int, near: int) -> Worker:
    """Start a pager on core *far*, with the kernel, and who touches its pages on *near*; return that one."""
    pager = f"bench-pages-{key}-{os.getpid()}"
    pid = system.start("bench.programs.pages", pager)
    system.place([pid], (far,))
    worker = system.worker(
        "bench.programs.toucher", f"bench-toucher-{key}-{os.getpid()}", {"BENCH_PAGES": pager}, paged=True
    )
    place([worker.pid], (near,))
    return worker
