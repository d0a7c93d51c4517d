"""Hints to a program that confinement refused something."""

import errno
import linecache

import pytest

from libexo.launch.hints import FILES, MEMORY, NETWORK, OTHER, PROCESSES, hint


def refused(line: str, file: str = "", number: int = errno.EPERM, path: str | None = None) -> BaseException:
    """A refusal on *line* of *file*."""
    file = file or f"{line}.py"
    linecache.cache[file] = (0, None, [line], file)
    error = PermissionError(number, "refused", path) if path else PermissionError(number, "refused")
    try:
        exec(compile("raise error", file, "exec"), {"error": error})  # noqa: S102 - for a frame of that file
    except PermissionError as caught:
        return caught
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (refused("os.fork()"), PROCESSES),
        (refused("os.execv('/bin/ls', [])"), PROCESSES),
        (refused("self.pid = _fork_exec(args)", "/lib/subprocess.py"), PROCESSES),
        (refused("self.pid = os.fork()", "/lib/multiprocessing/popen_fork.py"), PROCESSES),
        (refused("socket.socket(socket.AF_INET)"), NETWORK),
        (refused("_socket.socket.__init__(self)", "/lib/socket.py"), NETWORK),
        (refused("os.memfd_create('x')"), MEMORY),
        (refused("open('/tmp/x', 'w')", number=errno.EACCES, path="/tmp/x"), FILES),
        (refused("os.setsid()"), OTHER),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in []"), FILES),
    ],
)
def test_what_was_refused_is_named(error: BaseException, what: str) -> None:
    """In one line, by what the program wanted."""
    assert hint(error) == f"confined by exo: {what}; there is no option yet that grants it"


def test_a_cause_counts_too() -> None:
    """Libraries wrap what they met."""
    wrapped = RuntimeError("cannot connect")
    wrapped.__cause__ = refused("socket.socket()")
    grouped = ExceptionGroup("several", [ValueError(), wrapped])

    assert NETWORK in hint(grouped)


@pytest.mark.parametrize("error", [KeyError(1), FileNotFoundError(errno.ENOENT, "no", "x"), OSError()])
def test_other_errors_are_the_programs_own(error: BaseException) -> None:
    """Nothing is said of confinement."""
    assert hint(error) == ""


def test_a_circle_of_causes_ends() -> None:
    """Whatever a program makes of its exceptions."""
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first

    assert hint(first) == ""
