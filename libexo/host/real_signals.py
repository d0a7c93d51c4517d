"""What tells somebody on a real host that something has happened: wakers, tickets, doorbells.

A waker is between the strands of one program, a ticket decides who of two has a message, and a doorbell wakes the
other side of a ring. Only the last is a pipe: its two sides do not trust one another, and the ends of an eventfd
share all there is of it, flags and counter.
"""

import contextlib
import os
import threading

_TAKEN_AT_ONCE = 4096
"""Bytes: a page, which is all a doorbell that the kernel made holds by itself."""


class RealWaker:
    """A non-blocking eventfd. Implements `libexo.host.base.Waker`."""

    def __init__(self) -> None:
        """Open it. Raises OSError."""
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.RLock()
        """Between a wake and the close: afterwards the number may be somebody else's."""

    def fileno(self) -> int:
        """Return what to wait on. Raises ValueError once it is closed."""
        if self._descriptor < 0:
            raise ValueError("the waker is closed")
        return self._descriptor

    def wake(self) -> None:
        """Make every wait for it end."""
        with self._lock:
            if self._descriptor >= 0:
                os.eventfd_write(self._descriptor, 1)

    def clear(self) -> None:
        """Let waits last again."""
        with self._lock, contextlib.suppress(BlockingIOError):
            if self._descriptor >= 0:
                os.eventfd_read(self._descriptor)

    def close(self) -> None:
        """Give it up."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)


class RealTicket:
    """One end of a ticket: an eventfd. Reading it takes everything posted, for one reader only.

    Whether a read waits is a flag both ends share, and the other may have changed it: each read says for itself
    that it does not.
    """

    def __init__(self, descriptor: int) -> None:
        """Use eventfd *descriptor*."""
        self._descriptor = descriptor
        self._taken = (bytearray(8),)

    def post(self, sequence: int) -> None:
        """Put message *sequence* up."""
        os.eventfd_write(self._descriptor, sequence)

    def claim(self) -> int:
        """Take what is posted, or 0."""
        try:
            os.preadv(self._descriptor, self._taken, -1, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        return int.from_bytes(self._taken[0], "little")

    def close(self) -> None:
        """Give it up."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealBell:
    """One side of two doorbells: the reading end of one pipe, the writing end of another. Neither ever waits.

    Python ignores SIGPIPE, so to ring where nobody is left is an error that is told, and passed over here.
    """

    def __init__(self, wait: int, ring: int) -> None:
        """Wait on *wait*, and ring *ring*."""
        self._wait = wait
        self._ring = ring
        self._taken = (bytearray(_TAKEN_AT_ONCE),)

    def ring(self) -> None:
        """Wake the other side."""
        try:  # noqa: SIM105 - to suppress it costs as much as the call
            os.write(self._ring, b"\1")
        except OSError:
            pass  # it is full, so has been rung, or nobody is there

    def silence(self) -> bool:
        """Take what was rung. False: there was nothing, and the other side is gone, or this one was closed."""
        try:
            return os.readv(self._wait, self._taken) > 0
        except BlockingIOError:
            return True
        except OSError:
            return False

    def fileno(self) -> int:
        """Return what to wait on. Raises ValueError once it is closed."""
        if self._wait < 0:
            raise ValueError("the doorbell is closed")
        return self._wait

    def close(self) -> None:
        """Give both ends up. Twice is harmless."""
        for descriptor in (self._wait, self._ring):
            if descriptor >= 0:
                os.close(descriptor)
        self._wait = self._ring = -1
