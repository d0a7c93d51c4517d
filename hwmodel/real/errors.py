"""Errors of the host, made into the machine's own: the table of what may run out, and what to do about it.

Nothing the host says may end the kernel. So at this border every error of a call made for somebody else becomes
Exhausted: a refusal for that one. What makes the call undoes what it had made before.
"""

import errno
import functools
import os
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

from hwmodel.machine import Exhausted

P = ParamSpec("P")
T = TypeVar("T")

ADVICE = {
    errno.EMFILE: "the kernel's limit of descriptors is reached: raise it (ulimit -n)",
    errno.ENFILE: "the host's limit of open files is reached: raise fs.file-max",
    errno.ENOMEM: "the host has no memory left: give it more, or run less",
    errno.ENOBUFS: "the host has no memory for sockets left: give it more, or run less",
    errno.ENOSPC: "a file system of the host is full, perhaps of inodes: make room where the run directory is",
    errno.EDQUOT: "the quota of the kernel's user is used up: raise it, or make room",
    errno.EFBIG: "the kernel's limit of the size of files is too low: raise it (ulimit -f)",
    errno.EPERM: "the host does not allow it: exo doctor says which protections are missing",
    errno.EACCES: "the host does not allow it: exo doctor says which protections are missing",
    errno.ETOOMANYREFS: "too many descriptors are on their way unread: raise the kernel's limit (ulimit -n)",
    errno.EAGAIN: "the host lends no more processes or locked memory: raise the limits of the kernel's user",
}
"""By the host's number: what has run out, and what to do."""


def exhausted(error: OSError) -> Exhausted:
    """Return what the machine says of *error*."""
    number = error.errno or 0
    name = errno.errorcode.get(number, str(number))
    advice = ADVICE.get(number, os.strerror(number))
    return Exhausted(f"{advice} [{name}]")


class Lending:
    """Makes errors of the host Exhausted: around a function, or as a context."""

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Wrap *function*."""

        @functools.wraps(function)
        def wrapped(*arguments: P.args, **named: P.kwargs) -> T:
            try:
                return function(*arguments, **named)
            except OSError as error:
                raise exhausted(error) from error

        return wrapped

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Turn what was raised."""
        if isinstance(error, OSError):
            raise exhausted(error) from error


lending = Lending()
