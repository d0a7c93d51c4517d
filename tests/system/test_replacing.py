"""Another scheduler takes the place of the system's while programs run, and gives it back."""

from collections.abc import Iterator

import pytest

from tests.system.command import Command, place, until

pytestmark = [pytest.mark.system, pytest.mark.slow]

LOTTERY = """
import random
import libexo
from servers.scheduler.policy import RoundRobin
from servers.scheduler.server import SchedulerServer

class Draw(RoundRobin):
    def plan(self, shares):
        print("drew among", len(shares), flush=True)
        return super().plan(dict(random.sample(sorted(shares.items()), len(shares))))

class Lottery(SchedulerServer):
    def __init__(self):
        super().__init__(libexo.attach(), Draw())

class Silent(SchedulerServer):
    def __init__(self):
        raise CommandExit("out of tickets")
"""
BURN = "while True: pass\n"


@pytest.fixture
def running() -> Iterator[Command]:
    """A system with two programs that compute."""
    with place(Command) as made:
        made.up()
        made.write("lottery.py", LOTTERY)
        made.write("burn.py", BURN)
        for name in ("one", "two"):
            made.exo("run", "-d", "--name", name, "burn.py")
        yield made


def shared(system: Command) -> bool:
    """Both programs get on from now."""
    before = system.listed()
    until(lambda: all(system.listed()[n]["cpu_ns"] > before[n]["cpu_ns"] for n in ("one", "two")))
    return True


def test_a_lottery_instead_of_the_round_robin(running: Command) -> None:
    """The new one has the processors and plans the programs that run; one that fails leaves it there; and back."""
    before = running.listed()["scheduler"]["thread"]
    assert running.exo("serve", "--name", "scheduler", "lottery:Lottery").stdout == "scheduler\n"
    until(lambda: "drew among 2" in running.exo("logs", "scheduler").stdout)
    during = running.listed()["scheduler"]["thread"]
    assert shared(running)
    failed = running.exo("serve", "--name", "scheduler", "lottery:Silent", status=1)
    assert shared(running)
    assert running.exo("serve", "scheduler").stdout == "scheduler\n"
    assert shared(running)

    assert (before, during) == ("99.1", "99.3")
    assert "lottery:Silent did not come up as scheduler" in failed.stderr
    assert running.exo("status").returncode == 0
    assert set(running.listed()) == {"memory", "process", "scheduler", "one", "two"}
