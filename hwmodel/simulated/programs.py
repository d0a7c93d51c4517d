"""Programs of simulated bodies: functions registered by name, or servers."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from kernel.abi.program import Program, ProgramKind

Entry = Callable[[], object]
Serve = Callable[[object, str], object]
"""Serves an instance of a server class under a name until it ends; `libexo.stub.serve` is one."""


class NoProgramError(Exception):
    """The program cannot be started; the text says why."""


def resolve(program: Program, name: str, known: Mapping[str, Entry], serve: Serve | None) -> Entry:
    """Return the function that is *program*. Raises NoProgramError."""
    if not program.argv:
        raise NoProgramError("no program: argv is empty")
    first = program.argv[0]
    if first in known:
        return known[first]
    if program.kind != ProgramKind.SERVER:
        raise NoProgramError(f"no program {first!r}: register it in SimulatedMachine.programs")
    try:
        return _server(first, name, serve, program.argv[1:])
    except (ImportError, AttributeError) as error:
        raise NoProgramError(f"server {first!r}: {error}") from error


def _server(target: str, name: str, serve: Serve | None, arguments: Sequence[str]) -> Entry:
    """Return the entry of a server: `module:Class`, or the `main` of a package's `server` module.

    A `main` is given the server's arguments, if it has any: there is one `sys.argv` for all.
    """
    module, _, attribute = target.partition(":")
    if not attribute:
        main: Callable[..., object] = import_module(f"{module}.server").main
        return (lambda: main(arguments)) if arguments else main
    made: Callable[[], object] = getattr(import_module(module), attribute)
    if serve is None:
        raise NoProgramError(f"server {target!r}: this machine was not told how to serve a class")
    return lambda: serve(made(), name)
