"""The process server killed at each of its traps, while it starts a program, starts one again, or forgets one."""

from collections.abc import Callable

import pytest

from hwmodel.machine import Body, Descriptor
from kernel.supervisor import Supervisor
from libexo.environment import Environment
from libexo.errors import ExoError, NotFound
from libexo.estate import Estate
from libexo.testing import System
from servers.process.api import Exit, Processes, ProgramSpec
from servers.process.book import Book
from tests.kernel.invariants import violations
from tests.servers.rig import alive, command, offer, servers


class Killer:
    """Kills the process server at a given one of its traps, before or after it is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = self.seen = 0
        self.after = self.armed = False
        original = Supervisor.trap

        def trap(supervisor: Supervisor, body: Body, data: bytes, descriptors: list[Descriptor]) -> None:
            caller = supervisor._environments.of(body)
            strikes = caller is not None and caller.name == "process" and self._strikes()
            if strikes and not self.after:
                body.kill()
                return
            original(supervisor, body, data, descriptors)
            if strikes:
                body.kill()

        monkeypatch.setattr(Supervisor, "trap", trap)

    def _strikes(self) -> bool:
        self.seen += 1
        self.left -= 1
        return self.left == 0

    def arm(self, at: int, *, after: bool) -> None:
        self.left, self.seen, self.after, self.armed = at, 0, after, True

    def disarm(self) -> int:
        """Kill nobody any more; return how many traps there were."""
        self.left, self.armed = 0, False
        return self.seen


def sleep(env: Environment) -> None:
    env.thread.sleep(10_000)


def start(system: System, spec: ProgramSpec) -> int:
    """Return its thread; 0: it was not told."""

    def program(env: Environment) -> int:
        try:
            return Processes.connect(env).spawn(spec)
        except ExoError:
            return 0

    thread = command(system, program)
    assert isinstance(thread, int)
    return thread


def kill(system: System, name: str) -> None:
    for each in system.kernel.environments:
        if each.name == name and each.alive:
            each.body.kill()


def looked_at(system: System) -> tuple[list[str], int]:
    """Return who lives, and how many records of environments there are."""
    assert not violations(system.kernel, system.machine)
    return alive(system), len(list(system.kernel.environments))


ALL = ["memory", "process", "scheduler"]


Case = Callable[..., int]


def started(killer: Killer, at: int, *, after: bool) -> int:
    """Start a program with a kill at that trap (0: none); return how many traps there were."""
    with servers() as system:
        spec = offer(system, sleep)
        spec.restart = "always"
        start(system, offer(system, lambda env: None, "first"))
        killer.arm(at, after=after)
        was_told = start(system, spec)
        seen = killer.disarm()
        system.pass_time(12)
        names, records = looked_at(system)

        assert names == ["job", *ALL] or (names == ALL and not was_told)
        assert records == len(names)
        kill(system, "job")
        system.pass_time(1)
        assert looked_at(system)[0] == names  # who is there is looked after
        return seen


def started_again(killer: Killer, at: int, *, after: bool) -> int:
    """Have a program that is always started again die, with a kill at that trap; return how many there were."""
    with servers() as system:
        spec = offer(system, sleep)
        spec.restart = "always"
        start(system, spec)
        system.pass_time(1.5)
        seen = [0, 0]
        for again in range(2):
            killer.arm(0 if again else at, after=after)
            kill(system, "job")
            system.pass_time(0.05)
            seen[again] = killer.disarm()
            system.pass_time(12)

            assert looked_at(system) == (["job", *ALL], 4)
        return seen[0]


def ended(killer: Killer, at: int, *, after: bool) -> int:
    """Have a program die for good, with a kill at that trap; return how many there were."""
    with servers() as system:
        thread = start(system, offer(system, sleep))
        system.pass_time(1.5)
        killer.arm(at, after=after)
        kill(system, "job")
        system.pass_time(0.05)
        seen = killer.disarm()
        system.pass_time(12)

        assert looked_at(system) == (ALL, 3)
        exited = command(system, lambda env: Processes.connect(env).wait(thread))
        assert isinstance(exited, Exit)
        assert exited.status == -9
        return seen


@pytest.mark.slow
@pytest.mark.parametrize("does", [ended, started_again])
def test_killed_while_nothing_can_be_written_down(does: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the memory server is away: what the book still names is given up when it is written anew."""
    killer, suitable = Killer(monkeypatch), Book._suitable

    def away(book: Book, needed: int) -> tuple[int, Estate]:
        if killer.armed:
            raise NotFound("no memory server")
        return suitable(book, needed)

    monkeypatch.setattr(Book, "_suitable", away)
    for at in range(1, does(killer, 0, after=False) + 1):
        for after in (False, True):
            does(killer, at, after=after)


@pytest.mark.slow
@pytest.mark.parametrize("does", [started, started_again, ended])
def test_killed_at_each_trap(does: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was started is looked after by the next process server, or gone if nobody was told; nothing is left."""
    killer = Killer(monkeypatch)
    for at in range(1, does(killer, 0, after=False) + 1):
        for after in (False, True):
            does(killer, at, after=after)
