"""Plans that begin at once, ends of slices that are told, and the watch over who makes the plans."""

import signal

import pytest

from kernel.abi.kip import Counter, EnvironmentState
from kernel.abi.messages import Preemption
from kernel.abi.traps import How
from tests.kernel.puppets import MS, Theatre, theatre
from tests.kernel.test_processor import cast_of, compute, current, events, plan, sleepy, used

LONG = 10**12


def test_a_plan_that_begins_now() -> None:
    """It ends the running slice at once, and the walk begins with its first; the rest of the slice is carried."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=50, b=50)
        stage.pass_time(20)
        plan(scheduler, cpu, members, b=5, a=50)
        assert current(stage) == "a"
        plan(scheduler, cpu, members, How.NOW, b=5, a=50)
        assert current(stage) == "b"
        assert (members["a"].body.paused, members["b"].body.paused) == (True, False)

        stage.pass_time(5.5)
        assert current(stage) == "a"
        before = used(members)["a"]
        stage.pass_time(74)
        assert current(stage) == "a"
        assert used(members)["a"] - before == pytest.approx(74, abs=0.5)


def test_now_with_who_runs_first() -> None:
    """If the first of the plan has the core, it is not stopped: its slice begins anew."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=20, b=5)
        stage.pass_time(10)
        preempted = stage.kernel.kip.counter(Counter.PREEMPTIONS)
        plan(scheduler, cpu, members, How.NOW, a=20, b=5)
        stage.pass_time(9)

        assert (current(stage), stage.kernel.kip.counter(Counter.PREEMPTIONS)) == ("a", preempted)


def test_ends_are_told_on_demand() -> None:
    """The scheduler hears of each end of a slice from a plan that says so until one that does not."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        for how, told in ((0, 0), (How.ENDS, 10), (0, 0)):
            plan(scheduler, cpu, members, how, a=5, b=5)
            stage.pass_time(2)
            scheduler.upcalls()
            stage.pass_time(50)
            ends = [what for what, _ in events(scheduler) if what is Preemption.SLICE_END]
            assert len(ends) == told


def fallbacks(stage: Theatre) -> int:
    return stage.kernel.kip.counter(Counter.WATCHDOG_FALLBACKS)


def test_a_plan_that_is_repeated_for_ever() -> None:
    """A scheduler that stands still, with a plan that leaves out who is awake, loses the processor within a second.

    It is named, and not who has no slice; its next plan is in force.
    """
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=10)
        stage.pass_time(990)
        assert fallbacks(stage) == 0
        before = used(members)["b"]
        stage.pass_time(210)
        assert fallbacks(stage) == 1
        assert used(members)["b"] - before == pytest.approx(100, abs=15)
        assert (
            "processor 0: scheduler sends no plan, and b has no slice: round robin by the kernel"
            in stage.system.log
        )

        plan(scheduler, cpu, members, b=10)
        before = used(members)["a"]
        stage.pass_time(500)
        assert used(members)["a"] - before < 11


def test_a_plan_that_is_meant() -> None:
    """A scheduler that sends it again twice a second may leave out whom it likes."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        for _ in range(8):
            plan(scheduler, cpu, members, a=10)
            stage.pass_time(500)
        assert (fallbacks(stage), used(members)["b"]) == (0, 0)


def test_who_wakes_without_a_slice() -> None:
    """A sleeper has time to be planned from when it woke; sleepers without slices are no fault."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=sleepy(50 * MS, 3000 * MS))
        plan(scheduler, cpu, members, a=10, b=10)
        stage.machine.drive(
            stage.supervisor, until=lambda: members["b"].environment.state is EnvironmentState.BLOCKED
        )
        plan(scheduler, cpu, members, a=10)
        stage.pass_time(2500)
        assert fallbacks(stage) == 0
        stage.pass_time(1000)
        assert fallbacks(stage) == 0
        stage.pass_time(700)
        assert fallbacks(stage) == 1
        members["b"].body.signal(signal.SIGKILL)
