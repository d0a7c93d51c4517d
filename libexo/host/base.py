"""The seam between libexo and the ground it runs on: how to trap, map, wait, and tell the time.

`libexo.host.real` is a host process with a socket to the kernel; `libexo.host.simulated` is a thread of the
simulated machine. Nothing else in libexo reads a clock, sleeps or opens a descriptor.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.transport.base import Transport

Descriptor = object
"""What the kernel hands over: an int on a real host, an object on the simulated one."""


class Source(Protocol):
    """Something that can be waited for."""

    def fileno(self) -> int:
        """Return the host descriptor to poll (real host); a stable key (simulated)."""


class Ticket(Protocol):
    """A counter shared by the two ends of a binding, from which one of them takes what was posted."""

    def post(self, sequence: int) -> None:
        """Put message *sequence* up: whoever claims first has it."""

    def claim(self) -> int:
        """Take what is posted and return it, or 0 when there is nothing."""

    def close(self) -> None:
        """Give it up."""


class Gate(Protocol):
    """The program's end of the trap gate."""

    def trap(self, data: bytes, descriptors: Sequence[Descriptor] = ()) -> tuple[bytes, list[Descriptor]]:
        """Send one trap and return the answer (status byte first) with its descriptors.

        *descriptors* go along with the trap, and are consumed.
        Upcalls that arrive meanwhile are kept for `upcalls`. Raises GateClosed when the kernel is gone.
        """

    def upcalls(self, *, surely: bool = False) -> list[bytes]:
        """Return the packets of upcalls that have arrived, without waiting.

        Unless *surely*, one that arrived just now may be left for next time.
        """

    def fileno(self) -> int:
        """Return what to wait on for upcalls."""

    def close(self) -> None:
        """Leave."""


class Host(Protocol):
    """The ground."""

    environment: "Environment | None"
    """The environment that stands on it, once somebody attached."""

    @property
    def gate(self) -> Gate:
        """The way into the kernel."""

    @property
    def transport(self) -> "Transport":
        """What carries messages between threads."""

    @property
    def variables(self) -> Mapping[str, str]:
        """The environ the program was started with."""

    def now(self) -> int:
        """Return monotonic time in nanoseconds, on the kernel's clock."""

    def map(self, descriptor: Descriptor, size: int, *, writable: bool) -> memoryview:
        """Map *size* bytes; the descriptor is consumed."""

    def remap(self, view: memoryview, descriptor: Descriptor, *, writable: bool) -> None:
        """Put new memory where *view* is, so that the view goes on; the descriptor is consumed."""

    def unmap(self, view: memoryview) -> None:
        """End a mapping made by `map`."""

    def ticket(self, descriptor: Descriptor) -> Ticket:
        """Return the ticket a descriptor stands for; the descriptor is consumed."""

    def close_descriptor(self, descriptor: Descriptor) -> None:
        """Close a descriptor that is not wanted."""

    def wait(self, sources: Sequence[Source], deadline: int | None) -> None:
        """Sleep until one of *sources* may have something, or until *deadline* (ns)."""
