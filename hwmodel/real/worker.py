"""The thread for host calls that may take long: copying, cutting and filling memory.

The host calls of a deed release the interpreter, so the loop goes on meanwhile. Deeds get a piece each in turn:
a large one does not hold up a small one. Descriptors that programs sent and nobody wants are closed here too:
closing the last one of a large file frees it, in time that grows with its size.

It works for programs, and should take no more of a core than one of them. If the host prefers the kernel's whole
session, it therefore rests as long as it worked, if others wanted its core meanwhile.
"""

import os
import resource
import threading
import time
from collections import deque
from collections.abc import Callable

from hwmodel.machine import Deed, Exhausted
from hwmodel.real.loop import Loop, close_quietly

Done = Callable[[Exhausted | None], None]
NICENESS = 0
"""Niceness of the thread: that of programs, for which it works, not that of the kernel's loop."""


class Worker:
    """Does deeds, and reports their outcomes in the loop."""

    def __init__(self, loop: Loop, *, rests: bool = False) -> None:
        """Work for *loop*; one that *rests* leaves others as much of its core as it takes."""
        self._loop = loop
        self._rests = rests
        self._deeds: deque[tuple[Deed, Done]] = deque()
        self._closing: deque[int] = deque()
        self._ended: deque[tuple[Done, Exhausted | None]] = deque()
        self._bug: BaseException | None = None
        self._stopping = False
        self._something = threading.Semaphore(0)
        """Counts the work there is."""
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="exo-worker", daemon=True)
        loop.watch(self._bell, self._tell)
        self._thread.start()

    def work(self, deed: Deed, done: Done) -> None:
        """Do *deed*, in turn with others; then call *done* from the loop."""
        self._deeds.append((deed, done))
        self._something.release()

    def close_descriptor(self, number: int) -> None:
        """Close *number* later."""
        self._closing.append(number)
        self._something.release()

    def close(self) -> None:
        """Do the remaining work, report nothing, and end the thread."""
        self._stopping = True
        self._something.release()
        self._thread.join()
        self._loop.closer = close_quietly
        self._loop.unwatch(self._bell)
        os.close(self._bell)

    def _run(self) -> None:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
        while True:
            self._something.acquire()
            began, pushed = time.thread_time(), _pushed()
            if self._closing:
                close_quietly(self._closing.popleft())
            elif self._deeds:
                self._step(*self._deeds.popleft())
            elif self._stopping:
                return
            if self._rests and _pushed() > pushed:
                time.sleep(time.thread_time() - began)

    def _step(self, deed: Deed, done: Done) -> None:
        """Do a piece of *deed*."""
        failure = None
        try:
            next(deed)
        except StopIteration:
            pass
        except Exhausted as exhausted:
            failure = exhausted
        except BaseException as bug:  # noqa: BLE001 - it is raised again, in the loop: that stops the system
            self._bug = bug
        else:
            self._deeds.append((deed, done))
            self._something.release()
            return
        self._ended.append((done, failure))
        os.eventfd_write(self._bell, 1)

    def _tell(self, _events: int) -> None:
        """Report the deeds that have ended."""
        os.eventfd_read(self._bell)
        if self._bug is not None:
            raise self._bug
        while self._ended:
            done, failure = self._ended.popleft()
            done(failure)


def _pushed() -> int:
    """Return how often this thread was preempted on its core."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
