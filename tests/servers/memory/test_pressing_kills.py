"""Presses while the memory server is killed at each of its steps, and while all do anything: nothing is lost."""

import random
from contextlib import suppress
from functools import partial

import pytest

from hwmodel.machine import Body, Descriptor
from kernel.abi.traps import Revoke
from kernel.capability import Resource
from kernel.dispatch import CallTo
from kernel.environment import Environment as KernelEnvironment
from kernel.jobs import Steps
from kernel.kernel import Kernel
from kernel.supervisor import Supervisor
from kernel.traps import capability
from libexo import pressure, vm
from libexo.environment import Environment
from libexo.errors import ExoError, TrapRefused
from libexo.extent import Extent
from libexo.heap import Block, Heap
from servers.memory.api import Memory
from tests.kernel.invariants import violations
from tests.servers.memory.presses import Program, extents, kill_now
from tests.servers.rig import command, servers

KEEPS = 21
KEPT = [(KEEPS, taken) for taken in range(0, 23, 2)]
"""What the caller is told: of a press that was asked for again, the successor took the rest."""
LOST = [*range(10), 19]
"""Those named first, then the highest."""


class Killer:
    """Kills the memory server at a given one of its traps or takings, before or after it is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = self.seen = 0
        self.after = False
        original = Supervisor.trap

        def trap(supervisor: Supervisor, body: Body, data: bytes, descriptors: list[Descriptor]) -> None:
            caller = supervisor._environments.of(body)
            strikes = self._strikes(caller)
            if strikes and not self.after:
                body.kill()
                return
            original(supervisor, body, data, descriptors)
            if strikes:
                body.kill()

        def take(kernel: Kernel, call: CallTo[Revoke, Resource]) -> "Steps[int]":
            strikes = self._strikes(call.caller)
            if strikes and not self.after:
                call.caller.body.kill()
            taken = yield from taking(kernel, call)
            if strikes:
                call.caller.body.kill()
            return taken

        taking = capability._take_extent
        monkeypatch.setattr(Supervisor, "trap", trap)
        monkeypatch.setattr(capability, "_take_extent", take)

    def _strikes(self, caller: KernelEnvironment | None) -> bool:
        if caller is None or caller.name != "memory":
            return False
        self.seen += 1
        self.left -= 1
        return self.left == 0


def client(env: Environment) -> list[int]:
    """Name ten extents first, spare two; return which were lost."""
    some = extents(env, *[2] * 20)
    place = extents(env, 2)[0]
    vm.map(env, some[0])[:4] = b"data"
    pressure.Rules(env).set(first=[(some[0], place), *some[1:10]], spared=[place, *some[10:12]])
    env.thread.sleep(20)
    lost = set(pressure.repossessed(env))
    saved = bytes(vm.map(env, place)[:4])
    return [at for at, each in enumerate(some) if each.handle in lost] if saved == b"data" else [-1]


def busy(draw: random.Random, seconds: float) -> Program:
    """Allocate, use a heap, set rules, share, and give back, at random; some give back what is asked for."""

    def program(env: Environment) -> None:
        memory, have, heap, blocks = Memory.connect(env), list[Extent](), Heap(env, chunk=8), list[Block]()
        end = env.host.now() + seconds * 1e9
        if draw.random() < 0.5:
            pressure.on_pressure(env, lambda frames, _: give_back(env, have, frames))
        with suppress(ExoError):
            rules = pressure.Rules(env)
        while env.host.now() < end:
            with suppress(ExoError, ValueError):
                match draw.randrange(6):
                    case 0:
                        have.append(memory.allocate(draw.randint(1, 9)))
                    case 1:
                        blocks.append(heap.allocate(draw.randint(1, 20_000)))
                    case 2 if blocks:
                        heap.free(blocks.pop())
                    case 3:
                        drop(env, have)
                    case 4 if len(have) > 3:
                        rules.set(first=[have[0], (have[1], have[2])], spared=have[2:])
                    case _:
                        env.thread.wait(timeout=draw.random() / 10)

    return program


def give_back(env: Environment, have: list[Extent], frames: int) -> None:
    for _ in range(frames):
        drop(env, have)


def drop(env: Environment, have: list[Extent]) -> None:
    if have:
        with suppress(TrapRefused):
            env.sys.drop(have.pop().handle)


def presser(draw: random.Random, presses: int, found: list[bool]) -> Program:
    """Press programs at random; note whether each came down to what it may keep."""

    def program(env: Environment) -> None:
        memory = Memory.connect(env)
        for _ in range(presses):
            keeps = draw.randrange(30)
            with suppress(ExoError):  # the program has ended
                pressed = memory.press(env.lookup(f"busy{draw.randrange(4)}"), keeps, draw.random() / 3)
                found.append(pressed.frames <= keeps)

    return program


@pytest.mark.parametrize("which", range(4))
def test_at_random(which: int, seed: int) -> None:
    """Programs and the memory server die at any time; all frames are somebody's or free, and every press holds."""
    draw, found = random.Random(seed + which), list[bool]()
    with servers(seed=seed + which) as system:
        tasks = [system.spawn(busy(random.Random(draw.random()), 6), f"busy{at}") for at in range(4)]
        for _ in range(3):
            at, name = (
                system.machine.clock.now() + int(draw.random() * 5e9),
                draw.choice(["memory", "busy0", "busy1"]),
            )
            system.machine.clock.alarm(at, partial(kill_now, system, name))
        command(system, presser(draw, 15, found))
        for task in tasks:
            with suppress(Exception):
                system.run(task)
        system.pass_time(1)

        assert (all(found), len(found) > 3) == (True, True)
        assert not violations(system.kernel, system.machine)
        assert system.kernel.frames.free + sum(e.frames for e in system.kernel.environments) == 256


def server(env: Environment) -> tuple[int, int]:
    found = Memory.connect(env).press(env.lookup("client"), KEEPS, 0.5)
    return found.frames, found.taken


def pressed(killer: Killer, at: int, *, after: bool) -> tuple[object, object]:
    """Press with a kill at that trap (0: none) of the memory server; return what server and client say."""
    with servers() as system:
        task = system.spawn(client, "client")
        system.pass_time(0.2)
        killer.left, killer.seen, killer.after = at, 0, after
        told = command(system, server)
        seen = killer.seen
        killer.left = 0
        system.run(task)
        system.pass_time(1)
        assert not violations(system.kernel, system.machine)
        assert system.kernel.frames.free + sum(e.frames for e in system.kernel.environments) == 256
        killer.seen = seen
        return told, task.result


@pytest.mark.slow
def test_killed_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before or after any of its traps, or of the extents it takes by one, the press ends the same."""
    killer = Killer(monkeypatch)
    told, lost = pressed(killer, 0, after=False)
    steps = killer.seen
    assert (told, lost, steps > 15) == ((21, 22), LOST, True)
    for at in range(1, steps + 1):
        for after in (False, True):
            told, lost = pressed(killer, at, after=after)

            assert (told in KEPT, lost) == (True, LOST), (at, after)
