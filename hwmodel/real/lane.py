"""The thread on which the calls on one program's memory are made, in the order they were asked for.

They take a lock that the program may hold as long as it likes: so nothing of this is done in the loop, and no
program has another one's calls behind its own. What the loop is to hear of it comes back there.
"""

import errno
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from hwmodel.errors import exhausted
from hwmodel.real.bell import Bell
from hwmodel.real.loop import Loop
from hwmodel.real.patience import Patience

_SLOW = 100_000_000
"""How long a call takes, in ns, that waits for a lock: most take a ten-thousandth of it."""
_LOOKS = 8
"""How often a lane that never rests between is found in such a call, before its program is ended."""


class Lane:
    """Does one thing after another."""

    def __init__(self, loop: Loop, bell: Bell, stuck: Callable[[], object]) -> None:
        """Tell by *bell* what comes of it; call *stuck* in *loop* when one call takes too long.

        Raises Exhausted.
        """
        self.tell = bell.tell
        self._bell = bell
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._posted = self._done = 0
        """How much, each counted by the thread that does it."""
        self._began = self._looks = 0
        self._now, self._stuck = loop.now, stuck
        self._patience = Patience(loop, self._look)
        self._thread = threading.Thread(target=self._run, name="exo-lane", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as full:
            raise exhausted(errno.EAGAIN) from full

    def post(self, work: Callable[[], object]) -> None:
        """Do *work*, behind what was posted before."""
        self._posted += 1
        self._queue.put(work)
        if self._patience.alarm is None:
            self._patience.begin()

    def when_done(self, done: Callable[[], object]) -> None:
        """Call *done* when all that was posted until now has been done, and the loop has heard of it."""
        self.post(partial(self.tell, done))

    @property
    def number(self) -> int:
        """What the host calls the thread."""
        return self._thread.native_id or 0

    def close(self) -> None:
        """Do what is left, and end."""
        self._patience.end()
        self._queue.put(None)

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            self._began = self._now()
            try:
                work()
            except BaseException as bug:  # noqa: BLE001 - it is raised again, in the loop: that stops the system
                self._bell.alarm(bug)
            self._done += 1

    def _look(self) -> bool:
        """Say whether something is under way; tell if it goes on for too long."""
        if self._done == self._posted:
            self._looks = 0
            return False
        self._looks += self._now() - self._began > _SLOW
        if self._looks == _LOOKS:
            self._looks += 1
            self._stuck()
        return True
