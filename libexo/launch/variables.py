"""The variables that an interpreter reads at its start, for a program that is forked from one that runs already.

What can still take effect does; what cannot, and is set to something else than is in force, is said in one line.
"""

import faulthandler
import os
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Mapping

LATE = "programs are forked from an interpreter that runs already"
REFUSED = (ValueError, OverflowError, OSError, RuntimeError, MemoryError)
"""What Python raises for a value that it cannot use: also for a number larger than its own C code takes."""


def take_effect(environ: Mapping[str, str]) -> list[str]:
    """Do what *environ* asks for; return what the program is to be told, a line each."""
    time.tzset()
    notes = []
    for name, do in EFFECTS.items():
        if value := environ.get(name):
            try:
                do(value)
            except REFUSED as error:
                notes.append(f"{name}: {error}")
    wanted = {name: environ[name] for name in IN_FORCE if environ.get(name)}
    if ignored := [f"{name}={value}" for name, value in wanted.items() if not IN_FORCE[name](value)]:
        notes.append(f"no effect here: {', '.join(ignored)}: {LATE}")
    return notes


def _path(value: str) -> None:
    """Put the directories of PYTHONPATH in front; raises PermissionError for those that may not be read."""
    entries = [os.path.abspath(entry) for entry in value.split(os.pathsep) if entry]
    sys.path[:0] = entries
    if shut := [entry for entry in entries if not _may_read(entry)]:
        raise ValueError(f"confined by exo: {', '.join(shut)} cannot be read from here")


def _may_read(place: str) -> bool:
    try:
        os.close(os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    except PermissionError:
        return False
    except OSError:  # it is not there: the import system passes over it
        return True
    return True


def _warnings(value: str) -> None:
    options = [option for option in value.split(",") if option]
    sys.warnoptions[:] = options
    warnings._processoptions(options)  # type: ignore[attr-defined]  # noqa: SLF001 - as the interpreter does


def _dont_write_bytecode(_value: str) -> None:
    sys.dont_write_bytecode = True


def _unbuffered(_value: str) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)  # type: ignore[union-attr]


def _trace_memory(value: str) -> None:
    if frames := int(value):  # 0 is not to trace
        tracemalloc.start(frames)


EFFECTS: Mapping[str, Callable[[str], object]] = {
    "PYTHONPATH": _path,
    "PYTHONWARNINGS": _warnings,
    "PYTHONDONTWRITEBYTECODE": _dont_write_bytecode,
    "PYTHONUNBUFFERED": _unbuffered,
    "PYTHONFAULTHANDLER": lambda _value: faulthandler.enable(2),
    "PYTHONTRACEMALLOC": _trace_memory,
    "PYTHONINTMAXSTRDIGITS": lambda value: sys.set_int_max_str_digits(int(value)),
}
"""What takes effect late. Those that are read when they are needed, such as PYTHONBREAKPOINT, do by themselves."""

IN_FORCE: Mapping[str, Callable[[str], bool]] = {
    "PYTHONHASHSEED": lambda value: value == "random",
    "PYTHONUTF8": lambda value: value == str(sys.flags.utf8_mode),
    "PYTHONDEVMODE": lambda _value: sys.flags.dev_mode,
    "PYTHONOPTIMIZE": lambda value: value == str(sys.flags.optimize),
    "PYTHONMALLOC": lambda value: value in ("default", "pymalloc"),
    "PYTHONIOENCODING": lambda value: value.lower().partition(":")[0] in ("utf-8", "utf8"),
    "PYTHONSAFEPATH": lambda _value: False,
}
"""What cannot take effect any more, and whether it is so already."""
