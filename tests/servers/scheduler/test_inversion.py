"""The classic inversion of priorities: low holds, middle loops, high waits; on the simulated machine."""

import pytest

from libexo.environment import Environment
from libexo.ipc.message import Message
from libexo.testing import System, burn
from servers.scheduler.api import Choice, Scheduler
from tests.servers.rig import command, servers
from tests.servers.scheduler.test_server import FOREVER

MS = 1_000_000


def low(env: Environment) -> None:
    """Serve calls, each with 40 ms of work: more than is lent with a slice."""
    while True:
        _, message = env.thread.wait()
        burn(40 * MS)
        env.thread.reply(message, Message())


def high(to: int, answers: list[int]) -> object:
    """Call low every 50 ms, with 1 ms of work before."""

    def live(env: Environment) -> None:
        while True:
            env.thread.sleep(0.05)
            burn(MS)
            before = env.host.now()
            env.thread.call(to, Message())
            answers.append(env.host.now() - before)

    return live


def play(system: System, inherit: int) -> list[int]:
    """Put priorities in force, with low, middle and high, for two seconds; return how long high's calls took."""
    answers: list[int] = []
    serves = system.spawn(low, "low", cpu=0)
    tasks = [
        serves,
        system.spawn(lambda _: burn(FOREVER), "middle", cpu=0),
        system.spawn(high(serves.thread, answers), "high", cpu=0),  # type: ignore[arg-type]
    ]

    def orders(env: Environment) -> None:
        scheduler = Scheduler.connect(env)
        scheduler.use(Choice("priority", {"inherit": inherit}))
        for rank, task in enumerate(tasks, 1):
            scheduler.set(task.thread, {"priority": rank})

    command(system, orders)
    answers.clear()
    system.pass_time(2)
    return answers


@pytest.mark.parametrize("inherit", [0, 1])
def test_inversion(inherit: int) -> None:
    """Without inheritance high waits for as long as middle loops; with it each call takes low's work, and a bit."""
    with servers() as system:
        answers = play(system, inherit)

    if inherit:
        assert len(answers) > 15
        assert max(answers) < 60 * MS
    else:
        assert len(answers) <= 1
