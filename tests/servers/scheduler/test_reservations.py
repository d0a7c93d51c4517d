"""Reservations by the scheduler server, on the simulated machine: made, changed, handed on, moved, inherited."""

import pytest

from kernel.abi.rights import Kind, Rights
from libexo.environment import Environment
from libexo.errors import RemoteError
from libexo.testing import System, Task
from servers.scheduler.api import Scheduler
from tests.servers.rig import ask, command, kill, servers
from tests.servers.scheduler.test_server import burners, shares


def reserve(system: System, task: Task, runtime: int, period: int) -> object:
    """Have a server reserve; return why that is refused, or what is reserved then."""

    def orders(env: Environment) -> object:
        scheduler = Scheduler.connect(env)
        try:
            scheduler.reserve(task.thread, runtime, period)
        except RemoteError as error:
            return error.kind
        return [(each.thread, each.runtime, each.period) for each in scheduler.reserved()]

    return command(system, orders)


def test_beside_the_plan() -> None:
    """A program has what is reserved for it, and its slices of the rest."""
    with servers() as system:
        tasks = burners(system, 2)
        first = reserve(system, tasks[0], 4000, 10_000)

        assert first == [(tasks[0].thread, 4000, 10_000)]
        assert shares(system, tasks, 1) == pytest.approx([0.7, 0.3], abs=0.02)


def test_another_and_none() -> None:
    """It is replaced by what fits, and kept where that does not; 0 ends it."""
    with servers() as system:
        one, two = burners(system, 2)
        reserve(system, one, 6000, 10_000)
        found = [reserve(system, one, 9000, 10_000), reserve(system, two, 1000, 10_000)]

        assert found == [[(one.thread, 9000, 10_000)], "NotReserved"]
        assert reserve(system, one, 9600, 10_000) == "NotReserved"
        assert reserve(system, two, 500, 10_000) == [(one.thread, 9000, 10_000), (two.thread, 500, 10_000)]
        assert reserve(system, one, 0, 0) == [(two.thread, 500, 10_000)]


def test_for_commanders_only() -> None:
    """A program reserves nothing, for itself neither."""

    def tries(env: Environment) -> str:
        try:
            Scheduler.connect(env).reserve(env.thread.id, 1000, 10_000)
        except RemoteError as error:
            return error.kind
        return ""

    with servers() as system:
        task = system.spawn(tries, "tries", cpu=0)
        system.run(task)

        assert task.result == "NotAllowed"


def test_handed_on() -> None:
    """A program asks for the capability to what it has, takes a part of it, and gives that to another."""

    def gives(env: Environment) -> tuple[int, int, int]:
        mine = Scheduler.connect(env).reservation()
        part = env.sys.derive(mine.handle, Rights.CONTROL, 1000, 20_000)
        seen = env.sys.inspect(part)
        return mine.runtime, seen.kind, env.sys.inspect(mine.handle).first

    def waits(env: Environment) -> object:
        env.thread.sleep(0.2)
        return gives(env)

    with servers() as system:
        task = system.spawn(waits, "waits", cpu=0)
        system.pass_time(0.05)
        reserve(system, task, 4000, 10_000)
        system.run(task)

        assert task.result == (4000, Kind.RESERVATION, 3500)


def test_the_server_is_killed() -> None:
    """What is reserved goes on meanwhile, and its successor knows of it."""
    with servers() as system:
        tasks = burners(system, 2)
        reserve(system, tasks[0], 4000, 10_000)
        kill(system, "scheduler")
        system.pass_time(0.3)
        found = ask(system, lambda env: [each.runtime for each in Scheduler.connect(env).reserved()])

        assert found == [4000]
        assert shares(system, tasks, 1) == pytest.approx([0.7, 0.3], abs=0.02)


def test_whoever_ends() -> None:
    """What was reserved for a program that ends is free again."""
    with servers() as system:
        one, two = burners(system, 2)
        reserve(system, one, 9000, 10_000)
        one.body.kill()
        system.pass_time(0.1)

        assert reserve(system, two, 9000, 10_000) == [(two.thread, 9000, 10_000)]
