"""A host file descriptor with an owner."""

import contextlib
import errno
import fcntl
import os
import resource

from hwmodel.errors import exhausted
from hwmodel.machine import Exhausted
from hwmodel.real.errors import lending
from kernel.abi.limits import FRAME_SIZE

RESERVE = 64
"""Descriptors that are not lent out: what the kernel needs itself, for a moment or to end somebody."""


def lendable(number: int) -> int:
    """Return *number*, which is new and to be kept for somebody. Raises Exhausted when hardly any are left."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit <= number + RESERVE:
        os.close(number)
        raise exhausted(errno.EMFILE)
    return number


class RealDescriptor:
    """A right the host enforces; see `hwmodel.machine.Descriptor`. It closes with its last reference."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number
        """The host's number, -1 once closed."""

    def close(self) -> None:
        """Give it up. Closing twice is harmless."""
        number, self.number = self.number, -1
        if number >= 0:
            # What a device has to say at its closing is not about us: the number is free either way.
            with contextlib.suppress(OSError):
                os.close(number)

    @lending
    def duplicate(self) -> "RealDescriptor":
        """Return another descriptor of the same thing. Raises Exhausted."""
        return RealDescriptor(os.dup(self.number))

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RealDescriptor {self.number if self.number >= 0 else 'closed'}>"


@lending
def own_copy(number: int, *, writable: bool) -> RealDescriptor:
    """Return a descriptor of the file behind *number*; without *writable*, one opened for reading only.

    The file's mode (0600, ours) keeps its holder from opening it again for writing. Raises Exhausted.
    """
    if writable:
        return RealDescriptor(os.dup(number))
    return RealDescriptor(os.open(f"/proc/self/fd/{number}", os.O_RDONLY | os.O_CLOEXEC))


@lending
def pipe() -> tuple[RealDescriptor, RealDescriptor]:
    """Return the reading and the writing end of a new pipe, which never wait. Raises Exhausted.

    Each end has flags of its own, whoever holds the other. It holds a page, because the host bounds what all pipes
    of one user could hold.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        lendable(writing)  # the higher number of the two
    except Exhausted:
        os.close(reading)
        raise
    try:
        fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, FRAME_SIZE)
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    return RealDescriptor(reading), RealDescriptor(writing)
