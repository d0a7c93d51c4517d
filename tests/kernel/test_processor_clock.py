"""Members that hold a processor without using it: stopped, traced, or asleep for most of the time."""

import signal

import pytest

from hwmodel.simulated.bodies import SimulatedBody
from kernel.abi.errors import Refusal
from kernel.abi.kip import Counter, EnvironmentState
from kernel.abi.limits import MAX_SLICES
from kernel.abi.program import Activity, Program
from kernel.abi.traps import EnvironmentCreate
from tests.kernel.puppets import MS, refusal, theatre
from tests.kernel.test_processor import cast_of, compute, plan, sleepy, used

CONTINUE, STOP = signal.SIGCONT, signal.SIGSTOP


def stops_itself(body: SimulatedBody) -> None:
    """Stop, and stop again whenever somebody continues it."""
    while True:
        body.burn(100_000)
        body.signal(STOP)
        body.wait(lambda: True, None)


def test_who_stops_itself_leaves_the_walk() -> None:
    """A program that stops itself, again and again, costs the others one look of the kernel."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=stops_itself)
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(500)

        assert used(members)["a"] == pytest.approx(500, abs=5)
        assert members["b"].environment.state is EnvironmentState.BLOCKED
        assert members["b"].body.stopped


def test_the_kernel_does_not_continue_it() -> None:
    """It stands still until somebody continues it; then it is back in the walk when it has used time."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=5, b=5)
        stage.pass_time(50)
        members["b"].body.signal(STOP)
        stage.pass_time(50)
        stood = used(members)["b"]
        stage.pass_time(100)
        assert used(members)["b"] == stood

        members["b"].body.signal(CONTINUE)
        before = used(members)
        stage.pass_time(200)
        assert used(members)["b"] - before["b"] == pytest.approx(100, abs=10)


def test_a_continue_lets_nobody_run_who_is_paused() -> None:
    """A signal to continue gives no time outside the plan: slices do."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=50)
        stage.pass_time(5)
        before = used(members)["b"]
        for _ in range(10):
            members["b"].body.signal(CONTINUE)
            stage.pass_time(2)

        assert used(members)["b"] == before


def test_a_stop_between_slices_holds() -> None:
    """Stopped while others have the processor, a member has one look of its next slice, and no more."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=5, b=5)
        stage.machine.drive(
            stage.supervisor, until=lambda: members["b"].body.paused and used(members)["a"] > 1
        )
        members["b"].body.signal(STOP)
        before = used(members)
        stage.pass_time(100)

        assert used(members)["b"] == before["b"]
        assert used(members)["a"] - before["a"] == pytest.approx(100, abs=5)


def test_a_slice_ends_by_the_clock() -> None:
    """A member that wants the core, which others on the host have, has three times its slice by the clock.

    The rest is lost, and counted.
    """
    with theatre() as stage:
        stage.machine.records[0].tells = False
        scheduler, cpu, members = cast_of(stage, a=compute, b=sleepy(MS // 5, 9 * MS // 5))
        members["b"].body.activity = lambda: Activity.RUNS  # type: ignore[method-assign]
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(100)
        before = used(members)
        stage.pass_time(2000)

        assert used(members)["a"] - before["a"] > 2000 * 10 / 40 - 50
        assert stage.kernel.kip.counter(Counter.SLICES_OVERDUE) > 20


def test_alone_it_has_no_end() -> None:
    """While nobody competes, a slice ends neither by its use nor by the clock."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, b=sleepy(MS // 5, 9 * MS // 5))
        plan(scheduler, cpu, members, b=1)
        stage.pass_time(300)

        assert stage.kernel.kip.counter(Counter.SLICES_OVERDUE) == 0


def test_a_full_plan() -> None:
    """A processor takes as many environments as its plan has slices; the next is refused, however it comes."""
    with theatre() as stage:
        scheduler = stage.puppet("scheduler", holds=("cpus", "factory"))
        cpu, factory = scheduler.handles
        for number in range(MAX_SLICES):
            stage.puppet(f"m{number}", cpu=0)
        outside = stage.puppet("outside")
        program = Program(1, ("x",))
        found = refusal(scheduler.sys.environment_create, EnvironmentCreate(factory, "more", program, cpu=0))

        assert found == Refusal.PLAN_FULL
        assert refusal(scheduler.sys.migrate, cpu, outside.thread) == Refusal.PLAN_FULL
