"""Holds as many extents of one frame as it is told, and times what is carved beside them."""

import sys
from functools import partial

import libexo
from bench.worker import Sampler, timed, work
from kernel.abi import traps
from libexo.environment import Environment
from libexo.errors import TrapRefused
from libexo.extent import Ram
from servers.memory.api import Memory

MOST = 960
"""Extents of one: its capabilities are bounded (`kernel.abi.budget`)."""
FRAMES = 4
OBJECT = 64
"""Frames of what is carved and freed, and pages of a paged object."""


def main() -> None:
    """Do what is asked for until stdin ends."""
    environment = libexo.attach()
    memory = Memory.connect(environment)
    ram = memory.ram()
    memory.promise(MOST + 2 * FRAMES)
    work(
        {
            "hold": lambda: partial(_hold, environment, ram),
            "carve": lambda: _carve(environment, ram),
            "object": lambda: _object(environment, ram),
            "allocate": lambda: _allocate(memory),
        }
    )


def _hold(environment: Environment, ram: Ram, count: int) -> list[int]:
    """Carve *count* more; return how many that were, and the refusal, 0 if there was none."""
    for done in range(count):
        try:
            environment.sys.carve(ram.handle, 1)
        except TrapRefused as refused:
            print(f"refused: {refused}", file=sys.stderr, flush=True)
            return [done, int(refused.refusal)]
    return [count, 0]


def _carve(environment: Environment, ram: Ram) -> Sampler:
    def once() -> None:
        environment.sys.drop(environment.sys.carve(ram.handle, FRAMES).extent)

    return timed(once)


def _object(environment: Environment, ram: Ram) -> Sampler:
    def once() -> None:
        made = environment.sys.object_create(traps.ObjectCreate(ram.handle, FRAMES, OBJECT))
        environment.sys.drop(made.extent)

    return timed(once)


def _allocate(memory: Memory) -> Sampler:
    return timed(lambda: memory.free(memory.allocate(FRAMES)))


if __name__ == "__main__":
    main()
