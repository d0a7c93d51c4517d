"""Processors that are taken out of the system, and put back."""

import pytest

from kernel.abi.errors import Refusal
from kernel.abi.ids import NIL_THREAD
from kernel.abi.kip import Counter, Head
from kernel.abi.limits import MAX_SLICES
from kernel.abi.messages import Preemption
from kernel.abi.rights import Rights
from kernel.abi.topology import MachineConfig, Topology
from libexo.errors import TrapRefused
from tests.kernel.puppets import Puppet, Theatre, refusal, theatre
from tests.kernel.test_migrate import TWO, schedulers
from tests.kernel.test_processor import compute, events, plan, sleepy, used

LEAVES, RETURNS = Preemption.LEAVES, Preemption.RETURNS
SECOND = 1000


def root_of(stage: Theatre) -> Puppet:
    """Somebody who may take processors out."""
    return stage.puppet("root", holds=("factory",))


def test_the_scheduler_is_told() -> None:
    """It hears which processor goes, moves who is there, and hears when it is back; the page shows it to all."""
    with theatre(TWO) as stage:
        root, scheduler = root_of(stage), stage.puppet("scheduler", holds=("cpus",))
        zero, one = scheduler.handles
        members = {name: stage.puppet(name, cpu=1, work=compute) for name in "ab"}
        scheduler.sys.plan(zero, [])
        plan(scheduler, one, members, a=3, b=3)
        stage.pass_time(2)
        events(scheduler)
        fallbacks = stage.kernel.kip.counter(Counter.WATCHDOG_FALLBACKS)
        root.sys.processor_power(1, on=False)
        stage.pass_time(2)
        told, shown = events(scheduler), root.env.kip.processors_off()
        for member in members.values():
            scheduler.sys.migrate(zero, member.thread)
        plan(scheduler, zero, members, a=3, b=3)
        stage.pass_time(SECOND + 100)
        root.sys.processor_power(1, on=True)
        stage.pass_time(2)

        assert told == [(LEAVES, NIL_THREAD)]
        assert set(shown) == {1}
        assert events(scheduler)[-1] == (RETURNS, NIL_THREAD)
        assert root.env.kip.processors_off() == frozenset()
        assert [member.environment.cpu for member in members.values()] == [0, 0]
        assert stage.kernel.kip.counter(Counter.WATCHDOG_FALLBACKS) == fallbacks


def test_its_number_is_in_the_message() -> None:
    """A scheduler of several processors is told which one it is."""
    with theatre(TWO) as stage:
        root = root_of(stage)
        _, second, *_ = schedulers(stage)
        root.sys.processor_power(1, on=False)
        stage.pass_time(2)

        assert [upcall.words for upcall in second.upcalls()] == [(LEAVES, NIL_THREAD, 1)]


def test_until_they_are_moved_they_run() -> None:
    """A processor that was taken out goes on for those that it has."""
    with theatre(TWO) as stage:
        root = root_of(stage)
        _, second, _, _ = schedulers(stage)
        members = {name: stage.puppet(name, cpu=1, work=compute) for name in "ab"}
        plan(second, second.caps[0].handle, members, a=3, b=3)
        before = used(members)
        root.sys.processor_power(1, on=False)
        stage.pass_time(400)

        assert [used(members)[name] - before[name] for name in "ab"] == pytest.approx([200, 200], abs=4)


def test_a_scheduler_that_leaves_them_there() -> None:
    """After a second the kernel moves them, and says whose fault that is; they share the processor that is left."""
    with theatre(TWO) as stage:
        root = root_of(stage)
        first, second, one, _ = schedulers(stage)
        members = {name: stage.puppet(name, cpu=1, work=compute) for name in "ab"}
        members["s"] = stage.puppet("s", cpu=1, work=sleepy(1_000_000, 100_000_000))
        plan(second, second.caps[0].handle, members, a=3, b=3, s=3)
        stage.pass_time(10)
        root.sys.processor_power(1, on=False)
        stage.pass_time(SECOND - 1)
        before = [member.environment.cpu for member in members.values()]
        stage.pass_time(2)
        after = [member.environment.cpu for member in members.values()]
        plan(first, one, members, a=3, b=3, s=3)
        had = used(members)
        stage.pass_time(600)

        assert (before, after) == ([1] * 3, [0] * 3)
        assert [used(members)[name] - had[name] for name in "ab"] == pytest.approx([297, 297], abs=10)
        assert used(members)["s"] > had["s"]
        assert "processor 1: second leaves a: the kernel moves all" in stage.system.log
        assert stage.kernel.kip.counter(Counter.WATCHDOG_FALLBACKS) == 1


def test_without_a_scheduler() -> None:
    """The kernel moves them at once, and walks its round robin over all on the processor that is left."""
    with theatre(TWO) as stage:
        root = root_of(stage)
        members = {"a": stage.puppet("a", cpu=0, work=compute), "b": stage.puppet("b", cpu=1, work=compute)}
        members["c"] = stage.puppet("c", cpu=1, work=compute)
        stage.pass_time(20)
        root.sys.processor_power(1, on=False)
        stage.pass_time(20)
        before = used(members)
        stage.pass_time(900)

        assert [member.environment.cpu for member in members.values()] == [0] * 3
        assert [used(members)[name] - before[name] for name in "abc"] == pytest.approx([300] * 3, abs=11)


def test_the_last_one() -> None:
    """The last processor that is on cannot be taken out, and one that is out not again; nothing has changed."""
    with theatre(TWO) as stage:
        root = root_of(stage)
        root.sys.processor_power(0, on=False)
        root.sys.processor_power(0, on=False)

        assert refusal(root.sys.processor_power, 1, on=False) == Refusal.PROCESSOR_NEEDED
        assert root.env.kip.processors_off() == {0}
        root.sys.processor_power(0, on=True)
        root.sys.processor_power(0, on=True)
        root.sys.processor_power(1, on=False)
        assert root.env.kip.processors_off() == {1}


def test_who_may() -> None:
    """Whoever may create environments; nobody else, the scheduler neither, and no processor that there is not."""
    with theatre(TWO) as stage:
        root, scheduler = root_of(stage), stage.puppet("scheduler", holds=("cpus",))

        assert refusal(scheduler.sys.processor_power, 1, on=False) == Refusal.NO_PRIVILEGE
        assert refusal(root.sys.processor_power, 2, on=False) == Refusal.BAD_ARGUMENT
        assert stage.kernel.kip.head(Head.PROCESSORS_OFF) == 0


def test_nobody_comes_to_it() -> None:
    """Neither a new environment nor one that is moved; the successor of one that ended there comes to another."""
    with theatre(TWO) as stage:
        root, scheduler = root_of(stage), stage.puppet("scheduler", holds=("cpus",))
        member, ended = stage.puppet("member", cpu=0), stage.puppet("ended", cpu=1, keeps=True)
        stage.system.give(root.task, ended.environment)
        stage.kill(ended)
        stage.pass_time(5)
        root.sys.processor_power(1, on=False)
        heir = stage.heir(ended)

        assert refusal(scheduler.sys.migrate, scheduler.handles[1], member.thread) == Refusal.PROCESSOR_OFF
        with pytest.raises(Exception, match="processor 1"):
            stage.puppet("newcomer", cpu=1)
        assert (member.environment.cpu, heir.environment.cpu) == (0, 0)


def test_others_have_no_room() -> None:
    """A processor whose members find no place stays; the refusal says how many places there are."""
    with theatre(Topology(MachineConfig(memory="2 MiB", cpus=(0, 1)))) as stage:
        root = root_of(stage)
        for number in range(MAX_SLICES - 1):
            stage.puppet(f"full-{number}", cpu=0)
        for name in "ab":
            stage.puppet(name, cpu=1)

        with pytest.raises(TrapRefused, match="processor 1 has 2, and the others have room for 1") as caught:
            root.sys.processor_power(1, on=False)
        assert caught.value.refusal == Refusal.PROCESSOR_NEEDED
        assert stage.kernel.kip.head(Head.PROCESSORS_OFF) == 0


def test_put_back_before_they_were_moved() -> None:
    """The kernel moves nobody from a processor that is back, and a later removal has its whole second."""
    with theatre(TWO) as stage:
        root = root_of(stage)
        schedulers(stage)
        member = stage.puppet("member", cpu=1, work=compute)
        root.sys.processor_power(1, on=False)
        stage.pass_time(500)
        root.sys.processor_power(1, on=True)
        stage.pass_time(200)
        root.sys.processor_power(1, on=False)
        stage.pass_time(SECOND - 1)
        before = member.environment.cpu
        stage.pass_time(2)

        assert (before, member.environment.cpu) == (1, 0)


def test_capabilities_stay() -> None:
    """Those to a processor that is out, and to reservations of it, are what they were, and count again later."""
    with theatre(TWO) as stage:
        root, scheduler = root_of(stage), stage.puppet("scheduler", holds=("cpus",))
        zero, one = scheduler.handles
        members = {name: stage.puppet(name, cpu=1, work=compute) for name in "ab"}
        plan(scheduler, one, members, a=1, b=1)
        part = scheduler.sys.derive(one, Rights.CONTROL, 6000, 10_000)
        scheduler.sys.migrate(part, members["a"].thread)
        held = {capability.handle for capability in scheduler.caps}
        root.sys.processor_power(1, on=False)
        for member in members.values():
            scheduler.sys.migrate(zero, member.thread)
        stage.pass_time(5)
        kept = {capability.handle for capability in scheduler.caps}
        said = scheduler.sys.inspect(part)
        root.sys.processor_power(1, on=True)
        for member in members.values():
            scheduler.sys.migrate(one, member.thread)
        scheduler.sys.migrate(part, members["a"].thread)
        plan(scheduler, one, members, b=5, a=5)
        before = used(members)
        stage.pass_time(1000)

        assert kept == held
        assert (said.first, said.count, said.text) == (6000, 10_000, "")
        assert [used(members)[name] - before[name] for name in "ab"] == pytest.approx([800, 200], abs=15)
