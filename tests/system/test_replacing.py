"""Another scheduler takes the place of the system's while programs run, and gives it back."""

from collections.abc import Iterator

import pytest

from tests.system.command import Command, place, until

pytestmark = [pytest.mark.system, pytest.mark.beside, pytest.mark.slow]

LOTTERY = """
import random
import libexo
from libexo.sched import Plan
from servers.scheduler.policies import RoundRobin
from servers.scheduler.server import SchedulerServer

class Draw(RoundRobin):
    def plan(self, members, now):
        print("drew among", len(members), flush=True)
        return super().plan(random.sample(members, len(members)), now)

class Lottery(SchedulerServer):
    def __init__(self):
        super().__init__(libexo.attach(), Draw())

class Nothing(RoundRobin):
    most = 0
    def plan(self, members, now):
        return Plan([(each.thread, 0 if len(members) > self.most else 1000) for each in members])

class Few(Nothing):
    most = 2

class NothingServer(SchedulerServer):
    policy = Nothing
    def __init__(self):
        super().__init__(libexo.attach(), self.policy())

class FewServer(NothingServer):
    policy = Few

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


def test_a_plan_that_means_nothing(running: Command) -> None:
    """It is refused by its line: at once, or in the log and by `exo sched`; programs go round robin."""
    why = "gives 161.1 a slice of 0 us, not 500 to 10000000"
    failed = running.exo("serve", "--name", "scheduler", "lottery:NothingServer", status=1)
    assert f"did not come up as scheduler: Nothing.plan ({running.folder}/lottery.py:" in failed.stderr
    assert why in failed.stderr

    running.exo("serve", "--name", "scheduler", "lottery:FewServer")
    assert "fallback" not in running.exo("sched").stdout
    running.exo("run", "-d", "--name", "three", "burn.py")
    until(lambda: "fallback: Few.plan" in running.exo("sched").stdout)
    assert "; round-robin is in force instead" in running.exo("sched").stdout
    assert f"plan refused: Few.plan ({running.folder}/lottery.py:" in running.exo("logs", "scheduler").stdout
    assert shared(running)
    running.exo("kill", "--end", "three")
    until(lambda: "in force again" in running.exo("logs", "scheduler").stdout)
    assert "fallback" not in running.exo("sched").stdout
