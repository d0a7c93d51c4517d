"""The process server's book, with scarce memory, and with deaths in between."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from libexo import attach
from libexo.environment import Environment
from libexo.errors import RemoteError
from libexo.estate import Estate
from libexo.testing import System
from servers.memory.api import Memory
from servers.process.api import Processes, ProgramSpec
from servers.process.book import PAGES, Book, inherited
from servers.process.children import State
from tests.servers.memory.test_families import hog
from tests.servers.rig import alive, ask, command, kill, offer, servers

if TYPE_CHECKING:
    from servers.process.server import ProcessServer

BYTES = 60_000
"""Of an environ that is kept for restarts: more than the first estate has room for."""


def sleep(env: Environment) -> None:
    env.thread.sleep(10_000)


def start(system: System, spec: ProgramSpec) -> int:
    """Start a program for an operator."""
    thread = command(system, lambda env: Processes.connect(env).spawn(spec))
    system.pass_time(1)
    assert isinstance(thread, int)
    return thread


def fill(system: System) -> None:
    """Let families take all that they are given."""
    for n in range(5):
        start(system, offer(system, hog, f"hog-{n}"))


def large(system: System) -> ProgramSpec:
    """Return a program that is restarted, and takes much to remember."""
    spec = offer(system, sleep, "large")
    spec.restart, spec.environ = "always", (("A", "x" * BYTES),)
    return spec


def incarnation(system: System) -> int:
    """Return which process server is there."""
    [thread] = [e.thread for e in system.kernel.environments if e.name == "process" and e.alive]
    return thread


def estate(system: System) -> int:
    """Return how many frames the process server has."""
    return next(e.frames for e in system.kernel.environments if e.name == "process" and e.alive)


def try_to_start(env: Environment, spec: ProgramSpec) -> str:
    try:
        Processes.connect(env).spawn(spec)
    except RemoteError as refused:
        return str(refused)
    return "started"


def test_no_memory_to_remember_a_program_by() -> None:
    """It is refused, and not there; the process server lives, also when others end, and starts what is small."""
    with servers(memory=("low=0",)) as system:  # nobody gives back for others
        fill(system)
        before = incarnation(system)
        spec, small = large(system), offer(system, sleep, "small")
        said = ask(system, lambda env: try_to_start(env, spec))
        assert "SpawnRefused: there is no memory in which to remember it: OutOfMemory" in str(said)
        system.pass_time(1)
        assert "large" not in alive(system)

        kill(system, "hog-4")
        start(system, small)
        assert "small" in alive(system)
        assert incarnation(system) == before

        for n in range(4):
            kill(system, f"hog-{n}")
        assert ask(system, lambda env: try_to_start(env, spec), "again") == "started"


def test_the_estate_becomes_smaller_again() -> None:
    """When what took so much to remember is gone; until then a successor finds it."""
    with servers() as system:
        spec = large(system)
        system.machine.programs["large"] = lambda: attach().thread.sleep(10)
        spec.restart = "on-failure"
        start(system, offer(system, sleep, "small"))
        assert estate(system) == PAGES
        start(system, spec)
        assert estate(system) > PAGES

        kill(system, "process")
        kill(system, "large")
        assert "large" in alive(system)
        assert estate(system) > PAGES

        system.pass_time(12)
        assert "large" not in alive(system)
        assert estate(system) == PAGES


def test_what_was_taken_meanwhile_is_given_up() -> None:
    """A capability of a predecessor's that is gone when it is to be dropped does not end the server."""
    with servers() as system:

        def keep(env: Environment) -> tuple[str, int]:
            book = Book(cast("ProcessServer", SimpleNamespace(environment=env)))
            taken = Memory.connect(env).allocate(1).handle
            env.sys.drop(taken)
            book.surplus[taken] = None
            return book.keep(State([], {})), len(book.surplus)

        assert ask(system, keep) == ("", 0)


def test_of_two_estates_the_latest_is_the_successors() -> None:
    """Its predecessor died while it changed over to another one: what was stored last counts, however large."""
    with servers() as system:

        def choose(env: Environment) -> tuple[bytes, int]:
            memory = Memory.connect(env)
            first, second = memory.allocate(8).handle, memory.allocate(4).handle
            old = Estate(env.views.map(first))
            for n in range(9):
                old.store(b"old %d" % n)
            Estate(env.views.map(second), old).store(b"new")
            memory.allocate(16)
            _, found = inherited(env)
            assert found is not None
            return found.load(), len(env.sys.inventory())

        assert command(system, choose) == (b"new", 1)
