"""What channels could not send at once: a thread of one transport sends it when the host takes it.

So who sends a long message, or one to a receiver that is slow, need not wait, nor come back. The thread is started
for the first channel that needs it.
"""

import os
import select
import threading
from collections import deque
from contextlib import suppress
from typing import Protocol


class Sender(Protocol):
    """A channel, as its outbox sees it."""

    unsent: deque[bytes | memoryview]
    """What waits to be sent."""

    def fileno(self) -> int:
        """Return the descriptor that tells when the host takes more."""

    def flush(self) -> bool:
        """Send what waits, as far as the host takes it; say whether nothing is left."""


class Outbox:
    """The channels of a transport that have something to send."""

    def __init__(self) -> None:
        """Have nothing to do yet. Raises OSError."""
        self._silent = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """A descriptor that tells of nothing until the outbox is closed."""
        self._lock = threading.Condition()  # of a lock that is one strand's: a signal's handler may send, too
        self._channels: dict[int, Sender] = {}
        """By descriptor."""
        self._watch: select.epoll | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Be ready to `add`; False: the host has no thread for it, or no descriptor."""
        if self._watch is None:
            with self._lock:
                if self._watch is None:
                    return self._start()
        return True

    def _start(self) -> bool:
        try:
            watch = select.epoll()
        except OSError:
            return False
        thread = threading.Thread(target=self._run, args=(watch,), name="exo-outbox", daemon=True)
        self._watch, self._thread = watch, thread  # first: a signal's handler that sends is to find it
        try:
            watch.register(self._silent, select.EPOLLIN)
            thread.start()
        except (OSError, RuntimeError):
            self._watch = self._thread = None
            watch.close()
            return False
        return True

    def add(self, channel: Sender, record: bytes, sent: int) -> bool:
        """Send *record* behind what waits on *channel*, or have it sent, but for the bytes *sent*; False: neither.

        While it is sent in parts, it waits: what a signal's handler sends meanwhile comes behind it.
        """
        if not self.start():
            return False
        number = channel.fileno()
        with self._lock:
            channel.unsent.append(memoryview(record)[sent:])
            while number not in self._channels and channel.unsent:
                self._channels[number] = channel
                if not channel.flush():
                    assert self._watch is not None
                    self._watch.register(number, select.EPOLLOUT)
                    break
                self._channels.pop(number, None)
        return True

    def forget(self, channel: Sender) -> None:
        """Send nothing more of *channel*, which is about to be closed."""
        with self._lock:
            self._done(channel.fileno())

    def _done(self, number: int) -> None:
        if self._channels.pop(number, None) is not None:
            assert self._watch is not None
            with suppress(OSError):  # a signal's handler came before it was watched
                self._watch.unregister(number)
            self._lock.notify_all()

    def drain(self, seconds: float) -> None:
        """Wait until everything was sent, *seconds* at most."""
        with self._lock:
            self._lock.wait_for(lambda: not self._channels, seconds)

    def silence(self, number: int) -> None:
        """Put a descriptor that tells of nothing in the place of *number*."""
        with self._lock:
            self._done(number)
            if self._silent >= 0:
                os.dup2(self._silent, number, inheritable=False)

    def close(self) -> None:
        """Send nothing more, and end the thread. Twice is harmless."""
        with self._lock:
            silent, self._silent = self._silent, -1
            self._channels.clear()
        if silent >= 0 and self._thread is not None:
            os.eventfd_write(silent, 1)
            self._thread.join()
        if silent >= 0:
            os.close(silent)

    def _run(self, watch: select.epoll) -> None:
        """Send for channels, until the outbox is closed."""
        with watch:
            while self._silent >= 0:
                for number, _ in watch.poll():
                    with self._lock:
                        channel = self._channels.get(number)
                        if channel is not None and channel.flush():
                            self._done(number)
