"""Numbers: a thousand environments come and go, two hundred live at once, and the kernel does not notice."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

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
PROBES = 1000
PROBER = f"""
import libexo, sys
env = libexo.attach()
for line in sys.stdin:
    for _ in range({PROBES}):
        env.sys.batch(())
    print("done")
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
            failed = [n for n, each in zip(numbers, running, strict=True) if each.finish().status]
            assert not failed, {n: system.log_of(f"p{n % 50}") for n in failed}


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


def test_two_hundred_live_at_once(crowd: tuple[System, ExitStack]) -> None:
    """All under one plan; one outside it is served meanwhile, and everybody goes when told.

    What a trap costs the kernel then is counted in tests/kernel/test_bounded.py: on a real machine what the kernel
    does meanwhile, looking whether two hundred sleep, cannot be told from it.
    """
    system, stack = crowd
    prober = stack.enter_context(system.start(PROBER, name="prober", share=0))
    with ExitStack() as living:
        populate(system, living, 200)
        assert wait_until(lambda: len(system.kip.plans()[0].slices) == 200)
        assert prober.ask("go") == "done"
    assert wait_until(lambda: not [r for r in system.kip.environments() if r.name.startswith("waits")])
