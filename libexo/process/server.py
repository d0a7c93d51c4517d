"""A program that another one started at a function: it is told which, and with what arguments."""

from libexo import attach
from libexo.environment import Environment
from libexo.ipc.message import Message
from libexo.process import own
from libexo.process.starting import DECODE, STARTER, Argument, resolve
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
    own.adopt(start.sources)
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
