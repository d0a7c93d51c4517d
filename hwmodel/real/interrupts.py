"""The interrupt controller: lines that are raised, masked, and stay pending. Line 0 is the timer's."""

from collections.abc import Callable

from hwmodel.machine import Clock
from kernel.abi.limits import MAX_INTERRUPTS

TIMER_LINE = 0
MILLISECOND = 1_000_000


class RealInterrupts:
    """Numbered lines; see `hwmodel.machine.Interrupts`."""

    def __init__(self, lines: int = MAX_INTERRUPTS) -> None:
        self._masked = [True] * lines
        self._pending = [False] * lines
        self._handler: Callable[[int], None] | None = None

    @property
    def lines(self) -> int:
        """How many there are."""
        return len(self._masked)

    def connect(self, handler: Callable[[int], None]) -> None:
        """Call *handler* with the line's number for each interrupt that gets through."""
        self._handler = handler

    def mask(self, line: int) -> None:
        """Hold the line's interrupts back."""
        self._masked[line] = True

    def unmask(self, line: int) -> None:
        """Let them through; a pending one follows at once."""
        self._masked[line] = False
        self._deliver(line)

    def trigger(self, line: int) -> None:
        """Raise the line. Raised again before it got through, it is one interrupt."""
        self._pending[line] = True
        self._deliver(line)

    def _deliver(self, line: int) -> None:
        if self._pending[line] and not self._masked[line] and self._handler is not None:
            self._pending[line] = False
            self._handler(line)


class Ticker:
    """The device on line 0: raises it every *period* nanoseconds, on a grid that does not drift."""

    def __init__(self, clock: Clock, interrupts: RealInterrupts, period: int) -> None:
        self._clock = clock
        self._interrupts = interrupts
        self._period = period
        self._next = clock.now()
        self._tick()

    def _tick(self) -> None:
        now = self._clock.now()
        if now >= self._next + self._period:
            self._interrupts.trigger(TIMER_LINE)
        self._next += (now - self._next) // self._period * self._period
        self._alarm = self._clock.alarm(self._next + self._period, self._tick)

    def stop(self) -> None:
        """Raise it no more."""
        self._alarm.cancel()
