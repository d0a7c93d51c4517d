"""A whole system lives for minutes, by a seed: after each step all accounts are exact, and in the end all is back.

Programs allocate, carve, share, grant, page, swap, revoke and die, in families; an operator presses them; servers
are killed at any step of the machine. A step is one thing that one of them did.
"""

import gc
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from kernel.abi.ids import FIRST_PROGRAM
from kernel.abi.kip import Counter as Counted
from kernel.abi.program import Program, ProgramKind
from kernel.environment import Environment as KernelEnvironment
from libexo import attach
from libexo.environment import Environment
from libexo.errors import ExoError
from libexo.testing import System
from libexo.testing.system import Task
from servers.memory.api import Memory, Pager
from servers.process.api import Processes
from tests.kernel.invariants import violations
from tests.servers.lives import Life, is_death
from tests.servers.memory.pagers.swapping import swapping, used
from tests.servers.rig import ask, offer

MINUTES, PARTS = 10, 5
FAMILIES, MEMBERS = 5, 7
SERVERS = ("memory", "process", "pager", "scheduler")
KILLS = 0.015
"""Of a program, after a step; as many of a server."""


class House:
    """A system, and all that live in it."""

    def __init__(self, system: System, seed: str, density: int = 1) -> None:
        self.system, self.seed, self.draw = system, seed, random.Random(seed)
        self.density = density
        self.did: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.closing = False
        self.steps = self.births = self.lives = 0
        self.families: list[Task] = []
        self.operator: Task | None = None
        self.doom = (0, "")
        """How many steps of the machine there are until who is killed."""

    # ------------------------------------------------------------------------------------ what programs see of it

    def peers(self) -> list[int]:
        return [each.thread for each in self.living()]

    def born(self) -> str:
        self.births += 1
        name = f"life{self.births}"
        self.system.machine.programs[name] = lambda: self.live(attach())
        return name

    def stepped(self, what: str) -> None:
        self.steps += 1
        self.did[what] += 1

    def live(self, env: Environment) -> None:
        """Be a program; whatever goes wrong in it but by its death is kept."""
        self.lives += 1
        self.guarded(Life(env, self, f"{self.seed}/{self.lives}").live)

    def govern(self, env: Environment) -> None:
        """Be the operator: press programs, and set their quotas."""
        draw, memory = random.Random(f"{self.seed}/{self.births}"), Memory.connect(env, timeout=5)

        def rule() -> None:
            while not self.closing:
                env.thread.sleep(draw.expovariate(1.0))
                with suppress(ExoError):  # it has ended meanwhile
                    whom = draw.choice(self.peers() or [env.thread.id])
                    if draw.random() < 0.8:
                        pressed = memory.press(whom, draw.randrange(40), draw.random() / 3)
                        self.did["frames given"] += pressed.given
                        self.did["frames taken"] += pressed.taken
                    else:
                        memory.set_quota(whom, draw.randrange(20, 200))
                    self.did["governed"] += 1
                self.stepped("govern")

        self.guarded(rule)

    def guarded(self, program: Callable[[], object]) -> None:
        try:
            program()
        except Exception as error:
            if is_death(error):
                raise
            self.wrong.append(repr(error))
            raise

    # ----------------------------------------------------------------------------------------------- what it does

    def living(self) -> list[KernelEnvironment]:
        return [e for e in self.system.kernel.environments if e.alive and e.name.startswith("life")]

    def play(self, seconds: float) -> None:
        """Live for so long, and look at everything after each step."""
        end = self.system.now + seconds
        while self.system.now < end:
            self.populate()
            self.system.run(until=partial(self.settled, self.steps, end), errors=False)
            self.check()

    def settled(self, seen: int, end: float) -> bool:
        """Say whether there was a step, or the time is over, and the kernel is in the middle of nothing.

        It is asked before each step of the machine, and kills who is due.
        """
        self.lurk()
        done = self.steps > seen or self.system.now >= end
        return done and not self.system.kernel.jobs.under_way

    def populate(self) -> None:
        """Keep some families, an operator, and now and then a death in view; the house does not fill up."""
        self.families = [task for task in self.families if not task.ended]
        while len(self.families) < FAMILIES * self.density:
            self.families.append(self.system.spawn(self.live, self.born(), paged=True))
        if self.operator is None or self.operator.ended:
            self.operator = self.command()
        self.system.tasks.clear()
        living = self.living()
        if len(living) > MEMBERS * self.density:
            self.draw.choice(living).body.kill()
        if not self.doom[1]:
            chance = self.draw.random()
            if chance < KILLS:
                self.doom = (self.draw.randrange(200), self.draw.choice(SERVERS))
            elif chance < 2 * KILLS:
                self.doom = (
                    self.draw.randrange(200),
                    self.draw.choice(["operator", *(e.name for e in living)]),
                )

    def command(self) -> Task:
        self.system.machine.programs["operator"] = lambda: self.govern(attach())
        program = Program(kind=ProgramKind.PYTHON, argv=("operator",))
        return Task(
            self.system,
            self.system.kernel.environments.create("operator", program, [], number=FIRST_PROGRAM - 1),
        )

    def lurk(self) -> None:
        """Kill who is due."""
        left, name = self.doom
        self.doom = (left - 1, name)
        if name and left <= 0:
            self.doom = (0, "")
            for each in self.system.kernel.environments:
                if each.alive and each.name == name:
                    each.body.kill()
                    self.did[f"killed {name if name in SERVERS else 'life'}"] += 1

    def check(self) -> None:
        """All accounts are exact."""
        log = self.system.machine.log
        self.wrong += [text for text in log if any(f":{name} of the" in text for name in SERVERS)]
        log.clear()
        self.system.trace.clear()
        assert not self.wrong, self.wrong[0]
        faults = [line for line in self.system.log if "fault: " in line]
        assert not self.system.kernel.kip.counter(Counted.FAULTS), faults
        self.did["looked"] += 1
        found = violations(self.system.kernel, self.system.machine)
        assert not found, f"step {self.steps}: {found}"
        self.system.check()

    def end(self) -> None:
        """Let all come to their end."""
        self.closing, self.doom = True, (0, "")
        self.system.run(until=lambda: not self.living(), errors=False, seconds=600)
        self.system.run(until=lambda: self.operator is None or self.operator.ended, errors=False)
        self.system.tasks.clear()
        self.system.pass_time(8)
        self.check()


def room(env: Environment) -> tuple[int, int, int, int]:
    """Return what can be had: frames by one program, free frames, free pages of the swap file, swapped objects."""
    memory, frames = Memory.connect(env), 0
    free, swap = memory.statistics().free, Pager.connect(env).statistics()
    with suppress(ExoError):
        while True:
            memory.allocate(1)
            frames += 1
    return frames, free, swap.free, len(swap.objects)


def first(system: System) -> None:
    """Have the process server start something: from then on it has memory to write down what it starts."""
    spec = offer(system, lambda env: None)

    def program(env: Environment) -> None:
        processes = Processes.connect(env)
        processes.wait(processes.spawn(spec))

    ask(system, program, "first")


def books(system: System) -> dict[str, int]:
    return {e.name: e.frames for e in system.kernel.environments}


@contextmanager
def apart() -> Iterator[None]:
    """Have the collector leave alone what is there now: the simulated MMU looks through the rest for views."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def history(seed: str, minutes: float, density: int = 1) -> tuple[House, float]:
    """Return how it lived, and when it ended."""
    with apart(), swapping(random.Random(seed).randrange(1 << 30)) as system:
        first(system)
        before, had = used(system, room), books(system)
        house = House(system, seed, density)
        house.play(minutes * 60)
        house.end()

        left, after = books(system), used(system, room, "again")
        assert (left, after) == (had, before), f"{left, after} are not {had, before}"
        return house, system.now


ALWAYS = {
    *("allocate", "carve", "grow", "touch", "share", "give", "received", "revoke", "drop", "make", "swap"),
    *("frames taken", "killed life"),
}
"""What happens in two minutes, or they show nothing."""
RARELY = {
    *("place", "shrink", "unmap", "narrow", "say", "faults", "evict", "close", "release", "start"),
    *("frames given", *(f"killed {name}" for name in SERVERS)),
}

SELDOM = 2
"""Of those, how many ten minutes may lack."""


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_ten_minutes(part: int, seed: int, report: Callable[[str], None]) -> None:
    """After each step free and carved frames are RAM, and each record agrees with all; in the end all is back."""
    house, now = history(f"{seed}/{part}", MINUTES / PARTS)
    report(f"{house.steps} steps in {now:.0f} virtual s: {dict(house.did)}")
    assert house.did.keys() >= ALWAYS


@pytest.mark.slow
def test_a_crowd(seed: int, report: Callable[[str], None]) -> None:
    """The same where three times as many live three times as fast: many are killed in the middle of a trap."""
    house, now = history(f"{seed}/crowd", 0.5, density=3)
    report(f"{house.steps} steps in {now:.0f} virtual s: {dict(house.did)}")
    assert house.did.keys() >= {"killed life", "allocate", "share", "received"}


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(6))
def test_an_hour(part: int, seed: int, soak_seconds: float, report: Callable[[str], None]) -> None:
    """The same in lives of ten minutes, six of them with other seeds, and more in a longer campaign."""
    for number in range(max(1, int(soak_seconds / 600))):
        whole(f"{seed}/long {part}/{number}", 1, report)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("density", [2, 3])
def test_crowds(density: int, seed: int, report: Callable[[str], None]) -> None:
    """The same for ten minutes where more live, and faster: four and nine times as much happens."""
    whole(f"{seed}/crowd {density}", density, report)


def whole(seed: str, density: int, report: Callable[[str], None]) -> None:
    """Have a house live for ten minutes, in which nearly everything must happen."""
    house, now = history(seed, MINUTES, density)
    report(f"{house.steps} steps in {now:.0f} virtual s: {dict(house.did)}")
    assert house.did.keys() >= ALWAYS
    assert len(RARELY - house.did.keys()) <= SELDOM
