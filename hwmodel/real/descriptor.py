"""A host file descriptor with an owner."""

import errno
import fcntl
import os
import resource
import select

from hwmodel.errors import exhausted
from hwmodel.machine import Exhausted
from hwmodel.real.errors import lending
from kernel.abi.limits import FRAME_SIZE

RESERVE = 64
"""Descriptors that are not lent out: what the kernel needs itself, for a moment or to end somebody."""


def check_lendable(number: int) -> None:
    """Raise Exhausted when *number*, which is new and to be kept for somebody, is among the last."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit <= number + RESERVE:
        raise exhausted(errno.EMFILE)


def lendable(number: int) -> int:
    """Return *number*, or close it and raise Exhausted, as `check_lendable` says."""
    try:
        check_lendable(number)
    except Exhausted:
        os.close(number)
        raise
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
            try:  # noqa: SIM105 - to suppress it costs as much as the call
                os.close(number)
            except OSError:
                pass  # what a device has to say at its closing is not about us: the number is free either way

    @lending
    def duplicate(self) -> "RealDescriptor":
        """Return another descriptor of the same thing. Raises Exhausted."""
        return RealDescriptor(os.dup(self.number))

    def posted(self) -> bool:
        """Say whether there is something to be read."""
        poll = select.poll()
        poll.register(self.number, select.POLLIN)
        return bool(poll.poll(0))

    def __del__(self) -> None:
        if self.number >= 0:
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


def own_numbers() -> RealDescriptor:
    """Return the directory in which each descriptor of this process has its number for a name."""
    return RealDescriptor(os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


@lending
def ticket(numbers: RealDescriptor) -> tuple[RealDescriptor, RealDescriptor]:
    """Return two descriptors of a new pipe, each to write and to read by, which never wait. Raises Exhausted.

    Whether a descriptor waits is a flag of how the pipe was opened; each of these was opened by itself, so what
    one holder does to his is nothing to the other. The pipe holds a page: 512 numbers.
    It is opened by its own number in the directory *numbers*, that of `own_numbers`.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, FRAME_SIZE)
        name, flags, directory = str(reading), os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK, numbers.number
        first = RealDescriptor(os.open(name, flags, dir_fd=directory))
        second = os.open(name, flags, dir_fd=directory)
        return first, RealDescriptor(lendable(second))  # the higher number of the two
    finally:
        os.close(reading)
        os.close(writing)


@lending
def pipe() -> tuple[RealDescriptor, RealDescriptor]:
    """Return the reading and the writing end of a new pipe, which never wait. Raises Exhausted.

    Each end has flags of its own, whoever holds the other. It holds a page, because the host bounds what all pipes
    of one user could hold.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    ends = RealDescriptor(reading), RealDescriptor(lendable(writing))  # closed with this call, if it fails
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, FRAME_SIZE)
    return ends
