"""The thread on which calls are made that wait for a lock a program holds, in the order they were asked for.

Whoever holds it may hold it long, so nothing of this is done in the loop. What the loop is to hear of it comes back
there. The thread is started for the first who needs it.
"""

import errno
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from hwmodel.errors import exhausted
from hwmodel.machine import Exhausted
from hwmodel.real.errors import lending
from hwmodel.real.loop import Loop


class Lane:
    """Does one thing after another."""

    def __init__(self, loop: Loop) -> None:
        """Tell what comes of it in *loop*."""
        self._loop = loop
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._told: deque[Callable[[], object]] = deque()
        self._bug: BaseException | None = None
        self._bell = -1
        self._thread: threading.Thread | None = None

    @lending
    def start(self) -> None:
        """Be there. Harmless when it is. Raises Exhausted."""
        if self._thread is not None:
            return
        bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        thread = threading.Thread(target=self._run, name="exo-lane", daemon=True)
        try:
            self._loop.watch(bell, self._ring)
            self._bell = bell
            thread.start()
        except (Exhausted, RuntimeError) as full:
            self._loop.unwatch(bell)
            os.close(bell)
            raise full if isinstance(full, Exhausted) else exhausted(errno.EAGAIN) from full
        self._thread = thread

    def post(self, work: Callable[[], object]) -> None:
        """Do *work*, behind what was posted before."""
        self._queue.put(work)

    def tell(self, callback: Callable[[], object]) -> None:
        """From the thread: have *callback* called in the loop."""
        self._told.append(callback)
        os.eventfd_write(self._bell, 1)

    def when_done(self, done: Callable[[], object]) -> None:
        """Call *done* when all that was posted until now has been done."""
        if self._thread is None:
            done()
        else:
            self.post(partial(self.tell, done))

    def close(self) -> None:
        """Do what is left, tell nobody, and end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
            self._loop.unwatch(self._bell)
            os.close(self._bell)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except BaseException as bug:  # noqa: BLE001 - it is raised again, in the loop: that stops the system
                self._bug = bug
                os.eventfd_write(self._bell, 1)

    def _ring(self, _events: int) -> None:
        """Call what is to be called."""
        os.eventfd_read(self._bell)
        if self._bug is not None:
            raise self._bug
        while self._told:
            self._told.popleft()()
