"""Schedulers of a processor: dying, silent, new, or none."""

import pytest

from kernel.abi.kip import Counter
from kernel.abi.messages import Preemption
from tests.kernel.puppets import theatre
from tests.kernel.test_processor import cast_of, compute, events, plan, used


def test_the_scheduler_dies() -> None:
    """Without its scheduler a processor is divided round robin by the kernel, which says so."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=50)
        stage.pass_time(5)
        stage.kill(scheduler)
        before = used(members)
        stage.pass_time(400)
        shares = [used(members)[name] - before[name] for name in "ab"]

        assert shares == pytest.approx([200, 200], abs=25)  # the slice of 50 ms is finished first
        assert "processor 0: the scheduler is gone: round robin by the kernel" in stage.system.log


def test_a_new_scheduler_is_told_whom_it_left_out() -> None:
    """Members that came without a scheduler, and are not in the next one's first plan, are announced to it."""
    with theatre() as stage:
        members = {name: stage.puppet(name, cpu=0, work=compute) for name in "abc"}
        scheduler = stage.puppet("scheduler", holds=("cpus",))
        plan(scheduler, scheduler.handles[0], members, b=3)
        stage.pass_time(2)

        assert events(scheduler) == [(Preemption.READY, members[name].thread) for name in "ac"]

        plan(scheduler, scheduler.handles[0], members, b=3)
        stage.pass_time(2)

        assert events(scheduler) == []


def test_a_new_scheduler_that_begins_with_a_switch_is_told_of_all() -> None:
    """It has planned nobody yet."""
    with theatre() as stage:
        members = {name: stage.puppet(name, cpu=0, work=compute) for name in "ab"}
        scheduler = stage.puppet("scheduler", holds=("cpus",))
        scheduler.sys.thread_switch(scheduler.handles[0], members["a"].thread, 1000)
        stage.pass_time(2)

        told = [told for told in events(scheduler) if told[0] is Preemption.READY]
        assert told == [(Preemption.READY, members[name].thread) for name in "ab"]


def test_the_scheduler_is_silent() -> None:
    """A newcomer that the scheduler does not plan within a second runs by the kernel's round robin."""
    with theatre() as stage:
        _, _, members = cast_of(stage, a=compute, b=compute)
        stage.pass_time(999)
        before = used(members)
        stage.pass_time(401)

        assert before == {"a": 0, "b": 0}
        assert used(members)["a"] == pytest.approx(200, abs=11)
        assert stage.kernel.kip.counter(Counter.WATCHDOG_FALLBACKS) == 1


def test_no_scheduler_at_all() -> None:
    """Before there is a scheduler, members run round robin."""
    with theatre() as stage:
        members = {name: stage.puppet(name, cpu=0, work=compute) for name in "ab"}
        stage.pass_time(200)

        assert used(members)["a"] == pytest.approx(100, abs=11)


def test_a_scheduler_that_answers() -> None:
    """When everybody is planned in time, the watchdog leaves the plan alone."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        scheduler.sys.thread_switch(cpu, members["a"].thread, 1000)
        plan(scheduler, cpu, members, a=3, b=3)
        stage.pass_time(1500)

        assert stage.kernel.kip.counter(Counter.WATCHDOG_FALLBACKS) == 0
