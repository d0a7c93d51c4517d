"""Processors: plans walked in virtual time, sleeping and waking members."""

from collections.abc import Callable

import pytest

from hwmodel.simulated.bodies import SimulatedBody
from kernel.abi.errors import Refusal
from kernel.abi.ids import thread_id
from kernel.abi.kip import Counter, EnvironmentState, Page
from kernel.abi.messages import Label, Preemption
from kernel.abi.traps import Slice
from tests.kernel.puppets import MS, Puppet, Theatre, refusal, theatre

FOREVER = 10**15
Work = Callable[[SimulatedBody], object]


def compute(body: SimulatedBody) -> None:
    """Compute for ever."""
    body.burn(FOREVER)


def sleepy(work_ns: int, sleep_ns: int) -> Work:
    """Compute and sleep in turn."""

    def live(body: SimulatedBody) -> None:
        while True:
            body.burn(work_ns)
            body.wait(lambda: False, body._machine.virtual.now() + sleep_ns)

    return live


def cast_of(stage: Theatre, **work: Work) -> tuple[Puppet, int, dict[str, Puppet]]:
    """A scheduler with its processor, and members by name."""
    scheduler = stage.puppet("scheduler", holds=("cpus",))
    scheduler.sys.plan(scheduler.handles[0], [])
    members = {name: stage.puppet(name, cpu=0, work=does) for name, does in work.items()}
    return scheduler, scheduler.handles[0], members


def plan(
    scheduler: Puppet, cpu: int, members: dict[str, Puppet], how: int = 0, **milliseconds: float
) -> None:
    slices = [Slice(members[name].thread, int(ms * 1000)) for name, ms in milliseconds.items()]
    scheduler.sys.plan(cpu, slices, how)


def used(members: dict[str, Puppet]) -> dict[str, float]:
    """CPU time of each, in milliseconds."""
    return {name: member.body.consumed() / MS for name, member in members.items()}


def events(scheduler: Puppet) -> list[tuple[Preemption, int]]:
    """The scheduler's messages: event and thread."""
    words = [u.words for u in scheduler.upcalls() if u.label == Label.PREEMPTION]
    return [(Preemption(w[at]), w[at + 1]) for w in words for at in range(0, len(w), 3)]


def test_three_to_two_to_one() -> None:
    """Slices of 3:2:1 divide the processor 3:2:1, all of it used, to the grain of one alarm."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute, c=compute)
        plan(scheduler, cpu, members, a=3, b=2, c=1)
        before = used(members)
        stage.pass_time(600)

        shares = [used(members)[name] - before[name] for name in "abc"]
        assert shares == pytest.approx([300, 200, 100], abs=0.2)
        assert sum(shares) == pytest.approx(600, abs=0.01)


def test_nobody_competes() -> None:
    """Alone on a processor, a program is never stopped and no alarm runs for it."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute)
        plan(scheduler, cpu, members, a=3)
        switches = stage.kernel.kip.counter(Counter.SWITCHES)
        before = used(members)["a"]
        stage.pass_time(500)

        assert used(members)["a"] - before == pytest.approx(500, abs=0.01)
        assert stage.kernel.kip.counter(Counter.SWITCHES) - switches <= 1


def test_sleepers_cost_nothing() -> None:
    """The slices of sleepers are skipped, and the others get the time."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=sleepy(1000, 10**12))
        plan(scheduler, cpu, members, a=3, b=3)
        stage.pass_time(50)
        before = used(members)["a"]
        stage.pass_time(100)

        assert used(members)["a"] - before == pytest.approx(100, abs=0.01)
        assert members["b"].environment.state is EnvironmentState.BLOCKED


def test_who_wakes_is_noticed() -> None:
    """A sleeper that works again is back in the walk within a few milliseconds, and gets its share."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=sleepy(20 * MS, 100 * MS))
        plan(scheduler, cpu, members, a=3, b=3)
        stage.pass_time(1000)
        found = used(members)

        assert 100 < found["b"] < 170
        assert found["a"] + found["b"] == pytest.approx(1000, abs=20)
        assert (Preemption.BLOCKED, members["b"].thread) in events(scheduler)


def test_a_processor_nobody_wants() -> None:
    """When all sleep, the processor rests; the first to wake has it."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=sleepy(MS, 50 * MS), b=sleepy(MS, 70 * MS))
        plan(scheduler, cpu, members, a=3, b=3)
        stage.pass_time(1000)

        assert 10 < used(members)["a"] < 21
        assert 8 < used(members)["b"] < 16


def test_what_was_overrun_is_paid() -> None:
    """The time of a critical section comes off the next slices: shares stay as planned."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        page = members["a"].env.page
        plan(scheduler, cpu, members, a=2, b=2)
        page[Page.CRITICAL] = 1
        before = used(members)
        stage.pass_time(400)
        page[Page.CRITICAL] = 0
        shares = [used(members)[name] - before[name] for name in "ab"]

        assert page[Page.OVERDUE] == 1
        assert shares == pytest.approx([200, 200], abs=4)


def test_a_critical_section_defers_once() -> None:
    """A slice that ends inside a critical section goes on for a millisecond, and not for two."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        members["a"].env.page[Page.CRITICAL] = 1
        plan(scheduler, cpu, members, a=2, b=5)
        running = stage.kernel.processors[0]
        stage.machine.drive(stage.supervisor, until=lambda: current(stage) == "a")
        start = stage.machine.clock.now()
        stage.machine.drive(stage.supervisor, until=lambda: current(stage) == "b")

        assert (stage.machine.clock.now() - start) / MS == pytest.approx(3, abs=0.2)
        assert repr(running) == "<Processor 0 core 0 2 members>"


def current(stage: Theatre) -> str:
    member = stage.kernel.processors[0]._current
    return member.environment.name if member is not None else ""


def test_thread_switch() -> None:
    """A directed slice begins at once, lasts as long as said, ends with a message; then the plan goes on."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=50)
        stage.pass_time(5)
        before = used(members)
        scheduler.sys.thread_switch(cpu, members["b"].thread, 4000)
        stage.pass_time(10)
        shares = [used(members)[name] - before[name] for name in "ab"]

        assert shares == pytest.approx([6, 4], abs=0.2)
        assert (Preemption.SLICE_END, members["b"].thread) in events(scheduler)


def test_one_at_a_time() -> None:
    """A directed slice stops the running member, even the only one of the plan."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=50)
        stage.pass_time(1)
        scheduler.sys.thread_switch(cpu, members["b"].thread, 4000)

        assert (members["a"].body.paused, members["b"].body.paused) == (True, False)


def test_skipped_slices_are_counted_once() -> None:
    """Each slice that is passed over in the walk counts once."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute, s=sleepy(1000, 10**12))
        plan(scheduler, cpu, members, a=2, s=2, b=2)
        stage.pass_time(50)
        count, rounds = stage.kernel.kip.counter, used(members)["a"]
        skipped = count(Counter.SLICES_SKIPPED)
        stage.pass_time(200)

        passed = (used(members)["a"] - rounds) / 2
        assert count(Counter.SLICES_SKIPPED) - skipped == pytest.approx(passed, abs=1)


@pytest.mark.parametrize("microseconds", [0, 499, 10_000_001, (1 << 32) - 1])
def test_slices_that_are_none(microseconds: int) -> None:
    """A slice is from 500 microseconds to 10 seconds."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute)
        thread = members["a"].thread

        assert refusal(scheduler.sys.plan, cpu, [Slice(thread, microseconds)]) == Refusal.BAD_SLICE
        assert refusal(scheduler.sys.thread_switch, cpu, thread, microseconds) == Refusal.BAD_SLICE


def test_threads_that_are_no_members() -> None:
    """Only living members of the processor get slices; a refused plan leaves the old one."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=5)
        stage.kill(members["b"])
        threads = [scheduler.thread, members["b"].thread, thread_id(9999)]
        found = [refusal(scheduler.sys.plan, cpu, [Slice(t, 1000)]) for t in threads]

        assert found == [Refusal.BAD_SLICE, Refusal.STALE_THREAD, Refusal.NO_SUCH_THREAD]
        assert len(stage.kernel.processors[0]._plan.slices) == 1


def test_out_of_the_plan() -> None:
    """A member that is no longer planned is stopped at once, and gets nothing."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=5)
        stage.pass_time(2)
        plan(scheduler, cpu, members, b=5)
        before = used(members)["a"]
        stage.pass_time(50)

        assert (used(members)["a"], members["a"].body.paused) == (before, True)


def test_an_empty_plan() -> None:
    """With an empty plan nobody runs."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute)
        plan(scheduler, cpu, members, a=5)
        stage.pass_time(2)
        scheduler.sys.plan(cpu, [])
        before = used(members)["a"]
        stage.pass_time(20)

        assert used(members)["a"] == before


def test_a_scheduler_that_plans_nobody() -> None:
    """One that is under its own processor, and leaves itself out or plans nobody, runs again within a second."""
    with theatre() as stage:
        scheduler = stage.puppet("scheduler", holds=("cpus",), cpu=0, work=compute)
        other = stage.puppet("a", cpu=0, work=compute)
        for slices in ([], [Slice(other.thread, 5000)]):
            scheduler.sys.plan(scheduler.handles[0], slices)
            stage.pass_time(10)
            before = scheduler.body.consumed()
            stage.pass_time(980)
            assert scheduler.body.consumed() == before
            stage.pass_time(60)
            assert scheduler.body.consumed() > before


def test_a_member_ends() -> None:
    """A member that ends leaves the plan, the next has the processor, and the scheduler is told."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=50, b=5)
        stage.pass_time(1)
        stage.kill(members["a"])
        before = used(members)["b"]
        stage.pass_time(10)

        assert used(members)["b"] - before == pytest.approx(10, abs=0.01)
        assert (Preemption.EXIT, members["a"].thread) in events(scheduler)


def test_newcomers_are_announced() -> None:
    """The scheduler is told of each new member, several in one message."""
    with theatre() as stage:
        scheduler, _, members = cast_of(stage, a=compute, b=compute, c=compute)
        stage.pass_time(2)

        assert events(scheduler) == [(Preemption.READY, members[name].thread) for name in "abc"]


def test_more_slices_for_one() -> None:
    """An environment may have several slices of one plan."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        slices = [Slice(members[name].thread, 1000) for name in "aab"]
        scheduler.sys.plan(cpu, slices)
        before = used(members)
        stage.pass_time(300)
        shares = [used(members)[name] - before[name] for name in "ab"]

        assert shares == pytest.approx([200, 100], abs=2)


# --------------------------------------------------------------------------------- slices that are given up


def test_the_rest_is_given_up() -> None:
    """A member that gives up its slice is stopped at once, the next begins, and nothing is carried over."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(4)
        before = used(members)
        scheduler.sys.thread_switch(cpu, 0, 0, members["a"].thread)
        stage.pass_time(10)
        between = used(members)
        stage.pass_time(20)
        shares = [used(members)[name] - between[name] for name in "ab"]

        assert [between[name] - before[name] for name in "ab"] == pytest.approx([0, 10], abs=0.2)
        assert shares == pytest.approx([10, 10], abs=0.2)


def test_the_rest_is_given_to_another() -> None:
    """It runs for what the giver had left, less the switch, planned or not; then the plan goes on behind it."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute, c=compute)
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(4)
        before = used(members)
        scheduler.sys.thread_switch(cpu, members["c"].thread, 0, members["a"].thread)
        stage.pass_time(16)
        shares = [used(members)[name] - before[name] for name in "abc"]

        assert shares == pytest.approx([0.25, 10, 5.75], abs=0.2)


def test_only_what_one_has_is_given() -> None:
    """Only the member with the processor gives a slice up; only members give and get."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(4)
        scheduler.sys.thread_switch(cpu, 0, 0, members["b"].thread)
        switch, a = scheduler.sys.thread_switch, members["a"].thread

        assert current(stage) == "a"
        assert refusal(switch, cpu, scheduler.thread, 0, a) == Refusal.BAD_SLICE
        assert refusal(switch, cpu, 0, 0, scheduler.thread) == Refusal.BAD_SLICE


def test_nobody_else_wants_it() -> None:
    """A member that gives up its slice while all others sleep goes on at once."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=sleepy(1000, 10**12))
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(50)
        before = used(members)["a"]
        scheduler.sys.thread_switch(cpu, 0, 0, members["a"].thread)
        stage.pass_time(10)

        assert used(members)["a"] - before == pytest.approx(10, abs=0.1)


def test_preemptions_are_shown_to_who_is_preempted() -> None:
    """Its page counts slices that ended by force, not those it gave up, nor those it slept through."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute, s=sleepy(1000, 10**12))
        plan(scheduler, cpu, members, a=10, b=10, s=10)
        counts = {name: member.env.page for name, member in members.items()}
        stage.pass_time(45)
        before = counts["a"][Page.PREEMPTIONS]
        scheduler.sys.thread_switch(cpu, 0, 0, members["a"].thread)

        assert (before, counts["b"][Page.PREEMPTIONS], counts["s"][Page.PREEMPTIONS]) == (2, 2, 0)
        assert (counts["a"][Page.PREEMPTIONS], current(stage)) == (2, "b")


def test_who_waits_outside_the_plan() -> None:
    """The owner's sleep is noticed also when only members without a slice want the processor."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=sleepy(20 * MS, 10**12), b=compute)
        plan(scheduler, cpu, members, a=10)
        stage.pass_time(30)

        assert (Preemption.BLOCKED, members["a"].thread) in events(scheduler)


def test_what_was_used_is_shown_with_a_plan() -> None:
    """With every plan the row of the running member shows its CPU time by then."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute)
        plan(scheduler, cpu, members, a=10)
        stage.pass_time(25)
        plan(scheduler, cpu, members, a=10)
        row = scheduler.env.kip.environment_of(members["a"].thread)

        assert row is not None
        assert row.consumed / MS == pytest.approx(used(members)["a"], abs=0.1)
