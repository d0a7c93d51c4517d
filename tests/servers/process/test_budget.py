"""The process server and budgets on the simulated machine: its charges, and what it forgets."""

import pytest

from kernel.abi.budget import Item
from libexo.environment import Environment
from libexo.errors import IpcError, IpcTimeout, RemoteError
from libexo.testing import System
from servers.process.api import Exit, Processes, ProgramSpec
from servers.process.waiting import Exits
from tests.servers.process.test_server import kind_of, leave, live
from tests.servers.rig import ask, offer, servers


def budget(system: System, name: str, item: Item) -> tuple[int, int]:
    """Return what is used, and the limit."""
    [found] = [e for e in system.kernel.environments if e.name == name and e.alive]
    return found.budget.used[item], found.budget.limit[item]


def wait_and_give_up(env: Environment, thread: int) -> str:
    """Wait for *thread*, but not for its answer."""
    try:
        Processes.connect(env, timeout=0.001).wait(thread)
    except IpcTimeout:
        return "waits"
    except RemoteError as error:
        return error.kind
    return "ended"


def test_waits_are_bounded() -> None:
    """A program that waits without end is refused more, and costs others nothing; its end clears all of it."""
    found: list[str] = []

    def client(env: Environment) -> None:
        processes = Processes.connect(env)
        thread = processes.spawn(job)
        limit = env.kip.budget(env.number)[Item.WAITS].limit
        found.extend(wait_and_give_up(env, thread) for _ in range(limit + 3))
        env.thread.sleep(1e6)

    with servers() as system:
        job, quick = offer(system, live), offer(system, leave(3), "quick")
        hog = system.spawn(
            lambda env: Processes.connect(env).wait(Processes.connect(env).spawn(shell)), "hog"
        )
        shell = offer(system, client, "shell")
        shell.budget = {"waits": 5 + Item.WAITS.least}
        system.pass_time(2)
        [process] = [e for e in system.kernel.environments if e.name == "process"]
        during = budget(system, "shell", Item.WAITS)
        innocent = ask(system, lambda env: Processes.connect(env).wait(Processes.connect(env).spawn(quick)))
        [found_shell] = [e for e in system.kernel.environments if e.name == "shell"]
        found_shell.body.kill()
        system.run(hog)

        assert process.alive
        assert found == ["waits"] * 5 + ["TooManyWaits"] * 3
        assert (during, innocent) == ((5, 5 + Item.WAITS.least), Exit(3))


def test_restartable_children_are_bounded() -> None:
    """A program has so many children restarted, and when it is dead its heirs have no more than it had."""

    def parent(env: Environment) -> list[str]:
        return [kind_of(Processes.connect(env).spawn, job(n)) for n in range(Item.RESTARTS.program + 2)]

    def job(n: int) -> ProgramSpec:
        return ProgramSpec(1, ("job",), f"job-{n}", restart="always")

    with servers() as system:
        offer(system, live)
        shell = offer(system, parent, "shell")
        ask(system, lambda env: Processes.connect(env).wait(Processes.connect(env).spawn(shell)), "client")
        system.pass_time(1)
        living = [e for e in system.kernel.environments if e.name.startswith("job-") and e.alive]

        assert 0 < len(living) <= Item.RESTARTS.program


def test_a_child_is_its_spawners_to_pay() -> None:
    """A program's children come out of its budget, with the limits it names."""

    def client(env: Environment) -> tuple[int, int, str, str]:
        processes = Processes.connect(env)
        spec.budget = {"handles": 100}
        thread = processes.spawn(spec)
        row = env.kip.environment_of(thread)
        assert row is not None
        wrong = ProgramSpec(1, ("job",), budget={"hands": 2})
        greedy = ProgramSpec(1, ("job",), budget={"handles": 1 << 20})
        return (
            env.kip.budget(row.number)[Item.HANDLES].limit,
            env.kip.budget(env.number)[Item.CHILDREN].used,
            kind_of(processes.spawn, wrong),
            kind_of(processes.spawn, greedy),
        )

    with servers() as system:
        spec = offer(system, live)

        assert ask(system, client) == (100, 1, "SpawnRefused", "SpawnRefused")


def test_names_of_a_hog() -> None:
    """A program that registers all the names it may keeps nobody from starting or registering."""

    def hog(env: Environment) -> None:
        processes = Processes.connect(env)
        for n in range(2 * Item.NAMES.server):
            kind_of(processes.register, f"n{n}")
        env.thread.sleep(1e6)

    def innocent(env: Environment) -> str:
        return kind_of(Processes.connect(env).register, "mine")

    with servers() as system:
        spec = offer(system, innocent)
        task = system.spawn(hog, "hog")
        system.pass_time(5)
        [found] = [e for e in system.kernel.environments if e.name == "hog"]

        assert found.budget.used[Item.NAMES] == Item.NAMES.server
        assert ask(
            system, lambda env: Processes.connect(env).wait(Processes.connect(env).spawn(spec))
        ) == Exit(0)
        task.kill()


@pytest.mark.parametrize("name", ["memory", "process", "scheduler"])
def test_nobody_answers_in_a_servers_place(name: str) -> None:
    """While a server is being restarted, a program can neither register its name, nor be started under it."""
    heard: list[str] = []

    def impostor(env: Environment) -> None:
        processes = Processes.connect(env, timeout=0.01)
        while True:
            try:
                heard.append(kind_of(processes.register, name))
                heard.append(kind_of(processes.spawn, ProgramSpec(1, ("job",), name)))
            except (IpcError, LookupError):
                heard.append("nobody")
            env.thread.sleep(0.002)

    with servers() as system:
        task = system.spawn(impostor, "impostor")
        for _ in range(3):
            [server] = [e for e in system.kernel.environments if e.name == name and e.alive]
            server.body.kill()
            system.pass_time(0.3)
        task.kill()

    assert set(heard) <= {"NameTaken", "SpawnRefused", "nobody"}
    assert "NameTaken" in heard


def test_a_program_called_like_a_server() -> None:
    """A program that is called after its file is not called like a server of the topology."""

    def client(env: Environment) -> str:
        thread = Processes.connect(env).spawn(ProgramSpec(1, ("/tmp/scheduler.py",)))
        return next(row.name for row in env.kip.environments() if row.thread == thread)

    with servers() as system:
        offer(system, live, "/tmp/scheduler.py")
        assert ask(system, client) == "scheduler-2"


def test_exits_of_one_do_not_push_out_anothers() -> None:
    """Of the remembered exits, the starter with most loses its oldest."""
    exits = Exits(4)
    exits.add(1, Exit(1), spawner=7)
    for thread in range(2, 9):
        exits.add(thread, Exit(0), spawner=8)

    assert list(exits.known) == [1, 6, 7, 8]


def test_what_a_program_was_started_with_is_not_kept() -> None:
    """Arguments and environ are held for programs that are to be started again, and for no other."""
    with servers() as system:
        once, again = offer(system, leave(0, after=100), "once"), offer(system, live, "again")
        again.restart = "always"
        again.argv, again.environ = ("again", "x" * 100), (("KEY", "value"),)

        def client(env: Environment) -> int:
            processes = Processes.connect(env)
            processes.spawn(once)
            processes.spawn(again)
            return env.kip.budget(env.number)[Item.KEPT].used

        assert ask(system, client) == len("again") + 100 + len("KEYvalue")
