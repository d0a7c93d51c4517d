"""Total quanta on the simulated machine: used up, told, and revived."""

from collections.abc import Callable
from functools import partial

import pytest

from kernel.abi.messages import Label
from libexo import l4
from libexo.environment import Environment
from libexo.testing import System, Task, burn
from tests.servers.rig import kill, servers
from tests.servers.scheduler.commanding import (
    FOREVER,
    MS,
    command,
    compute,
    start,
    two_processors,
    uses,
    work_and_sleep,
)

TOLERANCE = 1.5
"""Milliseconds by which a quantum may be overrun: half of it is the grain, the rest the way to the server."""


def period_ms(milliseconds: float) -> float:
    """The rest of a length in the ten bits of a period."""
    return (l4.TimePeriod(int(milliseconds * 1000)).period or 0) / 1000


def limit(system: System, tasks: dict[str, Task], name: str, milliseconds: float) -> int:
    """Set the total quantum of one of *tasks*."""
    quantum = l4.TimePeriod(int(milliseconds * 1000)) if milliseconds else l4.ZeroTime
    return command(
        system, tasks, lambda: l4.Set_Timeslice(tasks[name].thread, l4.TimePeriod(10_000), quantum)
    )


@pytest.mark.parametrize("quantum", [1, 35, 500])
def test_used_up(quantum: int) -> None:
    """A thread that has used its quantum runs no more, and the other has all of the processor."""
    with servers() as system:
        tasks = start(system, a=compute, b=compute)
        before = tasks["a"].body.consumed() / MS
        assert limit(system, tasks, "a", quantum) == l4.SCHEDRESULT_RUNNING
        system.pass_time(3 * quantum / 1000 + 0.1)
        used = tasks["a"].body.consumed() / MS - before

        assert used == pytest.approx(period_ms(quantum), abs=TOLERANCE)
        assert list(uses(system, tasks, 100).values()) == pytest.approx([0, 100], abs=0.1)


def test_alone_and_used_up() -> None:
    """A thread alone on its processor, too, is stopped when its quantum is used up, to half a millisecond."""
    with servers() as system:
        tasks = start(system, a=compute)
        limit(system, tasks, "a", 50)
        before = tasks["a"].body.consumed() / MS
        system.pass_time(1)

        assert tasks["a"].body.consumed() / MS - before == pytest.approx(50, abs=TOLERANCE)


def test_revived() -> None:
    """A new Schedule with times revives it: for another quantum, or for ever. One without leaves it as it is."""
    with servers() as system:
        tasks = start(system, a=compute)
        limit(system, tasks, "a", 20)
        system.pass_time(0.2)
        command(system, tasks, lambda: l4.Set_Priority(tasks["a"].thread, 90))
        still = uses(system, tasks, 200)["a"]
        limit(system, tasks, "a", 30)
        again = uses(system, tasks, 200)["a"]
        command(system, tasks, lambda: l4.Set_Timeslice(tasks["a"].thread, l4.TimePeriod(10_000), l4.Never))

        assert still == 0
        assert again == pytest.approx(30, abs=TOLERANCE)
        assert uses(system, tasks, 200)["a"] == pytest.approx(200, abs=0.1)


def test_none_at_all() -> None:
    """A quantum of no length is used up at once."""
    with servers() as system:
        tasks = start(system, a=compute, b=compute)
        limit(system, tasks, "a", 0)

        assert uses(system, tasks, 100) == {"a": 0, "b": pytest.approx(100, abs=0.1)}


def test_what_is_left() -> None:
    """The old time control says how much of the quantum is left: all, some, nothing (a period of no length)."""
    found = []

    def orders(thread: int, env: Environment) -> None:
        found.append(l4.Timeslice(thread)[1].period)
        env.thread.sleep(0.02)
        found.append(l4.Timeslice(thread)[1].period)
        env.thread.sleep(0.2)
        found.append(l4.Timeslice(thread)[1])

    def root(env: Environment, thread: int) -> None:
        assert l4.ThreadControl(thread, thread, env.thread.id, l4.nilthread)
        l4.Set_Timeslice(thread, l4.TimePeriod(10_000), l4.TimePeriod(100_000))
        orders(thread, env)

    with servers() as system:
        tasks = start(system, a=compute)
        system.run(system.spawn(partial(root, thread=tasks["a"].thread), "root", holds=["factory"]))

        assert found[:2] == [pytest.approx(100_000, abs=200), pytest.approx(80_000, abs=300)]
        assert found[2] == l4.ZeroTime


def test_a_level_that_is_used_up() -> None:
    """A higher level starves the lower one only until its quanta are used up."""
    with servers() as system:
        tasks = start(system, high=compute, low=compute)
        command(system, tasks, lambda: l4.Set_Priority(tasks["low"].thread, 50))
        limit(system, tasks, "high", 100)
        first = uses(system, tasks, 90)
        system.pass_time(0.02)

        assert first == {"high": pytest.approx(90, abs=0.1), "low": 0}
        assert uses(system, tasks, 100) == {"high": 0, "low": pytest.approx(100, abs=0.1)}


def test_sleeping_costs_no_quantum() -> None:
    """A thread that sleeps between its work uses its quantum by its work: 5 ms of every 25 or so."""
    with servers() as system:
        tasks = start(system, a=work_and_sleep(5, 20))
        limit(system, tasks, "a", 50)
        early = uses(system, tasks, 150)["a"]
        rest = uses(system, tasks, 500)["a"]

        assert 20 < early < 40
        assert early + rest == pytest.approx(50, abs=6)


def test_another_processor() -> None:
    """The rest of a quantum goes along to another processor."""
    with two_processors() as system:
        tasks = start(system, a=compute)
        limit(system, tasks, "a", 100)
        before = tasks["a"].body.consumed() / MS
        system.pass_time(0.03)
        command(system, tasks, lambda: l4.Set_ProcessorNo(tasks["a"].thread, 1))
        system.pass_time(0.5)

        assert tasks["a"].body.consumed() / MS - before == pytest.approx(100, abs=TOLERANCE)


def test_set_before_it_is_planned() -> None:
    """A quantum of a program outside all plans counts from when it comes under one."""
    with servers() as system:
        tasks = {"a": system.spawn(compute, "a")}
        system.pass_time(0.05)
        limit(system, tasks, "a", 40)
        system.pass_time(0.1)
        command(system, tasks, lambda: l4.Set_ProcessorNo(tasks["a"].thread, 0))

        assert uses(system, tasks, 300)["a"] == pytest.approx(40, abs=TOLERANCE)


def test_a_new_scheduler_knows() -> None:
    """Killed, the scheduler is back and knows all used-up quanta, and the rests of others."""
    with servers() as system:
        tasks = start(system, a=compute, b=compute)
        limit(system, tasks, "a", 10)
        system.pass_time(0.1)
        before = tasks["b"].body.consumed() / MS
        limit(system, tasks, "b", 2000)
        kill(system, "scheduler")
        stopped = uses(system, tasks, 100)["a"]
        system.pass_time(3)

        assert stopped == 0
        assert tasks["b"].body.consumed() / MS - before == pytest.approx(period_ms(2000), abs=TOLERANCE)


# ------------------------------------------------------------------------------------------------- messages


def waiting(order: Callable[[int], object], task: Task) -> Callable[[Environment], object]:
    """A root that schedules the thread of *task* by *order*, and waits for two messages from it."""

    def root(env: Environment) -> list[tuple[int, int, int, tuple[int, ...], int]]:
        thread, heard = task.thread, []
        assert l4.ThreadControl(thread, thread, env.thread.id, l4.nilthread)
        for _ in range(2):
            order(thread)
            sender, tag = l4.Wait()
            heard.append((sender, tag.label, tag.t, l4.StoreMRs(1, tag.u), l4.SystemClock()))
        return heard

    return root


def test_the_scheduler_is_told() -> None:
    """Its X.2 scheduler gets label -3 from the thread: the clock in MR1, 0 in MR2. Revived, it runs, and again."""

    def order(thread: int) -> None:
        assert l4.Set_Timeslice(thread, l4.TimePeriod(10_000), l4.TimePeriod(30_000))

    with servers() as system:
        tasks = start(system, a=compute)
        before = tasks["a"].body.consumed() / MS
        root = system.spawn(waiting(order, tasks["a"]), "root", holds=["factory"])
        system.run(root)
        assert isinstance(root.result, list)

        assert tasks["a"].body.consumed() / MS - before == pytest.approx(60, abs=3)
        for sender, label, typed, words, now in root.result:
            assert (sender, label, typed, words[1:]) == (tasks["a"].thread, Label.PREEMPTION, 0, (0,))
            assert words[0] == pytest.approx(now, abs=300)
        assert root.result[1][3][0] - root.result[0][3][0] == pytest.approx(30_000, abs=1500)


def test_several_schedules_one_alarm() -> None:
    """A quantum set again and again, shorter and longer, ends once: when the last one that was set is used up."""

    def root(env: Environment) -> list[int]:
        thread = tasks["a"].thread
        assert l4.ThreadControl(thread, thread, env.thread.id, l4.nilthread)
        for milliseconds in (500, 100, 5, 90, 2, 300, 60):
            assert l4.Set_Timeslice(thread, l4.TimePeriod(10_000), l4.TimePeriod(milliseconds * 1000))
        heard = []
        while not (tag := l4.Wait_Timeout(l4.TimePeriod(1_000_000))[1]).E:
            heard.append(tag.label)
        return heard

    with servers() as system:
        tasks = start(system, a=lambda _: burn(FOREVER))
        before = tasks["a"].body.consumed() / MS
        task = system.spawn(root, "root", holds=["factory"])
        system.run(task)

        assert task.result == [Label.PREEMPTION]
        assert tasks["a"].body.consumed() / MS - before == pytest.approx(60, abs=3)
