"""Execution of a file inside the confinement, with a plain reason if it fails."""

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import NoReturn


def execute(path: str, arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by *path*; comes after `apply` with the profile `foreign`.

    The executable, and the interpreter its first line names, must be open to the environment's uid. Under a
    home of mode 700 they are not, and all that can be done here is to name the directory.
    """
    try:
        os.execve(path, list(arguments), dict(environment))
    except PermissionError as error:
        raise PermissionError(error.errno, f"cannot execute: {_obstacle(path)}", path) from error
    except FileNotFoundError as error:
        interpreter = _interpreter(path)
        raise FileNotFoundError(error.errno, f"cannot execute: no {interpreter or path}", path) from error


def _obstacle(path: str) -> str:
    """Find the obstacle for our uid to executing *path*; if the uid may, it is Landlock."""
    for file in filter(None, (path, _interpreter(path))):
        real = PurePath(os.path.realpath(file))
        for directory in reversed(real.parents):
            if not os.access(directory, os.X_OK):
                return f"{_closed(directory)}, and {file} is below it"
        if not os.access(real, os.X_OK):
            return _closed(real)
    return "it, or its interpreter, is outside the directories this environment may execute from"


def _closed(path: PurePath) -> str:
    """Say that *path* is shut to us, and its mode."""
    return f"{path} is closed to uid {os.getuid()} (mode {os.stat(path).st_mode & 0o7777:o})"


def _interpreter(path: str) -> str | None:
    """Return the interpreter that the first line of a script names."""
    try:
        with open(path, "rb") as file:
            first = file.readline(256)
    except OSError:
        return None
    words = first[2:].split()
    return os.fsdecode(words[0]) if first.startswith(b"#!") and words else None
