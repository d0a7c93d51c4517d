"""A program that another one started at a function: it is told which, and with what arguments."""

import linecache
import sys
from types import ModuleType

from libexo import attach
from libexo.environment import Environment
from libexo.ipc.message import Message
from libexo.process.starting import DECODE, OWN, STARTER, Argument, resolve, running
from libexo.stub.call import adopt


def main() -> None:
    """Wait for what the starter sends, take it, and do it."""
    environment = attach()
    starter = int(environment.host.variables[STARTER])
    _, message = environment.thread.receive(starter)
    begin(environment, message)


def begin(environment: Environment, message: Message) -> object:
    """Call what *message* says; return the result."""
    data, *capabilities = message.items
    assert isinstance(data, bytes)
    start = DECODE(data)
    for name, (path, text) in start.sources.items():
        _make_module(name, path, text)
    items = iter(capabilities)

    def value(argument: Argument) -> object:
        if argument.extent is not None:
            adopt(argument.extent, [next(items)])
            return argument.extent
        if argument.function is not None:
            found = resolve(argument.function)
            made = argument.made
            return found if made is None else found(environment, *map(value, made))
        return argument.value

    function = resolve(start.function)
    return function(environment, *map(value, start.arguments))


def _make_module(name: str, path: str, text: str) -> None:
    """Run the starter's own file under the *name* by which others import it; tracebacks show its lines."""
    OWN[name] = path, text
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = path
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    running.append(path)
    try:
        exec(compile(text, path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - what it is for
    finally:
        running.remove(path)
