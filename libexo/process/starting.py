"""Programs that begin at a function, of a module or of the starter's own file.

    child = starting.start(env, work, extent, 7)     # work(env, extent, 7), in a program of its own
    print(child.wait().status)

The function stands at the top of a module: one that all programs can import, one of the starter's own, or the
starter's file. The texts of the last two go along (`libexo.process.own`), and the file is run once more there. So
it keeps its own work under ``if __name__ == "__main__":``. Nothing of the starter's memory goes along but the
arguments: numbers, texts, bytes, lists and dicts of those; functions; extents, of which the new program gets a
capability of its own; and what says itself how to be `Passed`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from kernel.abi.limits import MAX_NAME
from libexo.extent import Extent
from libexo.ipc.message import Item, Message
from libexo.process import own
from libexo.stub.call import item

if TYPE_CHECKING:
    from libexo.environment import Environment

STARTER = "EXO_STARTER"
"""The environment variable that names the thread whose message says where to begin."""
PROGRAM = "libexo.process"
Budget = Mapping[str, int]
"""Limits, by item."""
_serial = count(1)


@runtime_checkable
class Passed(Protocol):
    """What another program gets as the result of calling a function there: with its environment, and arguments."""

    def passed(self, thread: int) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Go to the program of *thread*: return the function and its arguments after the environment."""


class Reference(msgspec.Struct, array_like=True):
    """A function, by name."""

    module: str
    name: str


class Argument(msgspec.Struct, array_like=True):
    """One argument, as it travels."""

    value: Any = None
    extent: Extent | None = None
    function: Reference | None = None
    made: "tuple[Argument, ...] | None" = None
    """It is what the function returns for these."""


class Start(msgspec.Struct, array_like=True):
    """Where a program begins."""

    function: Reference
    sources: dict[str, own.Source]
    """The starter's own modules, by name."""
    arguments: tuple[Argument, ...]


DECODE = msgspec.msgpack.Decoder(Start).decode


class Child:
    """A program that was started at a function."""

    def __init__(self, environment: "Environment", thread: int) -> None:
        """Stand for the program of *thread*, which *environment* started."""
        self._environment = environment
        self.thread = thread
        """The id of its first thread."""

    def wait(self) -> Any:  # noqa: ANN401 - the process server's, which has `status`, `fault` and `text`
        """Wait for its end; return how it ended. What it raised is in its log."""
        return self._environment.services.wait_program(self.thread)


def start(
    environment: "Environment",
    function: Callable[..., object],
    *arguments: object,
    name: str = "",
    paged: bool = False,
    budget: Budget | None = None,
) -> Child:
    """Start a program that calls *function* with its environment and *arguments*, and ends when that returns.

    Its output is in its log, under *name*; *budget* are limits out of our own (docs/budgets.md). Raises ValueError
    for what cannot travel, RemoteError, NoPartner.
    """
    reference(function)
    thread = spawn(environment, function, name=name, paged=paged, budget=budget)
    with kill_on_error(environment, thread):
        begin(environment, thread, function, *arguments)
    return Child(environment, thread)


def spawn(
    environment: "Environment",
    function: Callable[..., object],
    *,
    name: str,
    paged: bool,
    budget: Budget | None,
) -> int:
    """Start a program that waits to be told by `begin`; return its thread id."""
    own.check_not_running()
    name = name or _name(function.__name__, environment.first)
    variables = ((STARTER, str(environment.current.id)),)
    return environment.services.start_program(
        PROGRAM, name, variables, paged=paged, budget=dict(budget or {})
    )


def begin(
    environment: "Environment", thread: int, function: Callable[..., object], *arguments: object
) -> None:
    """Have a program that was spawned call *function*."""
    passed = tuple(_argument(each, thread) for each in arguments)
    first = reference(function)
    modules = {first.module, *_modules(passed)}
    told = msgspec.msgpack.encode(Start(first, own.sources(modules, environment.host.variables), passed))
    environment.current.send(thread, Message(items=(told, *_items(passed))))


@contextmanager
def kill_on_error(environment: "Environment", thread: int) -> Iterator[None]:
    """End the program of *thread* if what is done for it fails: it would wait for ever."""
    try:
        yield
    except BaseException:
        environment.services.kill_program(thread)
        raise


def reference(function: Callable[..., object]) -> Reference:
    """Return the name of *function* in other programs. Raises ValueError when it has none there."""
    module, name = own.name_of(function.__module__), function.__qualname__
    if "<" in name:
        raise ValueError(f"{module}.{name} cannot be named: start what stands at the top of its module")
    return Reference(module, name)


def resolve(named: Reference) -> Any:  # noqa: ANN401 - a function, or a class
    """Return the function of that name here. Raises ImportError, AttributeError."""
    return attrgetter(named.name)(import_module(named.module))


def _argument(value: object, thread: int) -> Argument:
    if isinstance(value, Extent):
        return Argument(extent=value)
    if isinstance(value, Passed) and not isinstance(value, type):
        maker, arguments = value.passed(thread)
        return Argument(function=reference(maker), made=tuple(_argument(each, thread) for each in arguments))
    if callable(value):
        return Argument(function=reference(value))
    return Argument(value)


def _items(arguments: tuple[Argument, ...]) -> list[Item]:
    """Return the capabilities that go along, in the order in which they are taken."""
    found: list[Item] = []
    for each in arguments:
        if each.extent is not None:
            found.append(item(each.extent))
        found += _items(each.made or ())
    return found


def _modules(arguments: tuple[Argument, ...]) -> set[str]:
    """Return the modules of all functions among *arguments*."""
    found = {each.function.module for each in arguments if each.function is not None}
    return found.union(*(_modules(each.made or ()) for each in arguments))


def _name(function: str, thread: int) -> str:
    """Return a name that nobody else has: the function's, the starter, and how many it has started."""
    end = f"-{thread:x}-{next(_serial)}"
    return function[: MAX_NAME - len(end)].strip("_") + end
