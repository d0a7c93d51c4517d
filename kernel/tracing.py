"""The event ring: the kernel's record of what happened, readable by all. Layout: `kernel.abi.events`."""

from typing import TYPE_CHECKING

from kernel.abi.events import RECORD, TRACE_SIZE, Event
from kernel.abi.limits import FRAME_SIZE, TRACE_RECORDS

if TYPE_CHECKING:
    from hwmodel.machine import Descriptor, Machine

_SIZE, _PACK = RECORD.size, RECORD.pack_into


class Trace:
    """The writer of the ring."""

    def __init__(self, machine: "Machine") -> None:
        """Make an empty ring on *machine*."""
        self._page = machine.page("trace", TRACE_SIZE)
        machine.publish("trace", self._page)
        self._buffer = self._page.buffer
        self._head = self._buffer[:8].cast("Q")
        self._now = machine.clock.now
        self._written = 0
        self.size = TRACE_SIZE

    def record(self, event: Event, environment: int, a: int = 0, b: int = 0, detail: int = 0) -> None:
        """Write one record. The count is raised after it, so a reader never sees half of one."""
        written = self._written
        at = FRAME_SIZE + written % TRACE_RECORDS * _SIZE
        _PACK(self._buffer, at, self._now(), event, detail, environment, a, b)
        self._written = self._head[0] = written + 1

    def descriptor(self) -> "Descriptor":
        """Return the descriptor by which readers map it."""
        return self._page.descriptor(writable=False)

    def close(self) -> None:
        """Free the ring."""
        self._head.release()
        self._page.close()
