"""X.2's Schedule on the simulated machine: privilege, refusals, and the effect on slices and levels."""

from collections.abc import Callable

import pytest

from kernel.abi.ids import ANY_THREAD, thread_id
from kernel.abi.kip import EnvironmentState
from kernel.abi.limits import MAX_SLICE_US, MIN_SLICE_US
from libexo import l4
from libexo.environment import Environment
from libexo.l4.format import registers as virtual
from libexo.l4.format.controls import UNCHANGED, time_control
from libexo.sched import QUANTUM
from libexo.testing import System, Task
from servers.scheduler.api import Scheduler
from tests.servers import rig
from tests.servers.rig import ask, kill, servers
from tests.servers.scheduler.commanding import (
    command,
    compute,
    start,
    two_processors,
    uses,
    work_and_sleep,
)

NOTHING = (UNCHANGED,) * 4


def schedule(dest: int, *controls: int) -> tuple[int, int, int]:
    """Old time control, result, and the error code, which is 0 on success."""
    virtual.current().error_code = 0
    old, result = l4.Schedule(dest, *controls)
    return old, result, l4.ErrorCode()


def lengths(system: System) -> dict[int, int]:
    """The slices in force, by thread."""
    plan = ask(
        system, lambda env: [(p.thread, p.microseconds) for p in Scheduler.connect(env).plan()], "asks"
    )
    assert isinstance(plan, list)
    return dict(plan)


# ------------------------------------------------------------------------------------------------- refusals


def test_the_state_and_the_old_times() -> None:
    """All ones change nothing; told are the state, how long slices are, and a quantum without end."""
    with servers() as system:
        tasks = start(system, a=compute)
        found = command(
            system, tasks, lambda: (schedule(tasks["a"].thread, *NOTHING), l4.Timeslice(tasks["a"].thread))
        )

        assert found[0] == (int(l4.TimePeriod(10_000)) << 16, l4.SCHEDRESULT_RUNNING, 0)
        assert found[1] == (l4.TimePeriod(10_000), l4.Never, l4.SCHEDRESULT_RUNNING)


def test_who_sleeps_waits() -> None:
    """A thread that sleeps beside a computing one is in the state of waiting."""
    with servers() as system:
        tasks = start(system, a=compute, s=lambda env: env.thread.sleep(1000))
        system.pass_time(0.1)

        assert (
            command(system, tasks, lambda: schedule(tasks["s"].thread, *NOTHING))[1] == l4.SCHEDRESULT_WAITING
        )


def test_who_is_inactive() -> None:
    """A thread that nobody activated is inactive, and can be given a priority already."""

    def orders(env: Environment) -> list[int]:
        new = thread_id(3000)
        assert l4.ThreadControl(new, new, env.thread.id, l4.nilthread)
        return [schedule(new, *NOTHING)[1], l4.Set_Priority(new, 7)]

    with servers() as system:
        task = system.spawn(orders, "root", holds=["factory"])
        system.run(task)

        assert task.result == [l4.SCHEDRESULT_INACTIVE] * 2


def test_who_is_dead() -> None:
    """A thread that is gone, or never existed, is dead for every caller: no error."""
    with servers() as system:
        tasks = start(system, a=compute)
        tasks["a"].kill()
        system.pass_time(0.1)
        threads = (tasks["a"].thread, thread_id(3999))
        found = ask(system, lambda _: [schedule(thread, *NOTHING) for thread in threads])

        assert found == [(0, l4.SCHEDRESULT_DEAD, 0)] * 2


def test_only_the_scheduler_may() -> None:
    """No stranger, nor the thread itself, nor a space that may create threads may: error 1, and nothing changes."""

    def itself(env: Environment) -> tuple[int, int, int]:
        return schedule(env.thread.id, *NOTHING)

    with servers() as system:
        tasks = start(system, a=compute)
        a = tasks["a"].thread
        privileged = system.spawn(
            lambda _: schedule(a, UNCHANGED, UNCHANGED, 3, UNCHANGED), "root", holds=["factory"]
        )
        system.run(privileged)
        found = [
            ask(system, lambda _: schedule(a, *NOTHING)),
            ask(system, itself, "itself"),
            privileged.result,
        ]

        assert found == [(0, 0, l4.ErrNoPrivilege)] * 3
        assert lengths(system) == {a: 10_000}


def test_any_thread_of_the_schedulers_space_may() -> None:
    """Not the X.2 scheduler alone may, but every thread in its space."""

    def root(env: Environment) -> object:
        answers: list[int] = []
        assert l4.ThreadControl(a, a, env.thread.id, l4.nilthread)
        env.start_thread(lambda _: answers.append(l4.Set_Timeslice(a, l4.TimePeriod(4000), l4.Never)))
        while not answers:
            env.thread.sleep(0.001)
        return answers

    with servers() as system:
        tasks = start(system, a=compute)
        a = tasks["a"].thread
        task = system.spawn(root, "root", holds=["factory"])
        system.run(task)

        assert task.result == [l4.SCHEDRESULT_RUNNING]
        assert lengths(system)[a] == 4000


POINT = 1 << 15 | 5
WRONG = {
    "a timeslice that is a point": (POINT << 16, *NOTHING[1:]),
    "a quantum that is a point": (POINT, *NOTHING[1:]),
    "more than two times": (1 << 32, *NOTHING[1:]),
    "a processor there is not": (UNCHANGED, 1, UNCHANGED, UNCHANGED),
    "a priority above one's own": (UNCHANGED, UNCHANGED, 101, UNCHANGED),
    "no priority at all": (UNCHANGED, UNCHANGED, 256, UNCHANGED),
    "a sensitive priority above one's own": (*NOTHING[:3], 101 << 16),
    "bits of no meaning": (*NOTHING[:3], 1 << 25),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_parameters(what: str) -> None:
    """A word that says nothing sensible is error 5, and of the request nothing is done."""
    with servers() as system:
        tasks = start(system, a=compute)
        a = tasks["a"].thread
        words = [
            int(l4.TimePeriod(2000)) << 16 if w == UNCHANGED and not at else w
            for at, w in enumerate(WRONG[what])
        ]

        assert command(system, tasks, lambda: schedule(a, *words)) == (0, 0, l4.ErrInvalidParam)
        assert lengths(system) == {a: 10_000}


@pytest.mark.parametrize("dest", [0, ANY_THREAD, thread_id(5, 3), thread_id(70), thread_id(1 << 20), 0x1000])
def test_what_can_be_no_thread(dest: int) -> None:
    """Nil and any thread, another version of an interrupt's, those of the kernel, and ids of nowhere: error 2."""
    with servers() as system:
        assert ask(system, lambda _: schedule(dest, *NOTHING)) == (0, 0, l4.ErrInvalidThread)


def test_who_cannot_be_moved() -> None:
    """The holder of a processor can be put under no plan: error 2."""

    def root(env: Environment) -> tuple[int, int, int]:
        scheduler = env.lookup("scheduler")
        assert l4.ThreadControl(scheduler, scheduler, env.thread.id, l4.nilthread)
        return schedule(scheduler, UNCHANGED, 0, UNCHANGED, UNCHANGED)

    with servers() as system:
        task = system.spawn(root, "root", holds=["factory"])
        system.run(task)

        assert task.result == (0, 0, l4.ErrInvalidThread)


# -------------------------------------------------------------------------------------------------- slices


def test_timeslices() -> None:
    """A timeslice is the length of a slice: two members with 3 and 1 ms divide the processor 3:1."""
    with servers() as system:
        tasks = start(system, a=compute, b=compute)
        a, b = (task.thread for task in tasks.values())
        command(
            system,
            tasks,
            lambda: [l4.Set_Timeslice(t, l4.TimePeriod(us), l4.Never) for t, us in ((a, 3000), (b, 1000))],
        )

        assert lengths(system) == {a: 3000, b: 1000}
        assert list(uses(system, tasks, 400).values()) == pytest.approx([300, 100], abs=3.1)


@pytest.mark.parametrize(
    ("asked", "got"),
    [(l4.Never, MAX_SLICE_US), (l4.ZeroTime, MIN_SLICE_US), (l4.TimePeriod(50_000_000), MAX_SLICE_US)],
)
def test_timeslices_that_no_plan_has(asked: l4.Time, got: int) -> None:
    """A slice is half a millisecond at least and ten seconds at most, also where none or no end is asked for."""
    with servers() as system:
        tasks = start(system, a=compute)
        command(system, tasks, lambda: l4.Set_Timeslice(tasks["a"].thread, asked, l4.Never))

        assert lengths(system) == {tasks["a"].thread: got}


def test_a_share_after_a_timeslice() -> None:
    """A thread with a new share has slices as the policy makes them."""
    with servers() as system:
        tasks = start(system, a=compute)
        thread = tasks["a"].thread
        command(system, tasks, lambda: l4.Set_Timeslice(thread, l4.TimePeriod(3000), l4.Never))
        before = lengths(system)
        rig.command(system, lambda env: Scheduler.connect(env).set_share(thread, 2))

        assert [before, lengths(system)] == [{thread: 3000}, {thread: 20_000}]


def test_nobody_widens_its_familys_part() -> None:
    """A program that is the X.2 scheduler of its own family gives it no longer slices than it has."""
    with servers() as system:
        tasks = start(system, a=compute, b=compute)
        thread, other = tasks["a"].thread, tasks["b"].thread

        def root(env: Environment) -> None:
            assert l4.ThreadControl(thread, thread, env.thread.id, l4.nilthread)
            env.thread.sleep(0.2)  # until it is of one family with what it schedules
            assert l4.Set_Timeslice(thread, l4.Never, l4.Never)

        root_task = system.spawn(root, "root", holds=["factory"])
        system.pass_time(0.1)

        def place(env: Environment) -> None:
            for each in (thread, root_task.thread):
                Scheduler.connect(env).place(each, thread, 1, 1)

        rig.command(system, place)
        system.run(root_task)
        assert lengths(system) == {thread: QUANTUM, other: QUANTUM}


# -------------------------------------------------------------------------------------------------- levels


def prioritize(system: System, tasks: dict[str, Task], **priorities: int) -> None:
    """Set priorities, each of which must be taken."""
    results = command(
        system, tasks, lambda: [l4.Set_Priority(tasks[n].thread, p) for n, p in priorities.items()]
    )
    assert all(results)


def test_strict_priorities() -> None:
    """While a higher level computes a lower one gets nothing; inside a level all take turns."""
    with servers() as system:
        tasks = start(system, a=compute, b=compute, c=compute)
        prioritize(system, tasks, c=99)
        found = uses(system, tasks, 400)

        assert found["c"] == 0
        assert [found["a"], found["b"]] == pytest.approx([200, 200], abs=10.1)


def test_a_lower_level_has_what_is_left() -> None:
    """While the higher ones sleep the lower one computes; when they wake, it stops within a few milliseconds."""
    with servers() as system:
        tasks = start(system, high=work_and_sleep(20, 30), low=compute)
        prioritize(system, tasks, low=50)
        found = uses(system, tasks, 1000)

        assert 330 < found["high"] < 420
        assert found["high"] + found["low"] == pytest.approx(1000, abs=120)
        assert found["low"] > 480


def test_back_on_one_level() -> None:
    """With equal priorities again both share as before."""
    with servers() as system:
        tasks = start(system, a=compute, b=compute)
        prioritize(system, tasks, b=20)
        starved = uses(system, tasks, 100)["b"]
        prioritize(system, tasks, a=20)
        found = uses(system, tasks, 400)

        assert starved == 0
        assert list(found.values()) == pytest.approx([200, 200], abs=10.1)


def test_when_the_last_higher_one_ends() -> None:
    """With the end of the higher level the lower one runs."""
    with servers() as system:
        tasks = start(system, a=compute, b=compute)
        prioritize(system, tasks, b=20)
        tasks["a"].kill()
        system.pass_time(0.05)

        assert uses(system, tasks, 100)["b"] == pytest.approx(100, abs=0.1)


def test_who_has_no_slice_is_not_forgotten() -> None:
    """When somebody comes, the kernel waits a second for a plan; that it leaves a level out is no fault."""
    with servers() as system:
        tasks = start(system, a=compute, b=compute)
        prioritize(system, tasks, b=20)
        newcomer = start(system, c=work_and_sleep(0.1, 10**9))
        found = uses(system, tasks, 2500)

        assert (found["b"], system.log) == (0, [])
        assert newcomer["c"].environment.state is EnvironmentState.BLOCKED


def test_what_was_said_survives() -> None:
    """Killed, the scheduler is back, and levels and slices still hold."""
    with servers() as system:
        tasks = start(system, a=compute, b=compute, c=compute)
        prioritize(system, tasks, b=20)
        command(system, tasks, lambda: l4.Set_Timeslice(tasks["c"].thread, l4.TimePeriod(30_000), l4.Never))
        kill(system, "scheduler")
        found = uses(system, tasks, 400)

        assert list(found.values()) == pytest.approx([100, 0, 300], abs=10.1)


# ---------------------------------------------------------------------------------------------- processors


def test_migration() -> None:
    """Moved to another processor, both have one of their own; moved back, they share again."""
    with two_processors() as system:
        tasks = start(system, a=compute, b=compute)
        before = uses(system, tasks, 200)
        moved = command(system, tasks, lambda: l4.Set_ProcessorNo(tasks["b"].thread, 1))
        system.pass_time(0.05)
        apart = uses(system, tasks, 200)
        command(system, tasks, lambda: l4.Set_ProcessorNo(tasks["b"].thread, 0))
        system.pass_time(0.05)

        assert moved == l4.SCHEDRESULT_RUNNING
        assert list(before.values()) == pytest.approx([100, 100], abs=10.1)
        assert list(apart.values()) == pytest.approx([200, 200], abs=0.1)
        assert sum(uses(system, tasks, 200).values()) == pytest.approx(200, abs=0.1)


def test_levels_are_of_one_processor() -> None:
    """A higher level on one processor keeps nobody waiting on another."""
    with two_processors() as system:
        tasks = start(system, a=compute, b=compute)
        prioritize(system, tasks, b=20)
        command(system, tasks, lambda: l4.Set_ProcessorNo(tasks["b"].thread, 1))
        system.pass_time(0.05)

        assert list(uses(system, tasks, 100).values()) == pytest.approx([100, 100], abs=0.1)


def test_from_outside_all_plans() -> None:
    """A program that the host schedules comes under a plan by it, with what was said about it before."""
    with servers() as system:
        tasks = start(system, a=compute) | {"b": system.spawn(compute, "b")}
        prioritize(system, tasks, b=20)
        outside = uses(system, tasks, 50)["b"]
        command(system, tasks, lambda: l4.Set_ProcessorNo(tasks["b"].thread, 0))
        system.pass_time(0.05)

        assert outside == pytest.approx(50, abs=0.1)
        assert list(uses(system, tasks, 100).values()) == pytest.approx([100, 0], abs=0.1)


# ------------------------------------------------------------------------------------------------ messages


def sent(*words: int) -> Callable[[Environment], object]:
    """A program that sends *words* to the scheduler's label, and returns the answer."""

    def program(_: Environment) -> object:
        l4.LoadMRs(0, (l4.MsgTag.of(label=0x1234, u=len(words)), *words))
        tag = l4.Call(l4.sched_get_server())
        return tag.E, tag.label, l4.StoreMRs(1, tag.u)

    return program


@pytest.mark.parametrize("count", [0, 1, 4, 6, 63])
def test_messages_of_another_length(count: int) -> None:
    """A request has five words; any other is answered with error 5, and nobody waits for ever."""
    with servers() as system:
        assert ask(system, sent(*[UNCHANGED] * count)) == (False, 0x1234, (0, 0, l4.ErrInvalidParam))


def test_the_only_client_is_answered() -> None:
    """Where the older protocol's server switched to its one blocked client and never answered, this one answers."""

    def program(env: Environment) -> object:
        tag = l4.sched_send_request(l4.SchedRequest(env.thread.id))
        return tag.E, l4.StoreMRs(1, tag.u)

    with servers() as system:
        task = system.spawn(program, "only", cpu=0)
        system.run(task)

        assert task.result == (False, (0, 0, l4.ErrNoPrivilege))


def test_time_control_of_both() -> None:
    """The old time control of the next request is what was set."""
    with servers() as system:
        tasks = start(system, a=lambda env: env.thread.sleep(1000))
        a, control = tasks["a"].thread, time_control(l4.TimePeriod(5000), l4.TimePeriod(70_000))
        found = command(
            system, tasks, lambda: [schedule(a, control, *NOTHING[1:])[0], schedule(a, *NOTHING)[0]]
        )

        assert found == [time_control(l4.TimePeriod(10_000), l4.Never), control]
