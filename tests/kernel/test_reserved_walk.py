"""Processors with reservations: who has the core when, in virtual time."""

from collections.abc import Callable

import pytest

from hwmodel.simulated.bodies import SimulatedBody
from kernel.abi.kip import Counter, Page
from kernel.abi.messages import Preemption
from kernel.abi.rights import Rights
from kernel.abi.traps import Slice
from tests.kernel.passing import passed
from tests.kernel.puppets import MS, Puppet, theatre
from tests.kernel.test_migrate import TWO, schedulers
from tests.kernel.test_processor import Work, cast_of, compute, current, events, plan, sleepy, used

ALL = Rights.CONTROL | Rights.TRANSFER


def reserve(scheduler: Puppet, cpu: int, member: Puppet, runtime: float, period: float) -> int:
    """Have *member* run by a new reservation, in milliseconds; return its handle."""
    made = scheduler.sys.derive(cpu, ALL, int(runtime * 1000), int(period * 1000))
    scheduler.sys.migrate(made, member.thread)
    return made


def gains(stage_time: Callable[[], object], members: dict[str, Puppet]) -> dict[str, float]:
    """CPU time of each while *stage_time* passes, in milliseconds."""
    before = used(members)
    stage_time()
    after = used(members)
    return {name: after[name] - before[name] for name in members}


def periodic(work_ms: float, period_ms: float, late: list[float]) -> Work:
    """Do a job each period; note how long after its end of the period it was done, in milliseconds."""

    def live(body: SimulatedBody) -> None:
        now = body._machine.virtual.now
        arrival = now()
        while True:
            body.burn(int(work_ms * MS))
            late.append((now() - arrival) / MS - period_ms)
            arrival += int(period_ms * MS)
            body.wait(lambda: False, arrival)

    return live


def test_a_guarantee_in_no_plan() -> None:
    """Whoever has no slice has its runtime in every period, and no more; the plan has the rest."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, r=compute, a=compute, b=compute)
        plan(scheduler, cpu, members, a=10, b=10)
        reserve(scheduler, cpu, members["r"], 3, 10)
        found = gains(lambda: stage.pass_time(1000), members)

        assert found["r"] == pytest.approx(300, abs=3.1)
        assert [found["a"], found["b"]] == pytest.approx([350, 350], abs=10)


def test_its_slices_of_the_plan_stay() -> None:
    """The holder has its part of what reservations leave, too: the time of one is not charged to the other."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, r=compute, a=compute)
        plan(scheduler, cpu, members, r=5, a=5)
        reserve(scheduler, cpu, members["r"], 4, 10)
        found = gains(lambda: stage.pass_time(1000), members)

        assert found["r"] == pytest.approx(400 + 300, abs=8)
        assert found["a"] == pytest.approx(300, abs=8)


def test_an_interrupted_slice_goes_on() -> None:
    """Slices much longer than a period still divide what is left as planned, and do not grow."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, r=compute, a=compute, b=compute)
        made = reserve(scheduler, cpu, members["r"], 1, 2)
        plan(scheduler, cpu, members, a=30, b=10)
        found = gains(lambda: stage.pass_time(2000), members)
        scheduler.sys.drop(made)
        stage.settle()
        runs = []
        for _ in range(40):
            stage.pass_time(5)
            runs.append(current(stage))

        assert found["a"] / found["b"] == pytest.approx(3, rel=0.03)
        assert found["r"] == pytest.approx(1000, abs=3)
        assert max(map(len, "".join(runs).replace("b", " ").split())) <= 7


def test_two_and_a_plan() -> None:
    """At ninety percent each has its runtime to the period, by the earliest deadline, and the plan a tenth."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, r=compute, s=compute, a=compute)
        plan(scheduler, cpu, members, a=10)
        reserve(scheduler, cpu, members["r"], 4, 8)
        reserve(scheduler, cpu, members["s"], 8, 20)
        stage.pass_time(20)
        found = [gains(lambda: stage.pass_time(40), members) for _ in range(10)]

        assert [each["r"] for each in found] == pytest.approx([20] * 10, abs=2.1)
        assert [each["s"] for each in found] == pytest.approx([16] * 10, abs=2.1)
        assert min(each["a"] for each in found) > 2


@pytest.mark.parametrize("overload", [0, 40])
def test_jobs_in_time(overload: float) -> None:
    """Jobs of 0.3, 0.3 and 0.2 of a core are done in their periods, whatever a fourth, of 0.1, tries to use."""
    late: dict[str, list[float]] = {name: [] for name in "rstx"}
    with theatre() as stage:
        scheduler, cpu, members = cast_of(
            stage,
            r=periodic(4, 20, late["r"]),
            s=periodic(10, 40, late["s"]),
            t=periodic(14, 80, late["t"]),
            x=periodic(4 + overload, 40, late["x"]),
            a=compute,
            b=compute,
        )
        plan(scheduler, cpu, members, a=10, b=10)
        for name, runtime, period in [("r", 6, 20), ("s", 12, 40), ("t", 16, 80), ("x", 4, 40)]:
            reserve(scheduler, cpu, members[name], runtime, period)
        stage.pass_time(4000)

        assert [len(late[name]) for name in "rst"] == pytest.approx([200, 100, 50], abs=2)
        assert max(late["r"] + late["s"] + late["t"]) < 0
        assert used(members)["x"] == pytest.approx(400, abs=8)


def test_it_preempts_when_it_wakes() -> None:
    """Two milliseconds after it woke it has the core, in the middle of a long slice."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, r=sleepy(MS, 50 * MS), a=compute, b=compute)
        plan(scheduler, cpu, members, a=1000, b=1000)
        reserve(scheduler, cpu, members["r"], 3, 20)
        found = gains(lambda: stage.pass_time(990), members)

        assert found["r"] == pytest.approx(20, abs=1)
        assert max(found["a"], found["b"]) > 900


def test_a_critical_section_holds_it_up() -> None:
    """A reservation waits a millisecond for a critical section of who has the core, and no longer."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, r=compute, a=compute)
        members["a"].env.page[Page.CRITICAL] = 1
        plan(scheduler, cpu, members, a=100)
        reserve(scheduler, cpu, members["r"], 5, 10)
        found = gains(lambda: stage.pass_time(100), members)

        assert found["r"] == pytest.approx(50, abs=6)
        assert members["a"].env.page[Page.OVERDUE] == 1


def test_the_scheduler_is_told_once() -> None:
    """The end of a directed slice that a reservation interrupted is told when it is over."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, r=compute, a=compute, b=compute)
        plan(scheduler, cpu, members, a=100)
        reserve(scheduler, cpu, members["r"], 2, 4)
        events(scheduler)
        scheduler.sys.thread_switch(cpu, members["b"].thread, 9000)
        found = gains(lambda: stage.pass_time(40), members)

        assert found["b"] == pytest.approx(9, abs=0.2)
        assert events(scheduler).count((Preemption.SLICE_END, members["b"].thread)) == 1


def test_a_directed_slice_waits_for_it() -> None:
    """No order of the scheduler takes from a reservation."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, r=compute, a=compute)
        plan(scheduler, cpu, members, a=10)
        reserve(scheduler, cpu, members["r"], 5, 10)
        found = dict.fromkeys(members, 0.0)
        for _ in range(50):
            scheduler.sys.thread_switch(cpu, members["a"].thread, 10_000)
            for name, more in gains(lambda: stage.pass_time(2), members).items():
                found[name] += more

        assert found["r"] == pytest.approx(50, abs=5.1)


def test_to_give_it_up() -> None:
    """The rest of a budget, but for the switch, can be given to another; then the giver waits for its period."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, r=compute, a=compute, b=compute)
        plan(scheduler, cpu, members, a=10)
        reserve(scheduler, cpu, members["r"], 8, 20)
        stage.machine.drive(stage.supervisor, until=lambda: current(stage) == "r")
        stage.pass_time(2)
        scheduler.sys.thread_switch(cpu, members["b"].thread, 0, members["r"].thread)
        found = gains(lambda: stage.pass_time(16), members)

        assert [found["r"], found["b"]] == pytest.approx([0, 5.75], abs=0.2)


def test_an_empty_plan_and_no_scheduler() -> None:
    """A reservation is the kernel's to keep, whatever becomes of the plan and its author."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, r=compute, a=compute)
        holder = stage.puppet("holder")
        made = scheduler.sys.derive(cpu, ALL, 3000, 10_000)
        scheduler.sys.migrate(made, members["r"].thread)
        found = gains(lambda: stage.pass_time(100), members)
        assert found == {"r": pytest.approx(30, abs=3.1), "a": 0}

        passed(scheduler, cpu, holder, ALL, grant=True)
        passed(scheduler, made, holder, ALL, grant=True)
        stage.kill(scheduler)
        found = gains(lambda: stage.pass_time(1000), members)
        assert found["r"] == pytest.approx(300 + 350, abs=12)


def test_narrowed_in_the_slice() -> None:
    """From that moment on it has less."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, r=compute, a=compute)
        plan(scheduler, cpu, members, a=10)
        made = reserve(scheduler, cpu, members["r"], 80, 100)
        stage.pass_time(20)
        assert current(stage) == "r"
        scheduler.sys.derive(made, ALL, 60_000, 100_000)
        found = gains(lambda: stage.pass_time(80), members)
        assert found["r"] == pytest.approx(15, abs=2)

        found = gains(lambda: stage.pass_time(1000), members)
        assert found["r"] == pytest.approx(200, abs=20)


@pytest.mark.parametrize("how", ["drop", "unbind", "kill", "give another"])
def test_over_in_the_slice(how: str) -> None:
    """Whatever ends it, its slice is over at once, and the interrupted one goes on."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, r=compute, a=compute, b=compute)
        plan(scheduler, cpu, members, a=1000)
        made = reserve(scheduler, cpu, members["r"], 50, 100)
        stage.pass_time(10)
        assert current(stage) == "r"
        if how == "drop":
            scheduler.sys.drop(made)
        elif how == "unbind":
            scheduler.sys.migrate(made, 0)
        elif how == "kill":
            stage.kill(members["r"])
        else:
            scheduler.sys.migrate(made, members["b"].thread)
        stage.settle()
        stage.check()
        found = gains(lambda: stage.pass_time(20), members)

        runs = "b" if how == "give another" else "a"
        assert {name: round(more) for name, more in found.items()} == {"r": 0, "a": 0, "b": 0} | {runs: 20}
        assert [name for name, each in members.items() if not each.body.paused and each.alive] == [runs]


def test_it_does_not_move_along() -> None:
    """Who is moved to another processor has no reservation there; what it had can be another's."""
    with theatre(TWO) as stage:
        first, second, one, two = schedulers(stage)
        members = {name: stage.puppet(name, cpu=0, work=compute) for name in "rab"}
        made = reserve(first, one, members["r"], 50, 100)
        stage.pass_time(10)
        first.sys.migrate(two, members["r"].thread)
        stage.check()
        second.sys.plan(second.caps[0].handle, [Slice(members["r"].thread, 5000)])
        first.sys.migrate(made, members["a"].thread)
        found = gains(lambda: stage.pass_time(300), members)

        assert found == {"r": pytest.approx(300, abs=1), "a": pytest.approx(110, abs=1), "b": 0}


def test_who_comes_later() -> None:
    """A reservation can be bound to a program that is being started; it counts once that runs."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute)
        plan(scheduler, cpu, members, a=10)
        late = stage.puppet("late", work=compute)
        scheduler.sys.migrate(cpu, late.thread)
        reserve(scheduler, cpu, late, 5, 10)
        found = gains(lambda: stage.pass_time(100), {"late": late})

        assert found["late"] == pytest.approx(50, abs=5)


def test_alone_it_costs_nothing() -> None:
    """Without competition its holder is not looked at; with it, it has one budget, and no arrears."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, r=compute, a=sleepy(1000, 10**12))
        plan(scheduler, cpu, members, a=10, r=10)
        reserve(scheduler, cpu, members["r"], 5, 10)
        stage.pass_time(100)
        switches = stage.kernel.kip.counter
        before = switches(Counter.SWITCHES)
        found = gains(lambda: stage.pass_time(500), members)
        assert found["r"] == pytest.approx(500, abs=0.1)
        assert switches(Counter.SWITCHES) == before

        members["b"] = stage.puppet("b", cpu=0, work=compute)
        plan(scheduler, cpu, members, b=10)
        found = gains(lambda: stage.pass_time(100), members)
        assert found["r"] == pytest.approx(50, abs=6)
