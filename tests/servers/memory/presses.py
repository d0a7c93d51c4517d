"""What tests of presses do again and again."""

from collections.abc import Callable
from contextlib import suppress

from libexo.environment import Environment
from libexo.errors import IpcError
from libexo.extent import Extent
from libexo.testing import System, Task
from servers.memory.api import Memory, Pressed
from tests.servers.rig import command

Program = Callable[[Environment], object]


def press(system: System, name: str, frames: int, seconds: float = 1) -> Pressed:
    """Press, and return the numbers of frames: what they have, gave, and lost."""
    found = pressed(system, name, frames, seconds)
    return Pressed(found.frames, found.given, found.taken)


def pressed(system: System, name: str, frames: int, seconds: float = 1) -> Pressed:
    """As a server, ask the family of the program called *name* to have no more than *frames*."""

    def server(env: Environment) -> Pressed:
        return Memory.connect(env).press(env.lookup(name), frames, seconds)

    found = command(system, server)
    assert isinstance(found, Pressed)
    return found


def started(system: System, program: Program, name: str = "client") -> Task:
    """Start *program*, and let it come to its first rest."""
    task = system.spawn(program, name)
    system.pass_time(0.2)
    return task


def frames_of(system: System, name: str) -> int:
    [found] = [e for e in system.kernel.environments if e.name == name and e.alive]
    return found.frames


def idle(env: Environment) -> None:
    """Receive, for long."""
    with suppress(IpcError):
        env.thread.wait(timeout=1000)


def extents(env: Environment, *pages: int) -> list[Extent]:
    memory = Memory.connect(env)
    return [memory.allocate(each) for each in pages]


def kill_now(system: System, name: str) -> None:
    for found in system.kernel.environments:
        if found.name == name and found.alive:
            found.body.kill()
