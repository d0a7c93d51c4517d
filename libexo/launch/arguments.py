"""Arguments and environ that come as a file: `kernel.abi.program.Role.ARGUMENTS`."""

import os
from collections.abc import Mapping

import msgspec

from kernel.abi.limits import MAX_ARGUMENTS
from kernel.abi.nursery import Launch
from kernel.abi.program import ProgramKind, Role


def complete(launch: Launch, roles: Mapping[int, int]) -> Launch:
    """Return *launch* with the argv and environ that came as a file, if they did. Raises OSError, ValueError."""
    if Role.ARGUMENTS not in roles:
        return launch
    argv, environ = parse(os.pread(roles[Role.ARGUMENTS], MAX_ARGUMENTS + 1, 0))
    program = launch.program
    if program.kind != ProgramKind.PYTHON and argv[0] != program.argv[0]:
        raise ValueError(f"the file of arguments calls the program {argv[0]!r}, not {program.argv[0]!r}")
    completed = msgspec.structs.replace(program, argv=argv, environ=environ)
    return msgspec.structs.replace(launch, program=completed)


def parse(data: bytes) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return argv and environ from *data*; bytes that are not UTF-8 become surrogates. Raises ValueError."""
    if len(data) > MAX_ARGUMENTS:
        raise ValueError(f"arguments and environ are longer than {MAX_ARGUMENTS} bytes")
    head, *pieces = data.removesuffix(b"\0").split(b"\0")
    if not head.isdigit() or not 1 <= int(head) <= len(pieces):
        raise ValueError("the file of arguments does not say how many there are")
    count = int(head)
    pairs = [piece.partition(b"=") for piece in pieces[count:]]
    if any(not name or not equals for name, equals, _ in pairs):
        raise ValueError("a variable in the file of arguments is not NAME=VALUE")
    argv = tuple(map(os.fsdecode, pieces[:count]))
    return argv, tuple((os.fsdecode(name), os.fsdecode(value)) for name, _, value in pairs)
