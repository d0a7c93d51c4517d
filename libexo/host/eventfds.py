"""Wakers, tickets and doorbells on a real host.

A waker is between the strands of one program, a ticket decides which of two parties has a message, and a doorbell
wakes the other side of a ring. Only the first is an eventfd. Parties that do not trust one another share a pipe:
the ends of an eventfd share its flags and its counter, so one end could make the other wait.
"""

import contextlib
import os
import threading

_TAKEN_AT_ONCE = 4096
"""Bytes: a page, which is all that a doorbell of the kernel's holds."""
_NUMBER = 8
"""Bytes of a number in a ticket."""


class RealWaker:
    """A non-blocking eventfd. Implements `libexo.host.base.Waker`."""

    def __init__(self) -> None:
        """Open it. Raises OSError."""
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.RLock()
        """Held between a wake and the close: afterwards the number may be another descriptor's."""

    def fileno(self) -> int:
        """Return the descriptor to wait on. Raises ValueError once it is closed."""
        if self._descriptor < 0:
            raise ValueError("the waker is closed")
        return self._descriptor

    def wake(self) -> None:
        """End every wait for it."""
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
    """One end of a ticket: a pipe that both ends write and read, each by a descriptor with flags of its own.

    A number is eight bytes, written and read in one piece. A party that writes anything else gets nothing.
    """

    def __init__(self, descriptor: int) -> None:
        """Use pipe *descriptor*, which never waits."""
        self._descriptor = descriptor

    def post(self, sequence: int) -> None:
        """Post the number *sequence*; where the other end has filled the pipe, it is lost."""
        try:  # noqa: SIM105 - to suppress it costs as much as the call
            os.write(self._descriptor, sequence.to_bytes(_NUMBER, "little"))
        except BlockingIOError:
            pass

    def claim(self) -> int:
        """Take the number posted first, or 0."""
        try:
            taken = os.read(self._descriptor, _NUMBER)
        except BlockingIOError:
            return 0
        return int.from_bytes(taken, "little") if len(taken) == _NUMBER else 0

    def close(self) -> None:
        """Give it up."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealBell:
    """One side of two doorbells: the reading end of one pipe, the writing end of another. Neither ever waits.

    Python ignores SIGPIPE, so ringing where the other side is gone is an error, ignored here.
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
            pass  # it is full, so it has been rung; or the other side is gone

    def silence(self) -> bool:
        """Take what was rung. False: there was nothing, and the other side is gone, or this one was closed."""
        try:
            return os.readv(self._wait, self._taken) > 0
        except BlockingIOError:
            return True
        except OSError:
            return False

    def fileno(self) -> int:
        """Return the descriptor to wait on. Raises ValueError once it is closed."""
        if self._wait < 0:
            raise ValueError("the doorbell is closed")
        return self._wait

    def close(self) -> None:
        """Close both ends. Twice is harmless."""
        for descriptor in (self._wait, self._ring):
            if descriptor >= 0:
                os.close(descriptor)
        self._wait = self._ring = -1
