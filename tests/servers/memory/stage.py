"""Programs that ask sigma0 with messages of their own, and a system in which one may."""

from collections.abc import Callable
from typing import TypeVar, cast

from kernel.abi.limits import FRAME_SIZE
from kernel.abi.messages import Label
from kernel.abi.program import Program, ProgramKind
from libexo import attach, l4
from libexo.environment import Environment
from libexo.ipc.message import FpageItem, Message
from libexo.testing import System
from libexo.testing.system import Task
from servers.memory.api import Memory
from tests.servers import rig

PAGE = FRAME_SIZE
NIL = l4.MapItem(l4.Nilpage, 0)
T = TypeVar("T")


def fpage(frame: int, pages: int = 1) -> l4.Fpage:
    return l4.Fpage(frame * PAGE, pages * PAGE)


def ask(system: System, program: Callable[[Environment], T], name: str = "client") -> T:
    """Run *program* to its end; return what it returns."""
    return cast("T", rig.ask(system, program, name))


def serve_as(system: System, function: Callable[[Environment], object], name: str, number: int) -> Task:
    """Run *function* as a server of the topology would: its thread number is below those of programs."""
    system.machine.programs[name] = lambda: function(attach())
    program = Program(kind=ProgramKind.PYTHON, argv=(name,))
    environment = system.kernel.environments.create(name, program, [], number=number)
    task = Task(system, environment)
    system.tasks.append(task)
    return task


def operate(system: System, function: Callable[[Environment], object]) -> object:
    """Let a server do something, and end; return what it returns."""
    task = serve_as(system, function, "operator", 120)
    system.run(task)
    return task.result


def call(env: Environment, message: Message) -> Message:
    """Send *message* to sigma0 and return the answer."""
    return env.thread.call(env.lookup("memory"), message, timeout=1)


def rpc(env: Environment, fpage: int, attributes: int = 0) -> Message:
    return call(env, Message(Label.SIGMA0, (int(fpage), attributes)))


def item(answer: Message) -> l4.MapItem:
    """Return the map item of *answer*, which has nothing else."""
    assert (answer.words, len(answer.items)) == ((), 1)
    return l4.MapItem.of(answer.typed)


def extents(answer: Message) -> list[tuple[int, int]]:
    """Return offset and size of each extent that came with *answer*."""
    (found,) = answer.items
    assert isinstance(found, FpageItem)
    return [(offset, size) for offset, size, _, _ in found.extents]


def used(env: Environment) -> int:
    """Return how many frames the kernel counts to *env*."""
    row = env.kip.environment_of(env.thread.id)
    assert row is not None
    return row.frames


def keep(pages: int, first: int = -1) -> Callable[[Environment], object]:
    """Take so many pages by a typed call, and keep them."""

    def program(env: Environment) -> None:
        Memory.connect(env).allocate(pages, first)
        env.thread.sleep(30)

    return program
