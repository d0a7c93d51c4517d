"""What a program of the simulated machine sees of its body.

libexo does not import the machine: the machine's bodies are grounds.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from kernel.abi.program import Program
from libexo.host.base import MappedMemory, Part


class Posted(Protocol):
    """The target of a ticket's descriptor."""

    def post(self, number: int) -> None:
        """Post *number*; a full ticket loses it."""

    def claim(self) -> int:
        """Take the oldest, or 0."""


class Doorbells(Protocol):
    """The target of the descriptors of two doorbells."""

    @property
    def has_news(self) -> bool:
        """Whether it was rung, or the other side is gone."""

    def ring(self) -> None:
        """Wake the other side."""

    def silence(self) -> bool:
        """Take what was rung; False: there was nothing, and the other side is gone."""

    def close(self) -> None:
        """Give both ends up."""


class Stored(Protocol):
    """A file that a program was started with."""

    @property
    def data(self) -> bytearray:
        """Its bytes."""

    def pread(self, offset: int, size: int) -> bytes:
        """Return *size* bytes from *offset* on. Raises OSError."""

    def pwrite(self, offset: int, data: bytes) -> None:
        """Store *data* from *offset* on. Raises OSError."""


class Ground(Protocol):
    """The body of a simulated program, as the program sees it."""

    number: int
    name: str
    program: Program

    @property
    def closed(self) -> bool:
        """Whether the kernel has closed the other end of the gate."""

    def send(self, data: bytes, descriptors: Sequence[object] = ()) -> None:
        """Send a packet to the kernel, which takes it when the program waits."""

    def receive(self) -> tuple[bytes, Sequence[object]] | None:
        """Return the next packet from the kernel, or None."""

    def arrived(self) -> bool:
        """Say whether `receive` would return a packet, or never will again."""

    def leave(self) -> None:
        """Close the gate."""

    def wait(self, ready: Callable[[], bool], deadline: int | None) -> None:
        """Hand over until *ready*, or until *deadline*."""

    def burn(self, nanoseconds: int) -> None:
        """Compute for that long."""

    def now(self) -> int:
        """Read the clock."""

    def consumed(self) -> int:
        """Return the CPU time it used, in ns."""

    def map(self, descriptor: object, size: int, *, writable: bool) -> memoryview:
        """Map memory."""

    def mapping(self, view: memoryview) -> MappedMemory:
        """Return the mapping of *view*."""

    def address(self, view: memoryview) -> int:
        """Return where the mapping that *view* is of lies."""

    def place(self, mapping: MappedMemory) -> int:
        """Return where *mapping* lies."""

    def touch(self, view: memoryview, offset: int, *, write: bool) -> Callable[[], bool] | None:
        """Access a byte; None: it is there. Otherwise what to wait for before trying again."""

    def unsee(self, view: memoryview, offset: int, size: int) -> None:
        """Drop what the MMU knows of pages of a mapping that nobody watches."""

    def remap(
        self, mapping: MappedMemory, descriptor: object, part: Part | None = None, *, writable: bool
    ) -> None:
        """Put new memory where *mapping* is, or part of it."""

    def unmap(self, view: memoryview) -> None:
        """End a mapping."""

    def ticket(self, descriptor: object) -> Posted:
        """Return the target of a ticket's descriptor."""

    def bell(self, wait: object, ring: object) -> Doorbells:
        """Return the target of two doorbells' descriptors."""

    def file(self, role: int) -> Stored | None:
        """Return the file it was started with for *role*, if any."""

    def given(self, role: int) -> object | None:
        """Return the descriptor it was started with for *role*, if any."""

    def start_strand(self, function: Callable[[], object], name: str) -> None:
        """Start a strand that runs *function* when it gets its turn."""
