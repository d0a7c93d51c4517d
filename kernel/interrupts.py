"""Interrupt lines: an interrupt is a message from the line's thread; the answer unmasks the line (X.2)."""

from typing import TYPE_CHECKING

from kernel.abi.errors import Refusal
from kernel.abi.events import Event
from kernel.abi.ids import SYSTEM_BASE, show_thread, thread_id, thread_number
from kernel.abi.kip import Counter
from kernel.abi.messages import Label
from kernel.abi.rights import Kind
from kernel.capability import Resource
from kernel.errors import Refused

if TYPE_CHECKING:
    from hwmodel.machine import Machine
    from kernel.environment import Environment, Thread
    from kernel.exposure import Exposure


class Line(Resource):
    """One interrupt line."""

    kind = Kind.INTERRUPT

    def __init__(self, number: int) -> None:
        """Name line *number*; nobody handles it."""
        self.number = number
        self.handler: Thread | None = None
        self.unanswered = False

    def describe(self) -> tuple[int, int, int, int, str]:
        """Return the line's number."""
        return self.number, 1, 0, 0, ""


class InterruptLines:
    """All lines of the machine."""

    def __init__(self, machine: "Machine", exposure: "Exposure") -> None:
        """Take the interrupts of the machine."""
        self._exposure = exposure
        self._controller = machine.interrupts
        self.lines = [Line(number) for number in range(self._controller.lines)]
        self._controller.connect(self._arrived)

    def _arrived(self, number: int) -> None:
        line = self.lines[number]
        self._controller.mask(number)
        if line.handler is None:
            return
        line.unanswered = True
        self._exposure.count(Counter.INTERRUPTS)
        handler, environment = line.handler, line.handler.environment
        self._exposure.trace.record(Event.INTERRUPT, environment.number, number)
        self._exposure.tell(environment, Label.INTERRUPT, (), sender=thread_id(number), thread=handler.id)

    def bind(self, line: Line, handler: "Thread") -> None:
        """Send the line's interrupts to *handler*. Raises Refused when another environment has it."""
        if line.handler is not None and line.handler.environment is not handler.environment:
            raise Refused(Refusal.LINE_BUSY, f"line {line.number}")
        line.handler, line.unanswered = handler, False
        self._controller.unmask(line.number)

    def unbind(self, line: Line) -> None:
        """Leave the line without a handler."""
        line.handler, line.unanswered = None, False
        self._controller.mask(line.number)

    def mask(self, line: Line, *, masked: bool) -> None:
        """Mask or unmask the line; without a handler, its interrupt waits for the next one."""
        if masked or line.handler is None:
            self._controller.mask(line.number)
        else:
            self._controller.unmask(line.number)

    def line(self, thread: int) -> Line:
        """Return the line whose interrupt thread is *thread*. Raises Refused."""
        number = thread_number(thread)
        if number >= min(SYSTEM_BASE, len(self.lines)) or thread != thread_id(number):
            raise Refused(Refusal.NO_SUCH_THREAD, f"{show_thread(thread)} is no interrupt thread")
        return self.lines[number]

    def answer(self, thread: int, answerer: "Environment") -> None:
        """Unmask the line of interrupt thread *thread*, as its handler answered. Raises Refused."""
        line = self.line(thread)
        if line.handler is None or line.handler.environment is not answerer or not line.unanswered:
            raise Refused(
                Refusal.NO_SUCH_MESSAGE, f"line {line.number} waits for no answer from {answerer.name}"
            )
        line.unanswered = False
        self._controller.unmask(line.number)

    def release(self, thread: "Thread") -> None:
        """Leave the lines of *thread*, which is gone, without a handler."""
        for line in self.lines:
            if line.handler is thread:
                self.unbind(line)
