"""The interrupt controller: numbered lines, each masked or not, each with at most one interrupt pending.

Pure state, so both machines share it. `trigger` is called (by a device model, a timer, a test) from the
machine's loop. A line latches: raised three times while masked, it interrupts once when unmasked.
"""

from collections import Counter
from collections.abc import Callable

from hwmodel.machine import Clock
from kernel.abi.limits import MAX_INTERRUPTS

TIMER_LINE = 0
MILLISECOND = 1_000_000


class InterruptController:
    """The lines of one machine. Implements `hwmodel.machine.Interrupts`."""

    def __init__(self, lines: int = MAX_INTERRUPTS) -> None:
        """Make *lines* lines, all masked, without a handler."""
        self._lines = lines
        self._open: set[int] = set()
        self._pending: set[int] = set()
        self._handler: Callable[[int], None] | None = None
        self.merged: Counter[int] = Counter()
        """Per line, how many interrupts merged with one that was pending already."""

    @property
    def lines(self) -> int:
        """The number of lines."""
        return self._lines

    def connect(self, handler: Callable[[int], None]) -> None:
        """Call *handler* with the line's number for each interrupt that gets through."""
        self._handler = handler
        for line in sorted(self._pending & self._open):
            self._deliver(line)

    def mask(self, line: int) -> None:
        """Hold the line's interrupts back."""
        self._open.discard(self._check(line))

    def unmask(self, line: int) -> None:
        """Let them through; a pending one follows at once."""
        self._open.add(self._check(line))
        self._deliver(line)

    def trigger(self, line: int) -> None:
        """Raise the line, as its device does."""
        if self._check(line) in self._pending:
            self.merged[line] += 1
        self._pending.add(line)
        self._deliver(line)

    def _deliver(self, line: int) -> None:
        """Deliver a pending interrupt unless the line is masked; the handler may mask its line meanwhile."""
        if self._handler is None or line not in self._pending or line not in self._open:
            return
        self._pending.discard(line)
        self._handler(line)

    def _check(self, line: int) -> int:
        if not 0 <= line < self._lines:
            raise ValueError(f"there is no interrupt line {line}: the machine has {self._lines}")
        return line


class Ticker:
    """The device on line 0: raises it every *period* nanoseconds, on a grid that does not drift."""

    def __init__(self, clock: Clock, interrupts: InterruptController, period: int) -> None:
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
        """Stop raising it."""
        self._alarm.cancel()
