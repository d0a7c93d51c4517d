"""Host file descriptors with owners."""

import errno
import fcntl
import os
import resource
import select
import tempfile

from hwmodel.errors import exhausted
from hwmodel.machine import Exhausted
from hwmodel.real.errors import lending
from kernel.abi.limits import FRAME_SIZE

RESERVE = 64
"""Descriptors that are not lent out: the kernel needs them itself, for a moment or to end an environment."""


def check_lendable(number: int) -> None:
    """Raise Exhausted when *number*, a new descriptor to be kept for an environment, is among the last."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit <= number + RESERVE:
        raise exhausted(errno.EMFILE)


def lendable(number: int) -> int:
    """Return *number*; where `check_lendable` refuses, close it and raise Exhausted."""
    try:
        check_lendable(number)
    except Exhausted:
        os.close(number)
        raise
    return number


def unnamed(path: str, size: int) -> int:
    """Return a new file of *size* bytes in directory *path*; it goes with its last descriptor. Raises OSError."""
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return os.dup(file.fileno())
    except OSError as error:
        what = f"cannot have {size >> 20} MiB of swap there: {error.strerror}; see [machine] swap, swap_size"
        raise OSError(error.errno, what, path) from error


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
                pass  # an error of the device is not about us: the number is free either way

    @lending
    def duplicate(self) -> "RealDescriptor":
        """Return another descriptor of the same thing. Raises Exhausted."""
        return RealDescriptor(os.dup(self.number))

    def posted(self) -> bool:
        """Say whether something can be read from it."""
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
    """Return the directory (/proc/self/fd) in which each descriptor of this process is named by its number."""
    return RealDescriptor(os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


@lending
def ticket(numbers: RealDescriptor) -> tuple[RealDescriptor, RealDescriptor]:
    """Return two descriptors of a new pipe, each to write and to read by, which never wait. Raises Exhausted.

    Whether a descriptor waits is a flag of how the pipe was opened. Each of these was opened by itself, so one
    holder's changes do not touch the other's. The pipe holds a page: 512 numbers.
    It is opened by its own number in the directory *numbers*, from `own_numbers`.
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

    Each end has flags of its own. It holds a page, because the host bounds what all pipes
    of one user could hold.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    ends = RealDescriptor(reading), RealDescriptor(lendable(writing))  # closed with this call, if it fails
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, FRAME_SIZE)
    return ends
