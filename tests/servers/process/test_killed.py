"""The process server killed at each of its traps, while it starts a program, or starts one again."""

from collections.abc import Callable

import pytest

from hwmodel.machine import Body, Descriptor
from kernel.supervisor import Supervisor
from libexo.environment import Environment
from libexo.errors import ExoError
from libexo.testing import System
from servers.process.api import Processes, ProgramSpec
from tests.kernel.invariants import violations
from tests.servers.rig import alive, command, offer, servers


class Killer:
    """Kills the process server at a given one of its traps, before or after it is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = self.seen = 0
        self.after = False
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
        self.left, self.seen, self.after = at, 0, after


def sleep(env: Environment) -> None:
    env.thread.sleep(10_000)


def start(system: System, spec: ProgramSpec) -> bool:
    def program(env: Environment) -> bool:
        try:
            Processes.connect(env).spawn(spec)
        except ExoError:
            return False
        return True

    return bool(command(system, program))


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
        seen, killer.left = killer.seen, 0
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
            seen[again], killer.left = killer.seen, 0
            system.pass_time(12)

            assert looked_at(system) == (["job", *ALL], 4)
        return seen[0]


@pytest.mark.slow
@pytest.mark.parametrize("does", [started, started_again])
def test_killed_at_each_trap(does: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was started is looked after by the next process server, or gone if nobody was told; nothing is left."""
    killer = Killer(monkeypatch)
    for at in range(1, does(killer, 0, after=False) + 1):
        for after in (False, True):
            does(killer, at, after=after)
