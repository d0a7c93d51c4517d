"""What a switch costs the kernel and the scheduler, counted in lines of theirs."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import pytest

from libexo.sched import Policy
from libexo.workload import MS, Described
from servers.scheduler.policies import RoundRobin
from servers.scheduler.trial.bench import Trial
from servers.scheduler.trial.machine import Happening, Untold

if TYPE_CHECKING:
    from _typeshed import TraceFunction

SECOND = 1000 * MS
COUNTED = ("kernel.", "servers.scheduler.server", "servers.scheduler.policy")


def lines_of(does: Callable[[], object]) -> int:
    """Return how many lines of the counted files are run while it *does* something."""
    count = 0

    def line(_frame: FrameType, event: str, _value: object) -> "TraceFunction":
        nonlocal count
        count += event == "line"
        return line

    def call(frame: FrameType, _event: str, _value: object) -> "TraceFunction | None":
        return line if frame.f_globals["__name__"].startswith(COUNTED) else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        does()
    finally:
        sys.settrace(before)
    return count


def cost(policy: Policy, sleepers: int) -> float:
    """Return how many lines are run for a switch between two loops, beside so many that sleep."""
    asleep = [Described(f"s{at}", "sleeps", {"run": MS, "sleep": 3600 * SECOND}) for at in range(sleepers)]
    trial = Trial(policy, [Described("a", "loop"), *asleep, Described("b", "loop")])
    trial.run(5 * SECOND)
    before = trial.counts["switches"]
    lines = lines_of(lambda: trial.run(2 * SECOND))
    return lines / (trial.counts["switches"] - before)


def test_sleepers_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch of round robin takes the same lines beside 198 that sleep as beside none: nobody goes through them.

    The host tells who came to the core, which is none of those.
    """
    monkeypatch.setattr(Untold, "read", lambda _switches: ())

    assert cost(RoundRobin(), 198) <= 1.05 * cost(RoundRobin(), 0)


def test_waking_needs_no_plan() -> None:
    """Under round robin who sleeps and wakes has its slice in the plan that is in force: no other is installed."""
    awake = {"run": 15 * MS, "sleep": 40 * MS}
    happened: list[Happening] = []
    trial = Trial(
        RoundRobin(), [Described("a", "loop"), Described("b", "sleeps", awake)], told=happened.append
    )
    trial.run(SECOND)
    plans, woken = trial.counts["plans"], len(happened)
    trial.run(2 * SECOND)

    assert trial.counts["plans"] == plans
    assert len(happened) > woken + 50
