"""Environments moved from one processor's plan to another's, or from outside all plans under one."""

import pytest

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.ids import thread_id
from kernel.abi.kip import PROCESSOR, X2, Counter, EnvironmentState
from kernel.abi.messages import Preemption
from kernel.abi.rights import Rights
from kernel.abi.topology import MachineConfig, Topology
from libexo.testing import Task
from tests.kernel.passing import passed
from tests.kernel.puppets import Puppet, Theatre, idle, refusal, theatre, wait_for_ever
from tests.kernel.test_processor import compute, events, plan, sleepy, used

TWO = Topology(MachineConfig(memory="1 MiB", cpus=(0, 1)))
READY, EXIT = Preemption.READY, Preemption.EXIT


def schedulers(stage: Theatre) -> tuple[Puppet, Puppet, int, int]:
    """A scheduler for each processor; the first may move to both. Returns its two handles."""
    first, second = stage.puppet("first"), stage.puppet("second")
    one, two = (stage.system.give(first.task, processor).handle for processor in stage.kernel.processors)
    other = stage.system.give(second.task, stage.kernel.processors[1]).handle
    first.sys.plan(one, [])
    second.sys.plan(other, [])
    return first, second, one, two


def test_from_plan_to_plan() -> None:
    """It leaves one plan and comes under the other: one scheduler hears of its exit, the other that it is ready."""
    with theatre(TWO) as stage:
        first, second, one, two = schedulers(stage)
        members = {name: stage.puppet(name, cpu=0, work=compute) for name in "ab"}
        plan(first, one, members, a=3, b=3)
        stage.pass_time(10)
        events(first)
        first.sys.migrate(two, members["a"].thread)
        stage.pass_time(2)

        assert events(first) == [(EXIT, members["a"].thread)]
        assert events(second) == [(READY, members["a"].thread)]
        assert (members["a"].environment.cpu, members["a"].body.core) == (1, stage.kernel.processors[1].core)


def test_runs_by_the_new_plan_only() -> None:
    """Where it was the others have all the time; where it is it stands still until it is planned."""
    with theatre(TWO) as stage:
        first, second, one, two = schedulers(stage)
        members = {name: stage.puppet(name, cpu=0, work=compute) for name in "ab"}
        plan(first, one, members, a=3, b=3)
        stage.pass_time(10)
        first.sys.migrate(two, members["a"].thread)
        before = used(members)
        stage.pass_time(100)
        between = used(members)
        plan(second, second.caps[0].handle, members, a=5)
        stage.pass_time(100)
        after = used(members)

        assert between["a"] == before["a"]
        assert between["b"] - before["b"] == pytest.approx(100, abs=0.01)
        assert [after[name] - between[name] for name in "ab"] == pytest.approx([100, 100], abs=0.01)


def test_from_outside_all_plans() -> None:
    """An environment that the host scheduled runs by the plan from then on."""
    with theatre() as stage:
        scheduler = stage.puppet("scheduler", holds=("cpus",))
        scheduler.sys.plan(scheduler.handles[0], [])
        members = {"a": stage.puppet("a", work=compute), "b": stage.puppet("b", cpu=0, work=compute)}
        stage.pass_time(10)
        scheduler.sys.migrate(scheduler.handles[0], members["a"].thread)
        before = used(members)
        stage.pass_time(10)
        between = used(members)
        plan(scheduler, scheduler.handles[0], members, a=3, b=1)
        stage.pass_time(400)
        after = used(members)

        assert before["a"] == pytest.approx(10, abs=0.01)
        assert between["a"] == before["a"]
        assert [after[name] - between[name] for name in "ab"] == pytest.approx([300, 100], abs=4)


def test_where_it_is_already() -> None:
    """Moved to the processor it is under, it goes on, and nobody is told."""
    with theatre() as stage:
        scheduler = stage.puppet("scheduler", holds=("cpus",))
        members = {"a": stage.puppet("a", cpu=0, work=compute)}
        plan(scheduler, scheduler.handles[0], members, a=5)
        stage.pass_time(10)
        events(scheduler)
        scheduler.sys.migrate(scheduler.handles[0], members["a"].thread)
        before = used(members)["a"]
        stage.pass_time(10)

        assert used(members)["a"] - before == pytest.approx(10, abs=0.01)
        assert events(scheduler) == []


def test_the_processor_is_given_on_at_once() -> None:
    """An environment moved away while it has the processor leaves it to the next of the plan."""
    with theatre(TWO) as stage:
        first, _, one, two = schedulers(stage)
        members = {name: stage.puppet(name, cpu=0, work=compute) for name in "ab"}
        plan(first, one, members, a=50, b=50)
        stage.pass_time(5)
        first.sys.migrate(two, members["a"].thread)

        assert (members["a"].body.paused, members["b"].body.paused) == (True, False)


def test_one_scheduler_of_both() -> None:
    """It hears of the exit before the arrival, whatever else it is about to be told."""
    with theatre(TWO) as stage:
        scheduler = stage.puppet("scheduler", holds=("cpus",))
        for cpu in scheduler.handles:
            scheduler.sys.plan(cpu, [])
        member = stage.puppet("member", cpu=0, work=compute)
        stage.pass_time(5)
        other = stage.puppet("other", cpu=1, work=compute)
        stage.pass_time(0.5)
        scheduler.sys.migrate(scheduler.handles[1], member.thread)
        scheduler.sys.migrate(scheduler.handles[0], member.thread)
        stage.pass_time(5)

        threads = [(what, thread) for what, thread in events(scheduler) if thread == member.thread]
        assert threads == [(READY, member.thread), (EXIT, member.thread)] * 2 + [(READY, member.thread)]
        assert other.environment.cpu == 1


def test_a_sleeper_moves() -> None:
    """A sleeper is moved as well, is found to sleep there too, and wakes there."""
    with theatre(TWO) as stage:
        first, second, one, two = schedulers(stage)
        members = {"s": stage.puppet("s", cpu=0, work=sleepy(5_000_000, 100_000_000))}
        members["c"] = stage.puppet("c", cpu=1, work=compute)
        members["a"] = stage.puppet("a", cpu=0, work=compute)
        plan(first, one, members, s=3, a=3)
        stage.pass_time(50)
        asleep = members["s"].environment.state
        first.sys.migrate(two, members["s"].thread)
        plan(second, second.caps[0].handle, members, s=3, c=3)
        stage.pass_time(20)
        again = members["s"].environment.state
        before = used(members)["s"]
        stage.pass_time(1000)

        assert (asleep, again) == (EnvironmentState.BLOCKED, EnvironmentState.BLOCKED)
        assert 30 < used(members)["s"] - before < 55


def test_before_it_runs() -> None:
    """An environment whose program is still being started starts under the plan it was moved to."""
    with theatre(TWO) as stage:
        first, second, _, two = schedulers(stage)
        task = stage.system.spawn(wait_for_ever, "early", cpu=0)
        first.sys.migrate(two, task.thread)
        state = task.environment.state
        stage.settle()
        stage.pass_time(2)

        assert (state, task.environment.state) == (EnvironmentState.STARTING, EnvironmentState.READY)
        assert (events(first), events(second)) == ([], [(READY, task.thread)])


def test_from_outside_before_it_runs() -> None:
    """One that was to run outside all plans does not run before it is planned."""
    with theatre() as stage:
        scheduler = stage.puppet("scheduler", holds=("cpus",))
        scheduler.sys.plan(scheduler.handles[0], [])
        task: Task = stage.system.spawn(wait_for_ever, "early")
        task.body.entry = lambda: compute(task.body)
        scheduler.sys.migrate(scheduler.handles[0], task.thread)
        stage.pass_time(50)
        before = task.body.consumed()
        scheduler.sys.plan(scheduler.handles[0], [traps.Slice(task.thread, 1000)])
        stage.pass_time(50)

        assert before == 0
        assert task.body.consumed() == pytest.approx(50_000_000, abs=100_000)


def test_without_a_scheduler() -> None:
    """Under a processor that nobody plans it runs by the kernel's round robin."""
    with theatre(TWO) as stage:
        mover = stage.puppet("mover", holds=("cpus",))
        member = stage.puppet("member", work=compute)
        mover.sys.migrate(mover.handles[1], member.thread)
        before = member.body.consumed()
        stage.pass_time(50)

        assert member.body.consumed() - before == pytest.approx(50_000_000, abs=100_000)
        assert stage.kernel.kip.counter(Counter.WATCHDOG_FALLBACKS) == 1


def test_the_old_plan_is_none_of_its_business() -> None:
    """The old scheduler can give it no slice any more; when it ends, the new one hears of it."""
    with theatre(TWO) as stage:
        first, second, one, two = schedulers(stage)
        member = stage.puppet("member", cpu=0, work=compute)
        first.sys.migrate(two, member.thread)
        stage.pass_time(2)
        events(first), events(second)
        found = refusal(first.sys.plan, one, [traps.Slice(member.thread, 1000)])
        stage.kill(member)
        stage.pass_time(2)

        assert found == Refusal.BAD_SLICE
        assert (events(first), events(second)) == ([], [(EXIT, member.thread)])


def test_successors_start_where_it_was_moved() -> None:
    """The successor of one that was moved is under the same processor."""
    with theatre(TWO) as stage:
        first, _, _, two = schedulers(stage)
        server = stage.puppet("server", cpu=0, keeps=True)
        stage.system.give(first.task, server.environment)
        first.sys.migrate(two, server.thread)
        stage.kill(server)

        assert stage.heir(server).environment.cpu == 1


def test_who_holds_a_processor_stays() -> None:
    """An author of plans is put under none: it would wait for itself. One that only sees a processor may be."""
    with theatre(TWO) as stage:
        first, second, one, _ = schedulers(stage)
        watcher = stage.puppet("watcher")
        seen = first.sys.derive(one, Rights.READ | Rights.TRANSFER)
        passed(first, seen, watcher, Rights.READ)
        found = [refusal(first.sys.migrate, one, thread) for thread in (first.thread, second.thread)]
        first.sys.migrate(one, watcher.thread)

        assert found == [Refusal.BAD_SLICE] * 2
        assert (second.environment.cpu, watcher.environment.cpu) == (-1, 0)


def test_who_attached_stays() -> None:
    """A program started outside the system stays in the host's scheduling, and is not stopped for a plan."""
    with theatre() as stage:
        scheduler = stage.puppet("scheduler", holds=("cpus",))
        body = stage.machine.attach("tool", lambda: idle(body), uid=7)
        tool = stage.kernel.environments.adopt(body, "tool", None, frozenset())
        found = refusal(scheduler.sys.migrate, scheduler.handles[0], tool.thread)
        stage.kernel.environments.kill(tool)
        stage.settle()

        assert (found, body.paused) == (Refusal.BAD_SLICE, False)


def test_threads_that_are_none() -> None:
    """A thread that is gone or never was cannot be moved; nor does a weaker capability suffice."""
    with theatre() as stage:
        scheduler, gone = stage.puppet("scheduler", holds=("cpus",)), stage.puppet("gone")
        stage.kill(gone)
        weak = scheduler.sys.derive(scheduler.handles[0], Rights.READ)

        cpu = scheduler.handles[0]
        assert refusal(scheduler.sys.migrate, cpu, gone.thread) == Refusal.STALE_THREAD
        assert refusal(scheduler.sys.migrate, cpu, thread_id(9999)) == Refusal.NO_SUCH_THREAD
        assert refusal(scheduler.sys.migrate, weak, scheduler.thread) == Refusal.MISSING_RIGHT


def frequencies(stage: Theatre, processor: int) -> tuple[int, int]:
    """External and internal frequency as the KIP shows them."""
    kip = stage.kernel.kip
    external, internal = PROCESSOR.unpack_from(
        kip._buffer, kip._words[X2.PROC_DESC] + processor * PROCESSOR.size
    )
    return external, internal


def test_processor_control() -> None:
    """An environment that may create others sets the frequencies of a processor shown to all in the KIP."""
    with theatre(TWO) as stage:
        root = stage.puppet("root", holds=("factory",))
        before = frequencies(stage, 0)
        root.sys.processor_control(1, internal=3_000_000, external=100_000, voltage=900)

        assert (frequencies(stage, 0), frequencies(stage, 1)) == (before, (100_000, 3_000_000))


def test_processor_control_refused() -> None:
    """Others may not say so, and a processor there is not has no frequency."""
    with theatre(TWO) as stage:
        root, other = stage.puppet("root", holds=("factory",)), stage.puppet("other", holds=("cpus",))
        before = [frequencies(stage, number) for number in range(2)]
        control = root.sys.processor_control

        assert refusal(other.sys.processor_control, 0, 1, 2, 3) == Refusal.NO_PRIVILEGE
        assert [refusal(control, n, 1, 2, 3) for n in (2, (1 << 64) - 1)] == [Refusal.BAD_ARGUMENT] * 2
        assert [frequencies(stage, number) for number in range(2)] == before
