"""How long a program may keep a thread of the machine waiting for a lock that it holds.

The host gives no call that would not wait. So whoever waits is a thread that only those wait for who have to do
with that program, and a program that keeps it for longer than this is ended: then the host lets the call go on.
"""

from collections.abc import Callable

from hwmodel.machine import Alarm
from hwmodel.real.loop import Loop

LOOK = 250_000_000
"""Nanoseconds between two looks. They are counted, and not the time: a machine that stood still blames nobody."""


class Patience:
    """Looks now and then at what is under way, as long as there is something."""

    def __init__(self, loop: Loop, look: Callable[[], bool]) -> None:
        """Call *look* while it says that there is something."""
        self._loop = loop
        self._see = look
        self.alarm: Alarm | None = None
        """Of the next look; None: nothing is known to be under way."""

    def begin(self) -> None:
        """There is something to look at. Harmless when it is known."""
        if self.alarm is None:
            self.alarm = self._loop.alarm(self._loop.now() + LOOK, self._look)

    def end(self) -> None:
        """There is nothing any more."""
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None

    def _look(self) -> None:
        self.alarm = None
        if self._see():
            self.begin()
