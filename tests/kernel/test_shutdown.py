"""The end of the system: the order, the time for each, and the refusals meanwhile."""

import signal

import pytest

from hwmodel.simulated.machine import Outcome
from kernel.abi.errors import Refusal
from kernel.abi.kip import Head, SystemState
from kernel.abi.program import Program, ProgramKind
from kernel.abi.topology import MachineConfig, ServerConfig, Topology
from kernel.environment import Environment
from kernel.errors import Refused
from libexo.environment import Environment as Own
from libexo.testing import System, simulated

IDLE = "tests.kernel.idle_server:Idle"
SERVERS = ("ram", "cpu", "root")
TOPOLOGY = Topology(
    MachineConfig(memory="1 MiB", grace=2.0),
    server={
        "ram": ServerConfig(IDLE, 96, 1, holds=("ram",)),
        "cpu": ServerConfig(IDLE, 99, 2, holds=("cpus",)),
        "root": ServerConfig(IDLE, 98, 3, holds=("factory",)),
    },
)
GRACE = 2.0


def wait_for_ever(environment: Own) -> None:
    environment.thread.wait()


def named(system: System, name: str) -> Environment:
    return [e for e in system.kernel.environments if e.name == name][-1]


class Stage:
    """A system with two programs, one of them under a plan, and a user's server; what each heard, and when."""

    def __init__(self, system: System) -> None:
        self.system = system
        for name, cpu in (("first", -1), ("second", 0)):
            system.spawn(wait_for_ever, name, cpu=cpu)
        system.kernel.environments.create("mine", Program(int(ProgramKind.SERVER), (IDLE,)), [])
        system.spawn(wait_for_ever, "third")
        system.pass_time(0.1)
        self.heard: list[tuple[str, float]] = []
        self.began = 0.0
        for environment in system.kernel.environments:
            self._listen(environment)

    def _listen(self, environment: Environment) -> None:
        body = environment.body

        def hear() -> None:
            self.heard.append((environment.name, round(self.system.now - self.began, 3)))
            del body.handlers[signal.SIGTERM]  # type: ignore[attr-defined]
            body.signal(signal.SIGTERM)

        body.handlers[signal.SIGTERM] = hear  # type: ignore[attr-defined]

    def make_deaf(self, name: str) -> None:
        """Have an environment go on when it is told to end."""
        named(self.system, name).body.handlers[signal.SIGTERM] = lambda: None  # type: ignore[attr-defined]

    def stop(self) -> Outcome:
        """Ask for the end, and run until it is there."""
        self.began = self.system.now
        self.system.machine.clock.alarm(self.system.machine.clock.now(), self.system.supervisor.stop)
        return self.system.run(until=lambda: False, seconds=60, errors=False)

    @property
    def took(self) -> float:
        return round(self.system.now - self.began, 3)

    def alive(self) -> list[str]:
        return [e.name for e in self.system.kernel.environments if e.alive]


def test_the_order() -> None:
    """Programs first, the last started first; then users' servers; then the topology's, in reverse."""
    with simulated(TOPOLOGY) as system:
        stage = Stage(system)
        outcome = stage.stop()

        assert outcome is Outcome.STOPPED
        assert [name for name, _ in stage.heard] == ["third", "second", "first", "mine", "root", "cpu", "ram"]
        assert stage.alive() == []
        assert "the system ends: 3 programs have 2 s" in system.log
        assert "the system ends: 1 users' servers have 2 s" in system.log


def test_who_does_not_end_is_killed() -> None:
    """After the grace; servers were not told before, and others of the group need not wait."""
    with simulated(TOPOLOGY) as system:
        stage = Stage(system)
        stage.make_deaf("first")
        stage.stop()

        assert named_times(stage, "third", "second") == [0.0, 0.0]
        assert named_times(stage, "mine", "root") == [GRACE, GRACE]
        assert "killed, as they did not end in time: first" in system.log
        assert stage.alive() == []


def named_times(stage: Stage, *names: str) -> list[float]:
    return [dict(stage.heard)[name] for name in names]


def test_all_are_deaf() -> None:
    """The longest end takes the grace three times: those of the topology share one."""
    with simulated(TOPOLOGY) as system:
        stage = Stage(system)
        for name in ("first", "second", "third", "mine", *SERVERS):
            stage.make_deaf(name)
        stage.stop()

        assert stage.took == pytest.approx(3 * GRACE, abs=0.01)
        assert stage.alive() == []


@pytest.mark.parametrize(("asked", "took"), [(0.5, 0.5), (10.0, 10.0)])
def test_whoever_asks_may_say_the_grace(asked: float, took: float) -> None:
    """It goes before that of the topology, shorter or longer."""
    with simulated(TOPOLOGY) as system:
        stage = Stage(system)
        stage.make_deaf("first")
        system.machine.grace = asked
        stage.stop()

        assert stage.took == pytest.approx(took, abs=0.01)


def test_no_grace() -> None:
    """Nobody is told; the machine ends them."""
    with simulated(TOPOLOGY) as system:
        stage = Stage(system)
        system.machine.grace = 0.0

        assert (stage.stop(), stage.heard, stage.took) == (Outcome.STOPPED, [], 0.0)


def test_a_second_request_ends_it_at_once() -> None:
    """Environments still there are left to the machine."""
    with simulated(TOPOLOGY) as system:
        stage = Stage(system)
        stage.make_deaf("first")
        clock = system.machine.clock
        clock.alarm(clock.now() + 1_000_000_000, system.supervisor.stop)
        outcome = stage.stop()

        assert (outcome, stage.took) == (Outcome.STOPPED, 1.0)
        assert "first" in stage.alive()


def test_the_stopped_hear_it_too() -> None:
    """One that was stopped by a signal, and one under a plan that gives it nothing, run again."""
    with simulated(TOPOLOGY) as system:
        stage = Stage(system)
        stage.make_deaf("first")
        stage.make_deaf("second")
        first, second = named(system, "first"), named(system, "second")
        first.body.signal(signal.SIGSTOP)
        second.body.pause()
        system.supervisor.stop()

        assert (first.body.paused, second.body.paused, second.cpu) == (False, False, -1)  # type: ignore[attr-defined]
        assert system.kernel.processors[0]._members == {}


def test_nobody_is_started_or_restarted() -> None:
    """A refusal says that the system is ending; a root task that ends is not restarted."""
    with simulated(TOPOLOGY) as system:
        stage = Stage(system)
        stage.make_deaf("first")
        system.supervisor.stop()
        named(system, "root").body.kill()
        system.pass_time(0.5)

        with pytest.raises(Refused) as caught:
            system.spawn(wait_for_ever, "late")
        assert caught.value.refusal == Refusal.ENDING
        assert "root" not in stage.alive()
        assert system.kernel.kip._words[Head.STATE] == SystemState.ENDING


def test_servers_serve_until_the_programs_are_gone() -> None:
    """A program on its way out may still call them: they are told only after it."""
    with simulated(TOPOLOGY) as system:
        stage = Stage(system)
        stage.make_deaf("third")
        system.supervisor.stop()
        system.pass_time(GRACE / 2)

        assert {"third", "mine", *SERVERS} == {*stage.alive()}


def test_a_system_without_servers_ends() -> None:
    """There is nobody to tell."""
    with simulated(Topology(MachineConfig(memory="1 MiB"))) as system:
        system.machine.clock.alarm(system.machine.clock.now(), system.supervisor.stop)

        assert system.run(until=lambda: False) is Outcome.STOPPED
