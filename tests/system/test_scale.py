"""Numbers: a thousand environments come and go, two hundred live at once, and the kernel does not notice."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil
import pytest

from tests.privileges import may_place_others
from tests.system.booted import SERVERS, SETTLER, System, wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

TOGETHER = 20
"""How many programs are started before the first of them is waited for."""
LITTLE = "pass"
WAITS = "import signal\nsignal.pause()"
PROBER = """
import libexo, statistics, sys, time
env = libexo.attach()
for line in sys.stdin:
    samples = []
    for _ in range(1000):
        at = time.perf_counter_ns()
        env.sys.batch(())
        samples.append(time.perf_counter_ns() - at)
    print(statistics.median(samples))
"""


def come_and_go(system: System, count: int) -> None:
    """Run *count* programs to their ends, some at a time; every tenth uses every server."""
    for first in range(0, count, TOGETHER):
        with ExitStack() as stack:
            numbers = range(first, min(first + TOGETHER, count))
            running = [
                stack.enter_context(
                    system.start(SETTLER if n % 10 == 0 else LITTLE, streams=False, name=f"p{n % 50}")
                )
                for n in numbers
            ]
            assert [each.finish().status for each in running] == [0] * len(running)


def resident(system: System) -> dict[str, int]:
    """Return the resident memory of the kernel, the nursery and the servers, in KiB."""
    pids = {"kernel": system.pid, "nursery": system.nursery} | {
        name: system.server(name).pid for name in SERVERS
    }
    return {name: psutil.Process(pid).memory_info().rss >> 10 for name, pid in pids.items()}


def test_a_thousand_come_and_go(own: System) -> None:
    """Memory of the kernel, nursery and servers stays within 2 MiB, descriptors and tables are as before."""
    come_and_go(own, 300)
    own.rebase()
    before = resident(own)

    come_and_go(own, 1000)

    own.settle()
    assert wait_until(lambda: own.books() == own.baseline), (own.baseline, own.books())
    after = resident(own)
    print({name: f"{before[name]} -> {after[name]} KiB" for name in before})  # noqa: T201
    assert all(after[name] - before[name] < 2048 for name in before), (before, after)


@pytest.fixture
def crowd(own: System) -> Iterator[tuple[System, ExitStack]]:
    """A system, and where to put those who live in it."""
    with ExitStack() as stack:
        yield own, stack


def populate(system: System, stack: ExitStack, count: int) -> None:
    """Let *count* programs live, waiting."""
    for n in range(count):
        stack.enter_context(system.start(WAITS, streams=False, name=f"waits{n}"))
    assert wait_until(
        lambda: (
            sum(row.name.startswith("waits") and row.pid > 0 for row in system.kip.environments()) == count
        )
    )


@contextmanager
def on_one_core(*pids: int) -> Iterator[None]:
    """Keep processes on the first core: a wake-up across cores costs more than a trap, and comes and goes.

    Where others may not be placed (in a container), they stay where they are.
    """
    if not may_place_others():
        yield
        return
    before = {pid: os.sched_getaffinity(pid) for pid in pids}
    for pid in pids:
        os.sched_setaffinity(pid, {min(before[pid])})
    yield
    for pid, cores in before.items():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(pid, cores)


def test_two_hundred_live_at_once(crowd: tuple[System, ExitStack]) -> None:
    """All under one plan; trap time is that of before, and everybody goes when told."""
    system, stack = crowd
    prober = stack.enter_context(system.start(PROBER, name="prober", share=0))
    stack.enter_context(on_one_core(system.pid, system.server("prober").pid))
    few = [float(prober.ask("go")) for _ in range(3)]
    with ExitStack() as living:
        populate(system, living, 200)
        assert wait_until(lambda: len(system.kip.plans()[0].slices) == 200)
        many = [float(prober.ask("go")) for _ in range(3)]
    assert wait_until(lambda: not [r for r in system.kip.environments() if r.name.startswith("waits")])
    few += [float(prober.ask("go")) for _ in range(3)]

    print(f"trap: {min(few) / 1e3:.1f} us with few, {min(many) / 1e3:.1f} us with 200")  # noqa: T201
    assert min(many) <= 1.5 * min(few), (few, many)
