"""The process server on the simulated machine: spawn, wait, kill, names, restarts."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from kernel.abi.messages import Label
from kernel.abi.obituary import Obituary
from libexo.environment import Environment
from libexo.errors import NotFound, RemoteError
from libexo.ipc.message import Message
from servers.process.api import Exit, Processes, ProgramSpec
from servers.process.server import ProcessServer
from tests.servers.rig import alive, ask, kill, offer, servers


def kind_of(action: object, *arguments: object) -> str:
    """Return the name of what the server raises."""
    assert callable(action)
    try:
        action(*arguments)
    except RemoteError as error:
        return error.kind
    return "done"


def leave(status: int, after: float = 0.0) -> Callable[[Environment], object]:
    def program(env: Environment) -> None:
        env.thread.sleep(after)
        raise SystemExit(status)

    return program


def live(env: Environment) -> None:
    env.thread.sleep(1e6)


@pytest.mark.parametrize("late", [0.0, 1.0])
def test_spawn_and_wait(late: float) -> None:
    """A caller that waits for a program gets its exit status, whether it waits before the end or after."""

    def client(env: Environment) -> Exit:
        processes = Processes.connect(env)
        thread = processes.spawn(spec)
        env.thread.sleep(late)
        return processes.wait(thread)

    with servers() as system:
        spec = offer(system, leave(3, after=0.5))
        assert ask(system, client) == Exit(3)


def test_waiting_for_nobody() -> None:
    """Nobody's exit can be waited for, nor can nobody be killed."""

    def client(env: Environment) -> list[str]:
        processes = Processes.connect(env)
        return [kind_of(processes.wait, 77), kind_of(processes.kill, 77)]

    with servers() as system:
        assert ask(system, client) == ["NoSuchProgram", "NoSuchProgram"]


def test_kill() -> None:
    """The starter of a program may kill it, nobody else may."""

    def client(env: Environment) -> tuple[str, int]:
        processes = Processes.connect(env)
        thread = processes.spawn(spec)
        other = env.lookup("other")
        env.thread.call(other, Message(words=(thread,)))
        processes.kill(thread, 15)
        return "killed", processes.wait(thread).status

    def other(env: Environment) -> str:
        sender, message = env.thread.wait()
        found = kind_of(Processes.connect(env).kill, message.words[0], 9)
        env.thread.reply(sender, message)
        return found

    with servers() as system:
        spec = offer(system, live)
        stranger = system.spawn(other, "other")

        assert ask(system, client) == ("killed", -15)
        assert stranger.result == "NotYours"


def test_what_cannot_be_started() -> None:
    """No program, a taken name, and a name that is none are refused; a program that is not there ends so."""

    def client(env: Environment) -> list[object]:
        processes = Processes.connect(env)
        specs = ProgramSpec(1, ()), ProgramSpec(1, ("x",), "memory"), ProgramSpec(1, ("x",), " ")
        missing = processes.spawn(ProgramSpec(1, ("missing",)))
        return [*(kind_of(processes.spawn, spec) for spec in specs), processes.wait(missing).status]

    with servers() as system:
        assert ask(system, client) == ["SpawnRefused"] * 3 + [127]


def test_a_name_is_free_as_soon_as_the_kernel_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that sees another gone may start one of its name, before the other's starter is told."""

    def client(env: Environment) -> list[int]:
        processes = Processes.connect(env)
        threads = []
        for _ in range(2):
            threads.append(processes.spawn(spec))
            env.thread.sleep(1)
        return [processes.wait(thread).status for thread in threads[:1]]

    def deaf(server: ProcessServer, sender: int, message: Message) -> None:
        if message.label != Label.DEATH:
            hears(server, sender, message)

    hears = ProcessServer.kernel_message
    monkeypatch.setattr(ProcessServer, "kernel_message", deaf)
    with servers() as system:
        spec = offer(system, leave(3))
        assert ask(system, client) == [3]


def test_names() -> None:
    """A program may publish a name, unless another has it; a name goes with its thread."""

    def client(env: Environment) -> tuple[bool, str]:
        processes = Processes.connect(env)
        processes.register("alias")
        return env.lookup("alias") == env.thread.id, kind_of(processes.register, "memory")

    def later(env: Environment) -> bool:
        with pytest.raises(NotFound):
            env.lookup("alias")
        return True

    with servers() as system:
        assert ask(system, client) == (True, "NameTaken")
        assert ask(system, later, "later") is True


def test_restarted_with_backoff() -> None:
    """A program that always ends at once is started again, each time after twice the delay, up to a bound."""
    starts: list[float] = []

    def program(env: Environment) -> None:
        starts.append(env.host.now() / 1e9)
        raise SystemExit(1)

    with servers() as system:
        spec = offer(system, program)
        spec.restart = "on-failure"
        ask(system, lambda env: Processes.connect(env).spawn(spec))
        system.pass_time(20)

    gaps = [b - a for a, b in pairwise(starts)]
    assert gaps[:8] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0], abs=0.02)


def test_what_is_said_of_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    """A restarted program died, unless an authorised caller asked it to end; its successor was not asked."""

    def client(env: Environment) -> None:
        thread = Processes.connect(env).spawn(spec)
        env.thread.sleep(2)
        Processes.connect(env).kill(thread, 15)
        env.thread.sleep(2)

    with servers() as system:
        spec = offer(system, live)
        spec.restart = "always"
        ask(system, client)
        kill(system, "job")
    records = [found for line in capsys.readouterr().err.splitlines() if (found := Obituary.read(line))]

    assert [(each.name, each.asked, each.cause) for each in records] == [
        ("job", 15, "SIGTERM"),
        ("job", 0, "SIGKILL"),
    ]


def test_restarted_at_once_after_a_long_run() -> None:
    """A program that ran for a while is started again at once, under its name."""
    with servers() as system:
        spec = offer(system, leave(1, after=2))
        spec.restart = "always"
        first = ask(system, lambda env: Processes.connect(env).spawn(spec))
        system.pass_time(2.5)
        second = ask(system, lambda env: env.lookup("job"), "late")

        assert (first != second, "job" in alive(system)) == (True, True)


@pytest.mark.parametrize("name", ["memory", "scheduler", "process"])
def test_servers_are_restarted(name: str) -> None:
    """Each server that is killed is back under its name, in its next version, again and again."""
    with servers() as system:
        for n in range(3):
            kill(system, name)
            assert alive(system) == ["memory", "process", "scheduler"]
            assert ask(system, lambda env: env.lookup(name) & 0xFFFFFFFF, f"client-{n}") == 2 * n + 3


def test_children_survive_their_server() -> None:
    """Killed, the process server still answers for the programs it promised to restart."""
    with servers() as system:
        spec = offer(system, live)
        spec.restart = "always"
        thread = ask(system, lambda env: Processes.connect(env).spawn(spec))
        kill(system, "process")
        [job] = [e for e in system.kernel.environments if e.name == "job"]
        job.body.kill()
        system.pass_time(1)

        assert "job" in alive(system)
        assert ask(system, lambda env: env.lookup("job") != thread, "late") is True
