"""How long somebody else's Python code may compute in this process: the host's timer counts CPU time only."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from libexo.errors import TooSlow

T = TypeVar("T")


def limited(does: Callable[[], T], seconds: float) -> T:
    """Return what it *does*; it is interrupted between two instructions after *seconds*. Raises TooSlow.

    The calling thread is the process's first.
    """
    running = True

    def ring(_number: int, _frame: FrameType | None) -> None:
        if running:
            raise TooSlow(f"computes for more than {seconds * 1000:g} ms")

    signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)  # again, where it catches that
    try:
        return does()
    finally:
        running = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
