"""The scheduler server on the simulated machine: who gets how much, and what survives its death."""

import pytest

from libexo.environment import Environment
from libexo.errors import BadArgument, RemoteError
from libexo.testing import System, Task, burn
from servers.scheduler.api import Scheduler
from tests.servers.rig import ask, kill, servers

FOREVER = 10**15


def burners(system: System, count: int) -> list[Task]:
    tasks = [system.spawn(lambda _: burn(FOREVER), f"burner-{n}", cpu=0) for n in range(count)]
    system.pass_time(0.05)
    return tasks


def shares(system: System, tasks: list[Task], seconds: float = 3) -> list[float]:
    """What each uses of the next seconds."""
    before = [task.body.consumed() for task in tasks]
    system.pass_time(seconds)
    return [(task.body.consumed() - was) / 1e9 / seconds for task, was in zip(tasks, before, strict=True)]


def test_equal_shares() -> None:
    """Newcomers are planned at once, each with an equal part."""
    with servers() as system:
        assert shares(system, burners(system, 4)) == pytest.approx([0.25] * 4, abs=0.01)


def test_a_share_of_ones_own() -> None:
    """A program may set its own share, and gets it."""

    def greedy(env: Environment) -> None:
        Scheduler.connect(env).set_share(env.thread.id, 3)
        burn(FOREVER)

    with servers() as system:
        [other] = burners(system, 1)
        task = system.spawn(greedy, "greedy", cpu=0)
        system.pass_time(0.5)

        assert shares(system, [task, other]) == pytest.approx([0.75, 0.25], abs=0.02)


def test_a_share_by_any_of_ones_threads() -> None:
    """Every thread of a program may set its share, under its own id, too: it is one share, the environment's."""

    def greedy(env: Environment) -> None:
        env.start_thread(lambda _: Scheduler.connect(env).set_share(env.current.id, 3))
        env.thread.sleep(0.1)
        burn(FOREVER)

    with servers() as system:
        [other] = burners(system, 1)
        task = system.spawn(greedy, "greedy", cpu=0)
        system.pass_time(0.5)

        assert shares(system, [task, other]) == pytest.approx([0.75, 0.25], abs=0.02)


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

    def greedy(env: Environment) -> None:
        Scheduler.connect(env).set_share(env.thread.id, 3)
        burn(FOREVER)

    with servers(seed=seed) as system:
        [other] = burners(system, 1)
        task = system.spawn(greedy, "greedy", cpu=0)
        system.pass_time(0.5)
        kill(system, "scheduler")

        assert shares(system, [task, other]) == pytest.approx([0.75, 0.25], abs=0.02)
