"""Members of processors that are taken out: where they go, and that they come back."""

import pytest

from libexo.testing import System, Task
from servers.scheduler.api import Scheduler
from servers.scheduler.removals import moves
from tests.servers.rig import command, kill
from tests.servers.scheduler.commanding import compute, two_processors
from tests.servers.scheduler.test_reservations import reserve
from tests.servers.scheduler.test_server import shares

A, B, C, D = 1, 2, 3, 4


def test_to_where_the_fewest_are() -> None:
    """One by one, oldest first; the lowest number where as many are."""
    found, homes = moves({A: 2, B: 2, C: 2, D: 1}, (0, 1, 2), {2}, {})

    assert found == [(A, 0), (B, 0), (C, 1)]
    assert homes == {A: (2, 0), B: (2, 0), C: (2, 1)}


def test_they_come_back() -> None:
    """Those return that are where they were put; whom somebody moved since, or who ended, is forgotten."""
    found, homes = moves({A: 0, B: 1, D: 0}, (0, 1, 2), set(), {A: (2, 0), B: (2, 0), C: (2, 1)})

    assert (found, homes) == ([(A, 2)], {})


def test_moved_twice() -> None:
    """Whose second processor goes, too, is moved on, and comes back to the first."""
    found, homes = moves({A: 0}, (0, 1, 2), {0, 2}, {A: (2, 0)})
    assert (found, homes) == ([(A, 1)], {A: (2, 1)})

    assert moves({A: 1}, (0, 1, 2), {2}, homes) == ([], homes)
    assert moves({A: 1}, (0, 1, 2), set(), homes) == ([(A, 2)], {})


def test_nobody_has_a_choice() -> None:
    """With all of the scheduler's processors out nobody is moved: the kernel does, to another's."""
    assert moves({A: 0}, (0,), {0}, {}) == ([], {})


def power(system: System, number: int, *, on: bool) -> None:
    """Take processor *number* out, or put it back, and let what follows happen."""
    root = system.spawn(lambda env: env.sys.processor_power(number, on=on), holds=["factory"])
    system.run(root)
    system.pass_time(0.1)


def on_both(system: System) -> list[Task]:
    """Four that compute, two on each processor."""
    tasks = [system.spawn(compute, f"c{number}", cpu=number % 2) for number in range(4)]
    system.pass_time(0.05)
    return tasks


def places(tasks: list[Task]) -> list[int]:
    return [task.environment.cpu for task in tasks]


def test_out_and_back() -> None:
    """All four share the processor that is left; when the other is back, two return, and each has half of one."""
    with two_processors() as system:
        tasks = on_both(system)
        before = shares(system, tasks, 1)
        power(system, 1, on=False)
        out, divided = places(tasks), shares(system, tasks, 2)
        power(system, 1, on=True)

        assert before == pytest.approx([0.5] * 4, abs=0.02)
        assert out == [0] * 4
        assert divided == pytest.approx([0.25] * 4, abs=0.02)
        assert places(tasks) == [0, 1, 0, 1]
        assert shares(system, tasks, 1) == pytest.approx([0.5] * 4, abs=0.02)
        assert not any("the kernel moves" in line for line in system.log)


def test_the_first_processor() -> None:
    """It can be taken out as any other."""
    with two_processors() as system:
        tasks = on_both(system)
        power(system, 0, on=False)

        assert places(tasks) == [1] * 4
        assert shares(system, tasks, 2) == pytest.approx([0.25] * 4, abs=0.02)


def reserved(system: System) -> object:
    """Return what is reserved: processor, thread, runtime."""
    return command(
        system, lambda env: [(r.cpu, r.thread, r.runtime) for r in Scheduler.connect(env).reserved()]
    )


def test_reservations_move_as_far_as_they_fit(capfd: pytest.CaptureFixture[str]) -> None:
    """What is reserved moves with its holder; what does not fit is lost, and the log names whose it was."""
    with two_processors() as system:
        zero, one, _, three = on_both(system)
        for task, runtime in ((zero, 4000), (one, 3000), (three, 5000)):
            reserve(system, task, runtime, 10_000)
        power(system, 1, on=False)
        out = reserved(system)
        power(system, 1, on=True)

        assert out == [(0, zero.thread, 4000), (0, one.thread, 3000)]
        assert reserved(system) == [(0, zero.thread, 4000), (1, one.thread, 3000)]
        assert "c3 has no reservation on processor 0: " in capfd.readouterr().err


def test_the_next_server_brings_them_back() -> None:
    """A scheduler server that is killed while a processor is out leaves to the next one who belongs there."""
    with two_processors() as system:
        tasks = on_both(system)
        power(system, 1, on=False)
        kill(system, "scheduler")
        power(system, 1, on=True)

        assert places(tasks) == [0, 1, 0, 1]


def test_while_no_server_is_there() -> None:
    """A server that comes when a processor is out already finds nobody on it: the kernel has moved them."""
    with two_processors() as system:
        tasks = on_both(system)
        [server] = [e for e in system.kernel.environments if e.name == "scheduler"]
        server.body.kill()
        root = system.spawn(lambda env: env.sys.processor_power(1, on=False), holds=["factory"])
        system.run(root)
        system.pass_time(1.5)

        assert places(tasks) == [0] * 4
        assert shares(system, tasks, 2) == pytest.approx([0.25] * 4, abs=0.02)
