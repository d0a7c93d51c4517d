"""A reader of the event ring (`kernel.abi.events`): each record once, in order, and how many were lost."""

from collections.abc import Iterator
from typing import NamedTuple

from kernel.abi.events import RECORD
from kernel.abi.limits import FRAME_SIZE, TRACE_RECORDS


class Record(NamedTuple):
    """One event."""

    number: int
    ns: int
    event: int
    environment: int
    a: int
    b: int
    detail: int = 0


class Ring:
    """A reader of the event ring."""

    def __init__(self, view_of_ring: memoryview) -> None:
        """Read *view_of_ring*, from its beginning."""
        self._ring = view_of_ring
        self._head = view_of_ring[:8].cast("Q")
        self.next = 0
        self.lost = 0

    def read(self) -> Iterator[Record]:
        """Yield the events since the last call. Those overwritten before they were read are counted."""
        written = self._head[0]
        while self.next < written:
            number = max(self.next, self._head[0] - TRACE_RECORDS + 1)
            ns, event, detail, environment, a, b = RECORD.unpack_from(
                self._ring, FRAME_SIZE + number % TRACE_RECORDS * RECORD.size
            )
            if self._head[0] - number >= TRACE_RECORDS:
                continue  # the kernel may have been writing there
            self.lost += number - self.next
            self.next = number + 1
            yield Record(number, ns, event, environment, a, b, detail)

    def skip(self, keep: int) -> None:
        """Go on with the last *keep* events."""
        self.next = max(self.next, self._head[0] - min(keep, TRACE_RECORDS - 1), 0)
