"""A file of the host in which a pager keeps pages, so that it never waits for the disk.

What the host has in its memory is read at once (RWF_NOWAIT). All else is done by one thread, in the order in which
it was asked for: there is one disk.
"""

import errno
import os
import queue
import threading
from collections import deque
from collections.abc import Callable

from libexo.host.base import Done
from libexo.host.eventfds import RealWaker

_Transfer = Callable[[memoryview, int, int], int]
"""Transfers what it can of some bytes, from an offset on, with flags; returns how many."""


class RealBacking:
    """An open file, and the thread that waits for it. Implements `libexo.host.base.Backing`."""

    def __init__(self, number: int) -> None:
        """Keep bytes in the file of descriptor *number*."""
        self.size = os.lseek(number, 0, os.SEEK_END)
        self._number = number
        self._waker = RealWaker()
        self.fileno = self._waker.fileno
        self._asked: queue.SimpleQueue[tuple[_Transfer, int, memoryview, Done]] = queue.SimpleQueue()
        self._finished: deque[tuple[Done, int]] = deque()
        self._works = False

    def read_now(self, offset: int, view: memoryview, at: int, size: int) -> bool:
        """Read *size* bytes into *view*, if the host has them."""
        try:
            return self._read(view[at : at + size], offset, os.RWF_NOWAIT) == size
        except OSError:  # it would wait, or cannot say; if it is an error, the thread finds it again
            return False

    def read(self, offset: int, view: memoryview, at: int, size: int, done: Done) -> None:
        """Read *size* bytes into *view*."""
        self._ask(self._read, offset, view[at : at + size], done)

    def write(self, offset: int, view: memoryview, at: int, size: int, done: Done) -> None:
        """Write *size* bytes of *view*; a write may always have to wait, for others that were not written yet."""
        self._ask(self._write, offset, view[at : at + size], done)

    def settle(self) -> None:
        """Tell who asked for what is finished."""
        self._waker.clear()
        while self._finished:
            done, number = self._finished.popleft()
            done(number)

    def _read(self, part: memoryview, offset: int, flags: int = 0) -> int:
        return os.preadv(self._number, [part], offset, flags)

    def _write(self, part: memoryview, offset: int, flags: int = 0) -> int:
        return os.pwritev(self._number, [part], offset, flags)

    def _ask(self, transfer: _Transfer, offset: int, part: memoryview, done: Done) -> None:
        if not self._works:
            try:
                threading.Thread(target=self._work, name="swap", daemon=True).start()
            except RuntimeError:  # the host has no more threads now: as a disk that fails for a while
                done(errno.EAGAIN)
                return
            self._works = True
        self._asked.put((transfer, offset, part, done))

    def _work(self) -> None:
        while True:
            transfer, offset, part, done = self._asked.get()
            self._finished.append((done, _transferred(transfer, offset, part)))
            self._waker.wake()


def _transferred(transfer: _Transfer, offset: int, part: memoryview) -> int:
    """Transfer all of *part*; return 0, or the number of the host's error."""
    at = 0
    while at < len(part):
        try:
            count = transfer(part[at:], offset + at, 0)
        except InterruptedError:
            continue
        except OSError as error:
            return error.errno or errno.EIO
        if not count:
            return errno.EIO  # the file is shorter than it was
        at += count
    return 0
