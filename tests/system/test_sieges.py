"""Under every siege the innocent are served, nobody but the besiegers is ended, and nothing grows or is left."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.system.booted import System
from tests.system.fire import Fared, Innocent, excess, grown, guarded, innocent, laid, sizes, turns, wait_for
from tests.system.sieges import PROCESSOR, SIEGES, Siege

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

BRIEFLY = 1.0
"""Seconds a siege lasts in `make test`, and until the innocent has made its calls."""
LONG = 10.0
"""Seconds it lasts in `make soak`."""


@pytest.fixture(scope="module")
def bystander(shared_system: System) -> Iterator[Innocent]:
    """An innocent client, whose quiet times were taken."""
    with innocent(shared_system) as client:
        shared_system.rebase()
        yield client
    shared_system.rebase()


def withstands(
    system: System, client: Innocent, siege: Siege, seconds: float, report: Callable[[str], None]
) -> list[str]:
    """Lay *siege* for *seconds*, or for as long as the innocent takes to make its calls; return what went wrong."""
    there, before = guarded(system), sizes(system)
    client.begin()
    with laid(system, siege):
        wait_for(seconds)
        fared = client.end()
    if grown(before, sizes(system)):
        system.settle()  # each server has heard by then that they ended, and given back what it held of theirs
    after = sizes(system)
    report(show(siege, fared, {name: after[name] - before[name] for name in after}))
    wrong = excess(fared, client.quiet) + grown(before, after)
    return wrong + [f"{name} was ended" for name, row in guarded(system).items() if there.get(name) != row]


def show(siege: Siege, fared: Fared, sizes: dict[str, int]) -> str:
    """Return a line: the 99th percentile of each server's calls, and the largest growth."""
    calls = ", ".join(f"{name} {times.p99 / 1e6:.1f} ms" for name, times in fared.times.items())
    name, most = max(sizes.items(), key=lambda row: row[1])
    late = f"of a bare wake-up {fared.late / 1e6:.1f} ms"
    return f"{siege.name:16} p99 of calls: {calls}, {late}; {name} grew by {most >> 10} KiB"


@pytest.mark.parametrize("siege", SIEGES, ids=lambda siege: siege.name)
def test_a_siege(booted: System, bystander: Innocent, siege: Siege, report: Callable[[str], None]) -> None:
    """The innocent's calls are answered in time, and the books balance when the besiegers are gone."""
    assert withstands(booted, bystander, siege, BRIEFLY, report) == [], siege.tries


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("siege", SIEGES, ids=lambda siege: siege.name)
def test_a_long_siege(
    booted: System, bystander: Innocent, siege: Siege, report: Callable[[str], None]
) -> None:
    """The same for ten seconds."""
    assert withstands(booted, bystander, siege, LONG, report) == [], siege.tries


LEAST = 0.1
"""The part of the time that a program under the plan is let run at the least, whatever else the machine does."""
EQUAL = 0.5
"""How much of what each besieger computes it computes itself at the least: they have equal shares."""


@pytest.mark.parametrize("siege", PROCESSOR, ids=lambda siege: siege.name)
def test_the_processor_is_not_taken(booted: System, siege: Siege) -> None:
    """A program that computes under the same plan is let run, and gets on as each of the besiegers does."""
    with booted.start("while True: pass", name="victim") as victim:
        pid = booted.server("victim").pid
        began, before = time.monotonic_ns(), turns(pid)
        with laid(booted, siege) as besiegers:
            wait_for(BRIEFLY)
            after, theirs = turns(pid), [turns(each).computed for each in besiegers]
            passed = time.monotonic_ns() - began
        victim.signal(signal.SIGKILL)
        victim.finish()
    computed = after.computed - before.computed

    assert computed + after.waited - before.waited > LEAST * passed, siege.tries
    assert computed > EQUAL * max(theirs), siege.tries
