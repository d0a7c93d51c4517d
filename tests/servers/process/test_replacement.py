"""A server of the topology is replaced on the simulated machine: by its successor, and back again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import pytest

from kernel.abi.kip import EnvironmentState
from kernel.abi.program import ProgramKind
from libexo import attach
from libexo.environment import Environment
from libexo.errors import RemoteError
from libexo.stub import serve
from libexo.testing import System, simulated
from servers.memory.api import Memory
from servers.process.api import Processes, ProgramSpec
from servers.process.policy import CannotReplace, ProcessRefused
from servers.process.replacement import Replacement
from servers.process.server import ProcessServer
from servers.scheduler.api import Scheduler
from servers.scheduler.server import SchedulerServer
from tests.servers.rig import TOPOLOGY, alive, ask, kill

T = TypeVar("T")


class Desk:
    """An operator, with the root task within reach."""

    def __init__(self, system: System, roots: list[ProcessServer]) -> None:
        self.system, self.roots = system, roots
        self.heard: list[str] = []

    @property
    def root(self) -> ProcessServer:
        return self.roots[-1]

    def begin(self, name: str, program: str = "") -> Replacement:
        spec = ProgramSpec(int(ProgramKind.PYTHON), (program,)) if program else None
        return self.do(lambda: self.root.replacements.begin(name, spec, [], (), self.heard.append))

    def call_off(self, made: Replacement, why: str = "no answer") -> None:
        self.do(lambda: self.root.replacements.call_off(made, why, self.heard.append))

    def do(self, work: Callable[[], T], seconds: float = 0.5) -> T:
        """Have the root task do *work* in its own loop, then let *seconds* pass. Raises what it raised."""
        done: list[T] = []
        raised: list[ProcessRefused] = []

        def work_there() -> None:
            try:
                done.append(work())
            except ProcessRefused as error:
                raised.append(error)

        self.root.server.after(0, work_there)
        ask(self.system, wake, f"wake-{self.system.now}")
        self.system.pass_time(seconds)
        if raised:
            raise raised[0]
        return done[0]

    def run_by(self, name: str) -> str:
        """Return what the living server *name* runs."""
        [found] = [e for e in self.system.kernel.environments if e.name == name and e.alive]
        return str(self.system_program(found.body))

    @staticmethod
    def system_program(body: object) -> str:
        return str(body.program.argv[0])  # type: ignore[attr-defined]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with opened(monkeypatch) as made:
        yield made


@contextmanager
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    roots: list[ProcessServer] = []
    before = ProcessServer.__init__

    def remember(self: ProcessServer, environment: Environment) -> None:
        before(self, environment)
        roots.append(self)

    monkeypatch.setattr(ProcessServer, "__init__", remember)
    with simulated(TOPOLOGY) as system:
        system.machine.programs["lottery"] = lottery
        system.machine.programs["broken"] = broken
        system.pass_time(0.1)
        yield Desk(system, roots)


def wake(env: Environment) -> None:
    """Make the root task look at its alarms."""
    for _ in range(2):
        with suppress(RemoteError):
            Processes.connect(env).wait(77)


def lottery() -> None:
    environment = attach()
    serve(SchedulerServer(environment), environment=environment)


def broken() -> None:
    raise SystemExit(3)


def plans(system: System) -> int:
    """Ask the scheduler for its plan, and for the kernel's: return how many processors have a scheduler."""
    ask(system, lambda env: len(Scheduler.connect(env).plan()), f"asker-{system.now}")
    return sum(processor.scheduler is not None for processor in system.kernel.processors)


def test_a_successor_with_all_it_held(desk: Desk) -> None:
    """Another program takes the server's place: its number, its name, its processors; and it is restarted too."""
    made = desk.begin("scheduler", "lottery")
    kept = desk.root.replacements.keep(made)
    first = desk.run_by("scheduler"), plans(desk.system)
    kill(desk.system, "scheduler")

    assert (desk.heard, kept) == ([""], "")
    assert first == (desk.run_by("scheduler"), plans(desk.system)) == ("lottery", 1)


def test_one_that_ends_at_once(desk: Desk) -> None:
    """The old program is back when the new one ends before it is kept, and the operator is told why."""
    made = desk.begin("scheduler", "broken")
    desk.call_off(made, "it does not answer")

    assert desk.heard == ["", "it ended before it answered: status 3"]
    assert desk.root.replacements.keep(made) == "it ended before it answered: status 3"
    assert (desk.run_by("scheduler"), plans(desk.system)) == ("servers.scheduler", 1)


def test_one_that_does_not_answer(desk: Desk) -> None:
    """Called off, the new one is ended, and what ran before is back."""
    desk.call_off(desk.begin("scheduler", "lottery"))

    assert desk.heard == ["", "no answer"]
    assert (desk.run_by("scheduler"), plans(desk.system)) == ("servers.scheduler", 1)


def test_back_to_the_topology(desk: Desk) -> None:
    """Without a program, what the topology says runs again."""
    desk.root.replacements.keep(desk.begin("scheduler", "lottery"))
    desk.root.replacements.keep(desk.begin("scheduler"))

    assert (desk.run_by("scheduler"), plans(desk.system)) == ("servers.scheduler", 1)


def test_what_is_called_off_before_it_began(desk: Desk) -> None:
    """The old one was killed, and has yet to end: it is back, and the operator is told why."""
    spec = ProgramSpec(int(ProgramKind.PYTHON), ("lottery",))

    def change_ones_mind() -> None:
        made = desk.root.replacements.begin("scheduler", spec, [], (), desk.heard.append)
        desk.root.replacements.call_off(made, "changed my mind", desk.heard.append)

    desk.do(change_ones_mind, 2)
    assert desk.heard == ["changed my mind"]
    assert desk.run_by("scheduler") == "servers.scheduler"


def test_what_the_kernel_refuses_to_start(desk: Desk) -> None:
    """The old program is back, and the operator is told why."""
    spec = ProgramSpec(int(ProgramKind.PYTHON), ("lottery", "\0"))
    desk.do(lambda: desk.root.replacements.begin("scheduler", spec, [], (), desk.heard.append), 2)

    assert ["NUL" in why or "null" in why for why in desk.heard] == [True]
    assert desk.run_by("scheduler") == "servers.scheduler"


def test_what_a_replacement_replaced_comes_back(desk: Desk) -> None:
    """A second replacement that fails leaves the first in its place."""
    desk.root.replacements.keep(desk.begin("scheduler", "lottery"))
    desk.call_off(desk.begin("scheduler", "broken"))

    assert desk.run_by("scheduler") == "lottery"


def test_the_root_task_dies_in_between(desk: Desk) -> None:
    """After a restart of the root task a replacement that was kept stays, and is restarted."""
    desk.root.replacements.keep(desk.begin("scheduler", "lottery"))
    kill(desk.system, "process")
    kill(desk.system, "scheduler")

    assert desk.run_by("scheduler") == "lottery"
    assert alive(desk.system) == ["memory", "process", "scheduler"]


@pytest.mark.parametrize("name", ["process", "nobody"])
def test_what_cannot_be_replaced(desk: Desk, name: str) -> None:
    """A root task cannot, nor can what is no server of the topology; nothing is ended for the attempt."""
    with pytest.raises(CannotReplace, match=name):
        desk.begin(name, "lottery")

    assert desk.system.kernel.environments.named("process") is not None


def test_one_at_a_time(desk: Desk) -> None:
    """While one server is being replaced, it is not replaced again; another one may be."""
    desk.begin("scheduler")
    with pytest.raises(CannotReplace, match="already"):
        desk.begin("scheduler")
    desk.root.replacements.keep(desk.begin("memory"))

    assert ask(desk.system, lambda env: Memory.connect(env).statistics().free > 0) is True


def test_while_it_waits_for_its_restart(desk: Desk) -> None:
    """A server that ends again and again is replaced too: its next start is that of the other program."""
    for _ in range(4):
        if (server := desk.system.kernel.environments.named("scheduler")) is not None:
            server.body.kill()
        desk.system.pass_time(0.1)
    desk.begin("scheduler", "lottery")
    desk.system.pass_time(2)
    [found] = [e for e in desk.system.kernel.environments if e.name == "scheduler" and e.alive]

    assert (desk.heard, desk.run_by("scheduler")) == ([""], "lottery")
    assert found.state is EnvironmentState.READY
