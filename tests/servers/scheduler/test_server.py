"""The scheduler server on the simulated machine: shares, and what survives its death."""

import pytest

from libexo.environment import Environment
from libexo.errors import BadArgument, RemoteError
from libexo.testing import System, Task, burn
from libexo.testing.system import Function
from servers.scheduler.api import Scheduler
from tests.servers.rig import ask, command, kill, servers

FOREVER = 10**15


def burners(system: System, count: int) -> list[Task]:
    tasks = [system.spawn(lambda _: burn(FOREVER), f"burner-{n}", cpu=0) for n in range(count)]
    system.pass_time(0.05)
    return tasks


def shares(system: System, tasks: list[Task], seconds: float = 3) -> list[float]:
    """CPU time of each in the next seconds."""
    before = [task.body.consumed() for task in tasks]
    system.pass_time(seconds)
    return [(task.body.consumed() - was) / 1e9 / seconds for task, was in zip(tasks, before, strict=True)]


def test_equal_shares() -> None:
    """Newcomers are planned at once, each with an equal part."""
    with servers() as system:
        assert shares(system, burners(system, 4)) == pytest.approx([0.25] * 4, abs=0.01)


def place(system: System, head: Task, *members: Task, part: int = 1) -> None:
    """Say that *members* descend from *head*, and which part of the processor they have together."""

    def orders(env: Environment) -> None:
        for task in (head, *members):
            Scheduler.connect(env).place(task.thread, head.thread, part, 1)

    command(system, orders)


def asks_for(share: int) -> Function:
    """A program that sets its own share and computes."""

    def greedy(env: Environment) -> None:
        env.thread.sleep(0.1)
        Scheduler.connect(env).set_share(env.thread.id, share)
        burn(FOREVER)

    return greedy


def test_a_servers_word() -> None:
    """A server's setting is a part of the processor."""
    with servers() as system:
        tasks = burners(system, 2)
        command(system, lambda env: Scheduler.connect(env).set_share(tasks[0].thread, 3))

        assert shares(system, tasks) == pytest.approx([0.75, 0.25], abs=0.02)


def test_a_share_of_ones_own_widens_nothing() -> None:
    """A program may set its own share, but that is of what its family has: alone, it gets no more by it."""
    with servers() as system:
        [other] = burners(system, 1)
        task = system.spawn(asks_for(1000), "greedy", cpu=0)
        system.pass_time(0.5)

        assert shares(system, [task, other]) == pytest.approx([0.5, 0.5], abs=0.02)


def test_a_share_inside_a_family() -> None:
    """Inside its family a program has the part it asked for, under the id of any of its threads."""

    def greedy(env: Environment) -> None:
        env.thread.sleep(0.1)
        env.start_thread(lambda _: Scheduler.connect(env).set_share(env.current.id, 3))
        env.thread.sleep(0.1)
        burn(FOREVER)

    with servers() as system:
        head, other = burners(system, 2)
        task = system.spawn(greedy, "greedy", cpu=0)
        place(system, head, task)
        system.pass_time(0.5)

        assert shares(system, [head, task, other]) == pytest.approx([0.125, 0.375, 0.5], abs=0.02)


def test_a_family_has_one_part() -> None:
    """Twenty members of one family have together what the one of another has."""
    with servers() as system:
        one, head, *members = burners(system, 21)
        place(system, head, *members)
        found = shares(system, [one, head, *members], 4)

        assert found[0] == pytest.approx(0.5, abs=0.02)
        assert found[1:] == pytest.approx([0.5 / 20] * 20, abs=0.01)


def test_a_family_has_the_part_of_its_head() -> None:
    """The first program's part is the whole family's, also when the first has ended."""
    with servers() as system:
        other, head, member = burners(system, 3)
        place(system, head, member, part=3)
        assert shares(system, [other, head, member]) == pytest.approx([0.25, 0.375, 0.375], abs=0.02)

        head.kill()
        system.pass_time(0.1)
        assert shares(system, [other, member]) == pytest.approx([0.25, 0.75], abs=0.02)


def test_who_sleeps_leaves_its_part_to_the_family() -> None:
    """A parent that waits for its child does not halve it."""
    with servers() as system:
        [other, child] = burners(system, 2)
        parent = system.spawn(lambda env: env.thread.sleep(10**6), "parent", cpu=0)
        place(system, parent, child)
        system.pass_time(0.5)

        assert shares(system, [other, child]) == pytest.approx([0.5, 0.5], abs=0.02)


def test_programs_place_nobody() -> None:
    """Programs may not set families."""

    def client(env: Environment) -> str:
        with pytest.raises(RemoteError) as caught:
            Scheduler.connect(env).place(env.thread.id, env.thread.id, 1000, 1)
        return caught.value.kind

    with servers() as system:
        assert ask(system, client) == "NotAllowed"


def test_nobody_elses() -> None:
    """A program may not set another's share, nor one that is none."""

    def client(env: Environment) -> str:
        scheduler = Scheduler.connect(env)
        with pytest.raises(BadArgument, match="share = 0"):
            scheduler.set_share(env.thread.id, 0)
        with pytest.raises(RemoteError) as caught:
            scheduler.set_share(env.lookup("burner-0"), 5)
        return caught.value.kind

    with servers() as system:
        burners(system, 1)
        assert ask(system, client) == "NotAllowed"


def test_the_plan_is_told() -> None:
    """The plan in force can be asked for."""
    with servers() as system:
        tasks = burners(system, 2)
        plan = ask(system, lambda env: [p.thread for p in Scheduler.connect(env).plan()])

        assert plan == [task.thread for task in tasks]


@pytest.mark.parametrize("seed", range(3))
def test_killed_and_back(seed: int) -> None:
    """Killed, the server is back, and the shares that were set still hold."""
    with servers(seed=seed) as system:
        other, task = burners(system, 2)
        command(system, lambda env: Scheduler.connect(env).set_share(task.thread, 3))
        kill(system, "scheduler")

        assert shares(system, [task, other]) == pytest.approx([0.75, 0.25], abs=0.02)
