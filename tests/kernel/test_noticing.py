"""Sleep and waking are noticed soon, and what is slept is charged: with a record of switches, and without."""

from collections.abc import Callable

import pytest

from hwmodel.simulated.bodies import SimulatedBody
from kernel.abi.kip import Counter, EnvironmentState
from kernel.abi.messages import Label, Preemption
from tests.kernel.puppets import MS, Puppet, Theatre, theatre
from tests.kernel.test_processor import cast_of, compute, current, events, plan, sleepy, used

US = MS // 1000
LONG = 10**12


def naps(work_ns: int, sleep_ns: int, until: int) -> Callable[[SimulatedBody], None]:
    """Compute and sleep in turn, and from *until* on compute."""

    def live(body: SimulatedBody) -> None:
        while body.now() < until:
            body.burn(work_ns)
            body.wait(lambda: False, body.now() + sleep_ns)
        compute(body)

    return live


def told(scheduler: Puppet) -> dict[Preemption, int]:
    """How long members slept in their slices, by the message that says so, in ns."""
    found: dict[Preemption, int] = {}
    for upcall in scheduler.upcalls():
        if upcall.label == Label.PREEMPTION:
            for at in range(0, len(upcall.words), 3):
                what = Preemption(upcall.words[at])
                found[what] = found.get(what, 0) + upcall.words[at + 2]
    return found


def when(stage: Theatre, member: Puppet, *states: EnvironmentState) -> int:
    """Run until *member* is in one of *states*; return the time."""
    limit = stage.machine.clock.now() + 1000 * MS
    stage.machine.drive(stage.supervisor, until=lambda: member.environment.state in states, limit=limit)
    assert member.environment.state in states
    return stage.machine.clock.now()


@pytest.mark.parametrize("phase", range(0, 2000, 250))
def test_both_within_two_milliseconds(phase: int) -> None:
    """A member that falls asleep in its slice loses the core, one that wakes has it or is stopped: within 2 ms."""
    slept: list[int] = []
    woke: list[int] = []

    def work(body: SimulatedBody) -> None:
        while True:
            body.burn(3 * MS + phase * US)
            slept.append(body.now())
            body.wait(lambda: False, body.now() + 41 * MS + phase * US)
            woke.append(body.now())

    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=work)
        plan(scheduler, cpu, members, a=20, b=20)
        for _ in range(4):
            blocked = when(stage, members["b"], EnvironmentState.BLOCKED)
            assert 0 < blocked - slept[-1] < 2.1 * MS
            noticed = when(stage, members["b"], EnvironmentState.READY, EnvironmentState.RUNNING)
            assert 0 < noticed - woke[-1] < 2.1 * MS


def test_a_look_costs_what_happened() -> None:
    """However many sleep, nobody's CPU time or activity is asked but of who runs, and who woke."""
    with theatre() as stage:
        sleepers = {f"s{number}": sleepy(1000, LONG) for number in range(40)}
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute, **sleepers)
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(100)
        assert sum(each.environment.state is EnvironmentState.BLOCKED for each in members.values()) == 0

        plan(scheduler, cpu, members, a=10, b=10, **dict.fromkeys(sleepers, 1))
        stage.pass_time(300)
        assert sum(each.environment.state is EnvironmentState.BLOCKED for each in members.values()) == 40
        asked = [0]
        for name in sleepers:
            body = members[name].body
            count = body.consumed

            def consumed(count: Callable[[], int] = count) -> int:
                asked[0] += 1
                return count()

            body.consumed = consumed  # type: ignore[method-assign]
        stage.pass_time(200)
        assert asked == [0]


def test_what_is_slept_is_charged_exactly() -> None:
    """Three that sleep a tenth of a millisecond at a time keep their slices, and pay for what they sleep.

    So who computes beside them has its share of a round robin, and the scheduler is told of all that was slept.
    """
    with theatre() as stage:
        twitches = {name: sleepy(10 * US, 100 * US) for name in ("b", "c", "d")}
        scheduler, cpu, members = cast_of(stage, a=compute, **twitches)
        plan(scheduler, cpu, members, a=10, b=10, c=10, d=10)
        stage.pass_time(50)
        told(scheduler)
        before, slept = used(members), 0
        for _ in range(20):
            stage.pass_time(100)
            found = told(scheduler)
            assert Preemption.BLOCKED not in found
            slept += found[Preemption.SLICE_END]
        had = {name: each - before[name] for name, each in used(members).items()}

        assert had["a"] >= 500 * 0.99
        assert slept / MS == pytest.approx(2000 - sum(had.values()), abs=15)


def test_what_is_slept_before_a_slice_is_given_up() -> None:
    """Who asks for its slice to be given up, and sleeps until it is, pays for that sleep, and for each switch."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=sleepy(30 * US, 200 * US))
        plan(scheduler, cpu, members, a=1, b=1)
        stage.pass_time(20)
        told(scheduler)
        before, slept, given_up = used(members), 0, 0
        for _ in range(2000):
            stage.pass_time(0.23)
            given_up += current(stage) == "b"
            scheduler.sys.thread_switch(cpu, 0, 0, members["b"].thread)
            slept += told(scheduler).get(Preemption.SLICE_END, 0)
        had = {name: each - before[name] for name, each in used(members).items()}

        assert had["b"] > 10
        assert slept / MS == pytest.approx(2000 * 0.23 - sum(had.values()) + given_up * 0.25, abs=5)


def test_plans_do_not_put_off_a_look() -> None:
    """However often a plan is installed, a member that sleeps in its slice is noticed and loses the core."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=sleepy(MS, LONG))
        plan(scheduler, cpu, members, a=5, b=5)
        for _ in range(100):
            stage.pass_time(0.5)
            plan(scheduler, cpu, members, b=5, a=5)

        assert members["b"].environment.state is EnvironmentState.BLOCKED
        assert used(members)["a"] > 40


def test_who_naps_is_left_alone() -> None:
    """A sleeper that works for some microseconds now and then is not told of, nor stopped, until it adds up."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=sleepy(50 * US, 20 * MS))
        plan(scheduler, cpu, members, a=10, b=10)
        when(stage, members["b"], EnvironmentState.BLOCKED)
        stage.pass_time(2)
        scheduler.upcalls()
        stage.pass_time(180)
        assert events(scheduler) == []
        stage.pass_time(100)
        assert (Preemption.READY, members["b"].thread) in events(scheduler)


def test_alone_it_is_charged_nothing() -> None:
    """What a member slept while nobody else wanted the core is not charged when somebody does."""
    with theatre() as stage:
        begins = stage.machine.clock.now() + 500 * MS
        scheduler, cpu, members = cast_of(stage, a=sleepy(100 * US, LONG), b=naps(US, begins, begins))
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(450)
        told(scheduler)
        stage.pass_time(100)

        assert current(stage) == "b"
        assert sum(told(scheduler).values()) < 3 * MS


def test_a_gap_in_the_record() -> None:
    """When the record has a gap all are looked at, and what happened in it is noticed all the same."""
    with theatre() as stage:
        begins = stage.machine.clock.now() + 100 * MS
        scheduler, cpu, members = cast_of(stage, a=compute, b=naps(US, begins, begins))
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(90)
        assert members["b"].environment.state is EnvironmentState.BLOCKED
        stage.machine.records[0].tells = False
        stage.pass_time(20)
        stage.machine.records[0].tells = True
        before = used(members)
        stage.pass_time(100)
        assert used(members)["b"] - before["b"] == pytest.approx(50, abs=11)


def test_a_host_that_does_not_tell() -> None:
    """Then sleepers are looked at one by one, and what is noticed is the same, some milliseconds later."""
    with theatre() as stage:
        stage.machine.records[0].tells = False
        scheduler, cpu, members = cast_of(stage, a=compute, b=sleepy(20 * MS, 100 * MS))
        plan(scheduler, cpu, members, a=3, b=3)
        stage.pass_time(1000)
        found = used(members)

        assert 100 < found["b"] < 170
        assert {Preemption.READY, Preemption.BLOCKED} <= {what for what, _ in events(scheduler)}
        assert stage.kernel.kip.counter(Counter.SWITCHES) > 20
