"""Servers that do not answer, in virtual time: ended, excused, or left alone."""

import signal
from contextlib import suppress
from functools import partial

import msgspec
import pytest

from hwmodel.simulated.bodies import SimulatedBody
from kernel.abi.errors import Fault
from kernel.abi.heartbeat import BEAT, BUSY_LOOKS, LOOK, STILL_LOOKS
from kernel.abi.kip import Counter
from kernel.abi.obituary import Obituary
from kernel.abi.topology import ServerConfig
from kernel.environment import Environment as KernelEnvironment
from libexo.environment import Environment
from libexo.errors import NoPartner, RemoteError
from libexo.stub import Interface, operation, serve
from libexo.testing import System, Task, burn, simulated
from servers.memory.api import Memory
from servers.process.api import Processes, ProgramSpec
from servers.scheduler.api import Scheduler
from tests.libexo.moves import Peers
from tests.servers.rig import TOPOLOGY, ask, offer, servers

SECOND = 1_000_000_000
FOUND = (3 * BEAT + STILL_LOOKS * LOOK) / SECOND
"""Seconds in which one that stands still is found out, and its successor runs."""


class Stubborn(Interface, label=0x77, name="stubborn"):
    """Does what may take for ever."""

    @operation(1)
    def hang(self) -> None:
        """Wait for something that never comes."""

    @operation(2)
    def compute(self, seconds: float) -> None:
        """Compute for so long."""


class StubbornServer(Stubborn):
    """Does it."""

    def hang(self) -> None:
        """Wait."""
        self.environment.thread.sleep(10**6)

    def compute(self, seconds: float) -> None:
        """Compute."""
        burn(int(seconds * SECOND))


def named(system: System, name: str) -> KernelEnvironment:
    return [e for e in system.kernel.environments if e.name == name and e.alive][-1]


def body(system: System, name: str) -> SimulatedBody:
    found = named(system, name).body
    assert isinstance(found, SimulatedBody)
    return found


def obituaries(text: str) -> list[Obituary]:
    found = (Obituary.read(line) for line in text.splitlines())
    return [each for each in found if each is not None]


def ended(system: System) -> int:
    return system.kernel.kip.counter(Counter.UNRESPONSIVE)


def stubborn(system: System, *, heartbeat: bool = True, name: str = "stubborn") -> None:
    """Have the process server start one that is restarted."""
    spec = offer(system, lambda env: serve(StubbornServer(), name, env), name)
    spec.heartbeat, spec.restart = heartbeat, "always"
    ask(system, lambda env: Processes.connect(env).spawn(spec), f"starter-of-{name}")
    system.pass_time(0.3)


def test_all_answer() -> None:
    """Left alone for a minute, nobody is ended."""
    with servers() as system:
        before = [body(system, name) for name in ("memory", "process", "scheduler")]
        system.pass_time(60)

        assert [body(system, name) for name in ("memory", "process", "scheduler")] == before
        assert ended(system) == 0


@pytest.mark.parametrize("name", ["memory", "process", "scheduler"])
def test_a_stopped_server(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is ended, its successor serves, and a line and a record give its name, the reason and the restart."""
    with servers() as system:
        system.pass_time(2)
        first = named(system, name)
        first.body.signal(signal.SIGSTOP)
        system.pass_time(FOUND + 0.1)

        assert (first.alive, first.fault) == (False, Fault.UNRESPONSIVE)
        assert (named(system, name).alive, ended(system)) == (True, 1)
        assert ask(system, lambda env: Memory.connect(env).allocate(1).pages) == 1
        assert ask(system, lambda env: len(Scheduler.connect(env).plan()), "other") == 0
        [dead] = obituaries(capsys.readouterr().err + "\n".join(system.log))
        assert (dead.name, dead.fault, dead.next_try, dead.restarts) == (name, Fault.UNRESPONSIVE, 0, 0)
        assert "it was stopped" in dead.cause


def test_a_server_that_hangs_in_an_operation() -> None:
    """Its caller is told that the server is gone; later callers, of its successor, are served."""

    def caller(env: Environment) -> str:
        with pytest.raises(NoPartner):
            Stubborn.connect(env).hang()
        Stubborn.connect(env).compute(0.001)
        return "served"

    with servers() as system:
        stubborn(system)
        assert ask(system, caller) == "served"
        assert ended(system) == 1


def test_a_server_that_computes() -> None:
    """One that computes may only be starved: it has ten seconds."""

    def caller(env: Environment) -> str:
        Stubborn.connect(env).compute(8)
        with pytest.raises(NoPartner):
            Stubborn.connect(env).compute(2 * BUSY_LOOKS * LOOK / SECOND)
        return "ended"

    with servers() as system:
        stubborn(system)
        assert ask(system, caller) == "ended"
        assert ended(system) == 1


def test_only_who_asked_for_it() -> None:
    """A program without a heartbeat may take as long as it likes."""
    with servers() as system:
        stubborn(system, heartbeat=False)
        first = body(system, "stubborn")
        system.spawn(lambda env: Stubborn.connect(env).hang(), "caller")
        system.pass_time(60)

        assert body(system, "stubborn") is first
        assert ended(system) == 0


def test_one_that_is_debugged() -> None:
    """A server under a debugger is left alone, and watched again when the debugger is gone."""
    with servers() as system:
        system.pass_time(1)
        first = body(system, "scheduler")
        first.tracer = True
        first.signal(signal.SIGSTOP)
        system.pass_time(60)
        assert body(system, "scheduler") is first

        first.tracer = False
        system.pass_time(FOUND)
        assert body(system, "scheduler") is not first


def test_who_waits_for_another_is_not_ended_for_it() -> None:
    """The memory server is stopped; the scheduler, which waits for it, is excused, and only the former ended."""
    with servers() as system:
        system.pass_time(1)
        memory, scheduler = body(system, "memory"), body(system, "scheduler")
        task = system.spawn(lambda env: env.thread.sleep(10**6), "program", cpu=0)
        memory.signal(signal.SIGSTOP)
        share_of(system, task)  # for which the scheduler needs memory
        system.pass_time(1)

        assert body(system, "memory") is not memory
        assert body(system, "scheduler") is scheduler
        assert ended(system) == 1


def test_one_that_waits_for_frames() -> None:
    """A server for which others are pressed does not hang; one that hangs meanwhile is found out."""

    class Hungry(StubbornServer):
        def compute(self, seconds: float) -> None:
            Memory.connect(self.environment).claim(55)
            got.append(seconds)

    def caller(env: Environment) -> None:
        Stubborn.connect(env, "hungry").compute(1.0)

    def hangs(env: Environment) -> None:
        with pytest.raises(NoPartner):
            Stubborn.connect(env, "hungry").hang()

    got: list[float] = []
    with servers(memory=("grace=3",)) as system:
        for pages in (128, 70):
            system.spawn(partial(holds, pages), f"holds{pages}")
            system.pass_time(0.3)
        spec = offer(system, lambda env: serve(Hungry(), "hungry", env), "hungry")
        spec.heartbeat = True
        ask(system, lambda env: Processes.connect(env).spawn(spec), "starter")
        system.pass_time(0.5)
        ask(system, caller)

        assert (got, ended(system)) == ([1.0], 0)
        ask(system, hangs, "hanging")
        assert ended(system) == 1


def holds(pages: int, env: Environment) -> None:
    """Have so many frames, and give none back."""
    memory = Memory.connect(env)
    for _ in range(pages):
        memory.allocate(1)
    env.thread.sleep(10**6)


def share_of(system: System, task: Task) -> None:
    """Have a program set its share, and not wait for that."""

    def asks(env: Environment) -> None:
        with suppress(RemoteError):  # the scheduler heard that the memory server was ended
            Scheduler.connect(env).set_share(env.thread.id, 2)

    system.spawn(asks, f"asks-for-{task.thread}")


def test_a_server_that_knows_no_heartbeat() -> None:
    """A server of the topology that never answered is asked once, and left alone."""
    mute = ServerConfig("tests.servers.process.mute:Mute", 100, 4)
    with simulated(msgspec.structs.replace(TOPOLOGY, server={**TOPOLOGY.server, "mute": mute})) as system:
        system.pass_time(60)

        assert (named(system, "mute").alive, ended(system)) == (True, 0)


def test_a_successor_that_hangs_at_its_start() -> None:
    """A program started with a heartbeat must answer within five seconds of its start."""
    with servers() as system:
        spec = offer(system, lambda env: env.thread.sleep(10**6), "late")
        spec.heartbeat, spec.restart = True, "always"
        ask(system, lambda env: Processes.connect(env).spawn(spec))
        first = body(system, "late")
        system.pass_time(4)
        assert body(system, "late") is first
        system.pass_time(3)
        assert body(system, "late") is not first


def test_the_spec_says_so() -> None:
    """A program has no heartbeat unless it is started with one."""
    assert not ProgramSpec(1, ("x",)).heartbeat


def test_where_we_are_late_ourselves() -> None:
    """A starved process server blames no waiting server: its question may not have been sent."""
    with servers() as system:
        stubborn(system)
        first = body(system, "stubborn")
        system.spawn(hangs, "caller")
        system.pass_time(0.01)
        for _ in range(20):
            body(system, "process").signal(signal.SIGSTOP)
            system.pass_time(0.06)
            body(system, "process").signal(signal.SIGCONT)
            system.pass_time(0.02)
        assert body(system, "stubborn") is first

        system.pass_time(FOUND)
        assert body(system, "stubborn") is not first


def hangs(env: Environment) -> None:
    with suppress(NoPartner):
        Stubborn.connect(env).hang()


def test_one_that_is_not_restarted(capsys: pytest.CaptureFixture[str]) -> None:
    """A server with a heartbeat and no restart rule is ended, too, and has its obituary."""
    with servers() as system:
        spec = offer(system, lambda env: env.thread.sleep(10**6), "once")
        spec.heartbeat = True
        ask(system, lambda env: Processes.connect(env).spawn(spec))
        system.pass_time(7)

        [dead] = obituaries(capsys.readouterr().err)
        assert (dead.name, dead.next_try, dead.fault) == ("once", None, Fault.UNRESPONSIVE)
        assert dead.line.endswith("not restarted")


def test_what_fell_is_given_up_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that nobody calls any more keeps nothing of the bindings of those who have ended."""
    peers: list[Peers] = []
    make = Peers.__init__

    def made(self: Peers, *arguments: object) -> None:
        make(self, *arguments)  # type: ignore[arg-type]
        peers.append(self)

    def crowd(env: Environment) -> None:
        for name in ("memory", "process", "scheduler") * 20:
            bound, descriptors = env.sys.bind(env.lookup(name))
            env.host.transport.channel(bound.address, bound.token)
            for each in descriptors:
                env.host.close_descriptor(each)
        env.thread.sleep(1)

    monkeypatch.setattr(Peers, "__init__", made)
    with servers() as system:
        before = [len(each.known) for each in peers]
        ask(system, crowd)
        after = [len(each.known) for each in peers]
        system.pass_time(4 * BEAT / SECOND)

        assert sum(after) >= sum(before) + 60
        assert [len(each.known) for each in peers][: len(before)] == before
