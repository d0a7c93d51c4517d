"""Threads made, moved, renamed, redirected and deleted at random: between any two traps every invariant holds."""

import random
from collections import Counter

import pytest

from kernel.abi.ids import ANY_THREAD, thread_id
from kernel.abi.kip import UTCB_SIZE
from kernel.abi.space import UNCHANGED, UTCB_AREA
from libexo.errors import TrapRefused
from tests.kernel.controls import KIP_AREA, PROGRAM, SPACE_AREA, SPACE_UTCB, control, root
from tests.kernel.puppets import Puppet, Theatre, theatre
from tests.kernel.test_bindings import bind

STEPS = 300
CHOSEN = [thread_id(number, version) for number in range(1000, 1006) for version in (1, 3)]
LOCATIONS = [area + n * UTCB_SIZE for area in (UTCB_AREA.start, SPACE_UTCB) for n in range(3)]


class Walk:
    """One privileged puppet, a few others that come and go, and a seed."""

    def __init__(self, stage: Theatre, seed: int) -> None:
        self.stage = stage
        self.random = random.Random(f"{seed}/threads")
        self.boss = root(stage)
        self.born = 0
        self.others: list[Puppet] = []
        self.did: Counter[str] = Counter()

    def step(self) -> None:
        acts = [self.control] * 12 + [self.space] * 4 + [self.bind] * 6 + [self.line, self.death, self.settle]
        act = self.random.choice(acts)
        try:
            act()
            self.did[act.__name__] += 1
        except TrapRefused:
            self.did["refused"] += 1
        self.stage.check()

    def thread(self) -> int:
        """Any thread that lives, or might."""
        living = [t.id for e in self.stage.kernel.environments for t in e.threads.values()]
        return self.random.choice([*living, *CHOSEN])

    def victim(self) -> int:
        """A thread whose control does not end the walk."""
        boss = self.boss.thread
        return self.random.choice([thread for thread in (self.thread(), *CHOSEN) if thread != boss])

    def control(self) -> None:
        thread, choose = self.victim(), self.random.choice
        space = choose((thread, thread, self.thread(), self.thread(), self.thread(), 0))
        wishes = {"scheduler": choose((0, self.boss.thread, self.boss.thread, self.thread()))}
        wishes["pager"] = choose((0, self.boss.thread, self.thread()))
        wishes["utcb"] = choose((*[UNCHANGED] * 8, *LOCATIONS))
        control(self.boss, thread, space, program=choose((None, PROGRAM, PROGRAM)), **wishes)

    def space(self) -> None:
        redirector = self.random.choice((0, 0, ANY_THREAD, self.thread()))
        self.boss.sys.space_control(self.thread(), 0, KIP_AREA, SPACE_AREA, redirector)

    def bind(self) -> None:
        sender = self.random.choice((self.boss, *self.others))
        own = self.random.choice((0, *(t.id for t in sender.environment.threads.values())))
        bind(sender, self.thread(), own)

    def line(self) -> None:
        line = thread_id(self.random.randrange(3))
        control(self.boss, line, line, pager=self.random.choice((0, line, self.thread())))
        self.stage.machine.interrupts.trigger(line >> 32)

    def death(self) -> None:
        """End one of the others, if any, and let another come."""
        if len(self.others) > 3:
            self.stage.kill(self.others.pop(0))
        self.born += 1
        self.others.append(self.stage.puppet(f"other-{self.born}"))

    def settle(self) -> None:
        self.stage.settle()
        self.others = [puppet for puppet in self.others if puppet.alive]


@pytest.mark.parametrize("seed", range(6))
def test_a_random_walk(seed: int) -> None:
    """Whatever is asked for, in any order: done whole or refused, and nothing is left when all have ended."""
    with theatre() as stage:
        walk = Walk(stage, seed)
        for _ in range(STEPS):
            walk.step()

        assert walk.boss.alive
        assert {"control", "space", "bind", "line", "death", "refused"} <= walk.did.keys()
