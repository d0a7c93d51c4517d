"""Helpers of the confinement tests: confined children, and calls whose outcome is a word."""

import ctypes
import errno
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from libexo.launch import confine
from libexo.launch.confine.forked import in_child

UID, OTHER = 61001, 61002
PROGRAM, FOREIGN = confine.Policy(), confine.Policy("foreign")

T = TypeVar("T")
Call = Callable[[], object]

_libc = ctypes.CDLL(None, use_errno=True)


def confined(work: Callable[[], str], policy: confine.Policy = PROGRAM, uid: int = UID) -> str:
    """Return what *work* says in a child confined by every layer the host has."""
    with closing(confine.prepare(policy)) as prepared:
        return in_child(put_on_first(prepared, work, uid))


def put_on_first(prepared: confine.Prepared, work: Callable[[], T], uid: int = UID) -> Callable[[], T]:
    """Return a function that confines the child it is called in, then does *work*."""

    def both() -> T:
        put_on(prepared, uid)
        return work()

    return both


def put_on(prepared: confine.Prepared, uid: int = UID) -> None:
    """Confine this child."""
    confine.apply(prepared, uid=uid, gid=uid, parent=os.getppid())


def outcome(call: Call) -> str:
    """Name the error a call ends with, or say that it went through."""
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def outcomes(**calls: Call) -> str:
    """Make each call and list how it went, in words `name=outcome`."""
    return " ".join(f"{name}={outcome(call)}" for name, call in calls.items())


def foreign(name: str, *arguments: object) -> int:
    """Call a function of libc; what it sets in errno is raised."""
    result = int(_libc[name](*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def status(*names: str) -> list[str]:
    """Return fields of our /proc status."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return [" ".join(lines[name].split()) for name in names]


@contextmanager
def directory(mode: int = 0o755) -> Iterator[Path]:
    """Make a directory which other uids can walk to (pytest's own ones are shut to them)."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(mode)
        yield path


@contextmanager
def held(descriptor: int) -> Iterator[int]:
    """Close a descriptor at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def extent() -> Iterator[int]:
    """Make a memory file as the kernel does: root's, and nobody else's."""
    with held(os.memfd_create("extent", os.MFD_ALLOW_SEALING)) as descriptor:
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 4096)
        yield descriptor


@contextmanager
def background(work: Callable[[], object]) -> Iterator[int]:
    """Run *work* in a child meanwhile, yield its pid, and end it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
