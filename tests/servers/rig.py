"""The three servers of the system on the simulated machine, and programs that call them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from kernel.abi.ids import FIRST_PROGRAM
from kernel.abi.program import Program, ProgramKind
from kernel.abi.topology import MachineConfig, ServerConfig, Topology
from libexo import attach
from libexo.environment import Environment
from libexo.testing import System, Task, simulated
from servers.process.api import ProgramSpec

TOPOLOGY = Topology(
    MachineConfig(memory="1 MiB"),
    server={
        "memory": ServerConfig("servers.memory", 96, 1, holds=("ram",)),
        "process": ServerConfig("servers.process", 98, 3, holds=("factory",), calls=("memory", "scheduler")),
        "scheduler": ServerConfig("servers.scheduler", 99, 2, holds=("cpus",), calls=("memory",)),
    },
)


@contextmanager
def servers(*, seed: int = 0, memory: tuple[str, ...] = ()) -> Iterator[System]:
    """Boot, and let the servers come up; *memory* are arguments of the memory server."""
    told = msgspec.structs.replace(TOPOLOGY.server["memory"], arguments=memory)
    topology = msgspec.structs.replace(TOPOLOGY, server={**TOPOLOGY.server, "memory": told})
    with simulated(topology, seed=seed) as system:
        system.pass_time(0.1)
        yield system


def ask(system: System, program: Callable[[Environment], object], name: str = "client") -> object:
    """Run *program* to its end; return what it returns."""
    task = system.spawn(program, name)
    system.run(task)
    return task.result


def command(system: System, program: Callable[[Environment], object]) -> object:
    """Run *program* as a server, one of a number below those of programs, and return what it returns."""
    name = f"command-{len(system.tasks)}"
    system.machine.programs[name] = lambda: program(attach())
    made = Program(kind=ProgramKind.PYTHON, argv=(name,))
    task = Task(system, system.kernel.environments.create(name, made, [], number=FIRST_PROGRAM - 1))
    system.tasks.append(task)
    system.run(task)
    return task.result


def kill(system: System, name: str) -> None:
    """Kill a server as kill -9 does; let what follows happen."""
    [found] = [e for e in system.kernel.environments if e.name == name and e.alive]
    found.body.kill()
    system.pass_time(1.5)


def alive(system: System) -> list[str]:
    return sorted(e.name for e in system.kernel.environments if e.alive)


def offer(system: System, program: Callable[[Environment], object], name: str = "job") -> ProgramSpec:
    """Let the process server start *program*; return what to ask it for."""
    system.machine.programs[name] = lambda: program(attach())
    return ProgramSpec(int(ProgramKind.PYTHON), (name,), name)
