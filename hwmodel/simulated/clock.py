"""Virtual time: a number that grows only when the machine moves it."""

import heapq
from collections.abc import Callable
from itertools import count


class VirtualAlarm:
    """A call at a given time. Implements `hwmodel.machine.Alarm`."""

    def __init__(self, at: int, serial: int, callback: Callable[[], None]) -> None:
        """Set it to *at*; alarms of one time go off in the order they were set."""
        self.at = at
        self._serial = serial
        self.callback: Callable[[], None] | None = callback

    def __lt__(self, other: "VirtualAlarm") -> bool:
        return (self.at, self._serial) < (other.at, other._serial)

    def cancel(self) -> None:
        """Cancel the call."""
        self.callback = None


class VirtualClock:
    """Nanoseconds since the machine was made. Implements `hwmodel.machine.Clock`."""

    def __init__(self) -> None:
        """Start at zero."""
        self._now = 0
        self._alarms: list[VirtualAlarm] = []
        self._serials = count()

    def now(self) -> int:
        """Return the time."""
        return self._now

    def alarm(self, at: int, callback: Callable[[], None]) -> VirtualAlarm:
        """Call *callback* once, at the time *at* or later."""
        alarm = VirtualAlarm(at, next(self._serials), callback)
        heapq.heappush(self._alarms, alarm)
        return alarm

    def advance(self, to: int) -> None:
        """Move the time; `ring` then makes the calls that are due."""
        self._now = max(self._now, to)

    def next(self) -> int | None:
        """Return the time of the next alarm, or None."""
        while self._alarms and self._alarms[0].callback is None:
            heapq.heappop(self._alarms)
        return self._alarms[0].at if self._alarms else None

    def ring(self) -> None:
        """Call every alarm that is due, also those set meanwhile."""
        while (at := self.next()) is not None and at <= self._now:
            alarm = heapq.heappop(self._alarms)
            callback, alarm.callback = alarm.callback, None
            if callback is not None:
                callback()
