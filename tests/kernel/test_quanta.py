"""The end of a total quantum: whose scheduler hears of it, and what."""

import pytest

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.ids import thread_id
from kernel.abi.messages import Label
from tests.kernel.puppets import MS, Puppet, Theatre, refusal, theatre
from tests.kernel.test_processor import compute


def cast_of(stage: Theatre) -> tuple[Puppet, Puppet, int, Puppet]:
    """The author of plans, X.2's scheduler of a thread, that thread, and a member it is."""
    writer = stage.puppet("writer", holds=("cpus",))
    writer.sys.plan(writer.handles[0], [])
    member = stage.puppet("member", cpu=0, work=compute)
    scheduler = stage.puppet("root", holds=("factory",))
    scheduler.sys.thread_control(traps.ThreadControl(member.thread, member.thread, scheduler.thread))
    return writer, scheduler, member.thread, member


def test_the_scheduler_is_told() -> None:
    """It gets a preemption message from the thread: two words, the clock in microseconds and 0."""
    with theatre() as stage:
        writer, scheduler, thread, _ = cast_of(stage)
        scheduler.upcalls()
        stage.pass_time(7)
        clock = stage.machine.clock.now() / MS
        writer.sys.expire(writer.handles[0], thread)
        [told] = scheduler.upcalls()

        assert (told.sender, told.label, told.thread) == (thread, Label.PREEMPTION, scheduler.thread)
        assert told.words[0] / 1000 == pytest.approx(clock, abs=1)
        assert told.words[1:] == (0,)


def test_nobody_is_told() -> None:
    """Without an X.2 scheduler, or with the author of the plans as one, no message is sent."""
    with theatre() as stage:
        writer, scheduler, thread, _ = cast_of(stage)
        other = stage.puppet("other", cpu=0, work=compute)
        scheduler.sys.thread_control(traps.ThreadControl(thread, thread, writer.thread))
        stage.pass_time(5)
        drained = [p.upcalls() for p in (writer, scheduler)]
        for each in (thread, other.thread):
            writer.sys.expire(writer.handles[0], each)

        assert any(drained)
        assert [p.upcalls() for p in (writer, scheduler)] == [[], []]


def test_threads_that_are_no_members() -> None:
    """Only threads under the processor have quanta there; a weaker capability does not suffice."""
    with theatre() as stage:
        writer, scheduler, thread, member = cast_of(stage)
        stage.kill(member)
        cpu, threads = writer.handles[0], (scheduler.thread, thread, thread_id(3000))
        weak = writer.sys.derive(cpu, 0)

        assert [refusal(writer.sys.expire, cpu, each) for each in threads] == [
            Refusal.BAD_SLICE,
            Refusal.STALE_THREAD,
            Refusal.NO_SUCH_THREAD,
        ]
        assert refusal(writer.sys.expire, weak, scheduler.thread) == Refusal.MISSING_RIGHT
