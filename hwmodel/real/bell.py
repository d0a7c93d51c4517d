"""How threads beside the loop tell it what came of their work: callbacks, rung for by one descriptor."""

import os
from collections import deque
from collections.abc import Callable

from hwmodel.real.loop import Loop


class Bell:
    """Calls in the loop what threads have it call, in order."""

    def __init__(self, loop: Loop) -> None:
        """Hang it in *loop*."""
        self._loop = loop
        self._told: deque[Callable[[], object]] = deque()
        self._bug: BaseException | None = None
        self._number = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        loop.watch(self._number, self._ring)

    def tell(self, callback: Callable[[], object]) -> None:
        """From a thread: have *callback* called in the loop."""
        self._told.append(callback)
        os.eventfd_write(self._number, 1)

    def alarm(self, bug: BaseException) -> None:
        """From a thread: raise *bug* in the loop, which stops the system."""
        self._bug = bug
        os.eventfd_write(self._number, 1)

    def close(self) -> None:
        """Take it down, when no thread is there any more that would ring."""
        self._loop.unwatch(self._number)
        os.close(self._number)

    def _ring(self, _events: int) -> None:
        """Call what is to be called."""
        os.eventfd_read(self._number)
        if self._bug is not None:
            raise self._bug
        while self._told:
            self._told.popleft()()
