"""The threads for host calls that may take long: copying, cutting and filling memory.

The host calls of a deed release the interpreter, so the loop goes on meanwhile. Deeds get a piece each in turn:
a large one does not hold up a small one. Descriptors that programs sent and nobody wants are closed here too:
closing the last one of a large file frees it, in time that grows with its size.

One thread does it all, but a call may wait for a lock of the memory, which who has that mapped can hold: the others
then have a thread of their own, and who holds the lock for too long is ended (`hwmodel.real.patience`).

It works for programs, and should take no more of a core than one of them. If the host prefers the kernel's whole
session, it therefore rests as long as it worked, if others wanted its core meanwhile.
"""

import contextlib
import os
import resource
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from hwmodel.machine import Deed, Exhausted
from hwmodel.real.bell import Bell
from hwmodel.real.loop import Loop, close_quietly
from hwmodel.real.patience import Patience

Done = Callable[[Exhausted | None], None]
NICENESS = 0
"""Niceness of the thread: that of programs, for which it works, not that of the kernel's loop."""
_LOOKS = 3
"""How often a call is found unfinished before it is found out who keeps it waiting: by writing to a file."""
MAX_THREADS = 32
"""How many may wait for locks, before the next who waits has others waiting behind it."""


class Call:
    """A piece of work under way, on a thread."""

    def __init__(self, thread: int) -> None:
        """Do it on *thread*, by its number."""
        self.thread = thread
        self.looks = 0
        """How often it was found unfinished."""


class Worker:
    """Does deeds, and reports their outcomes in the loop."""

    def __init__(
        self,
        loop: Loop,
        bell: Bell,
        stuck: Callable[[int], object] = bool,
        *,
        rests: bool = False,
    ) -> None:
        """Work for *loop*, and report by *bell*; one that *rests* leaves others as much of its core as it takes.

        When a call waits too long for a lock, *stuck* is called in the loop, with its thread.
        """
        self._loop = loop
        self._bell = bell
        self._stuck = stuck
        self._rests = rests
        self._deeds: deque[tuple[Deed, Done]] = deque()
        self._closing: deque[int] = deque()
        self._stopping = False
        self._something = threading.Semaphore(0)
        """Counts the work there is."""
        self._lock = threading.Lock()
        """Of the list of those who leave."""
        self._threads: list[threading.Thread] = []
        self._calls: dict[int, Call] = {}
        self._patience = Patience(loop, self._look)
        self._hire()

    def work(self, deed: Deed, done: Done) -> None:
        """Do *deed*, in turn with others; then call *done* from the loop."""
        self._deeds.append((deed, done))
        self._something.release()
        self._patience.begin()

    def close_descriptor(self, number: int) -> None:
        """Close *number* later."""
        self._closing.append(number)
        self._something.release()

    def close(self) -> None:
        """Do the remaining work, and end the threads."""
        self._patience.end()
        with self._lock:
            self._stopping = True
        for _ in self._threads:
            self._something.release()
        for thread in self._threads:
            thread.join()
        self._loop.closer = close_quietly

    # ------------------------------------------------------------------------------------------- in the loop

    def _hire(self) -> None:
        thread = threading.Thread(target=self._run, name="exo-worker", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _look(self) -> bool:
        """Have others work where each call waits long; say whether anything is to be done."""
        calls = list(self._calls.values())
        for call in calls:
            call.looks += 1
            if call.looks == _LOOKS:
                self._stuck(call.thread)
        stuck = len(calls) == len(self._threads) and all(call.looks > 1 for call in calls)
        if stuck and len(calls) < MAX_THREADS:
            with contextlib.suppress(RuntimeError):  # the host has no thread for us now
                self._hire()
        return bool(calls or self._deeds or self._closing)

    # ----------------------------------------------------------------------------------------- on the threads

    def _run(self) -> None:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
        while True:
            self._something.acquire()
            piece = self._next()
            if piece is None:
                return
            began, pushed = time.thread_time(), _pushed()
            call = self._calls[thread] = Call(thread)
            piece()
            del self._calls[thread]
            if self._rests and _pushed() > pushed:
                time.sleep(time.thread_time() - began)
            if call.looks > 1 and self._leaves():
                return

    def _next(self) -> Callable[[], object] | None:
        """Return what is to be done next; None: nothing any more."""
        with contextlib.suppress(IndexError):
            return partial(close_quietly, self._closing.popleft())
        with contextlib.suppress(IndexError):
            return partial(self._step, *self._deeds.popleft())
        assert self._stopping
        return None

    def _leaves(self) -> bool:
        """Say whether the calling thread is one too many, and is none any more."""
        with self._lock:
            if self._stopping or len(self._threads) == 1:
                return False
            self._threads.remove(threading.current_thread())
            return True

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
            self._bell.alarm(bug)
        else:
            self._deeds.append((deed, done))
            self._something.release()
            return
        self._bell.tell(partial(done, failure))


def _pushed() -> int:
    """Return how often this thread was preempted on its core."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
