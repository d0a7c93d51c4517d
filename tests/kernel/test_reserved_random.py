"""Reservations under random changes: nobody runs out of turn, nobody has more than it reserved or less."""

import random

import pytest

from kernel.abi.rights import Rights
from kernel.abi.traps import Slice
from libexo.errors import TrapRefused
from tests.kernel.passing import passed
from tests.kernel.puppets import Puppet, theatre
from tests.kernel.test_processor import cast_of, compute, sleepy, used
from tests.kernel.test_reserved_walk import reserve

ALL = Rights.CONTROL | Rights.TRANSFER
STEPS = 60


@pytest.mark.slow
@pytest.mark.parametrize("more", range(3))
def test_whatever_others_do(seed: int, more: int) -> None:
    """While plans, reservations and lives of others change at random, one has its runtime in every window."""
    dice = random.Random(f"{seed}/{more}/reserved")
    with theatre() as stage:
        scheduler, cpu, cast = cast_of(stage, r=compute, a=compute, b=sleepy(700_000, 3_000_000))
        scheduler.sys.plan(cpu, [Slice(cast["a"].thread, 5000)])
        reserve(scheduler, cpu, cast["r"], 3, 10)
        others = [cast["a"], cast["b"]]
        held: list[tuple[Puppet, int]] = [(scheduler, cpu)]

        def act() -> None:
            holder, handle = dice.choice([each for each in held if each[0].alive])
            match dice.randrange(8):
                case 0 | 1:
                    runtime = dice.choice((500, 1000, 3000))
                    made = holder.sys.derive(handle, ALL, runtime, dice.choice((2000, 10_000, 33_333)))
                    held.append((holder, made))
                case 2 | 3:
                    holder.sys.migrate(handle, dice.choice((holder, *others)).thread * (dice.random() < 0.9))
                case 4:
                    if handle != cpu:
                        taker = dice.choice(others)
                        held.append((taker, passed(holder, handle, taker, ALL, grant=dice.random() < 0.5)))
                case 5:
                    if handle != cpu:
                        holder.sys.drop(handle)
                case 6:
                    slices = [Slice(dice.choice(others).thread, dice.randrange(500, 9000)) for _ in range(3)]
                    scheduler.sys.plan(cpu, slices)
                case 7:
                    if dice.random() < 0.3:
                        stage.kill(others.pop(dice.randrange(2)))
                        others.append(stage.puppet(cpu=0, work=compute))
                    else:
                        scheduler.sys.thread_switch(cpu, dice.choice(others).thread, 4000)

        stage.pass_time(10)
        for _ in range(STEPS):
            before = used(cast)["r"]
            for _ in range(3):
                try:
                    act()
                except TrapRefused:
                    held[1:] = [each for each in held[1:] if each[1] in {c.handle for c in each[0].caps}]
                stage.settle()
                stage.check()
                stage.pass_time(10)
            assert used(cast)["r"] - before > 9 - 3.2
