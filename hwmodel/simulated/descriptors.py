"""Descriptors of the simulated machine: objects in a ledger, by which a test sees which were never closed."""

import os
from collections import Counter, deque
from typing import Protocol, TypeVar

from hwmodel.simulated.calls import HostCalls
from hwmodel.simulated.mmu import Region
from kernel.abi.limits import FRAME_SIZE

KERNEL = "kernel"
"""The owner of descriptors that no program holds."""


class Ledger:
    """Every open descriptor of a machine."""

    def __init__(self, calls: HostCalls | None = None) -> None:
        """Start empty; *calls* are those of the host that lends the descriptors."""
        self.calls = calls or HostCalls()
        self._open: dict[int, SimulatedDescriptor] = {}
        self._count = 0
        self._leading: Counter[Target] = Counter()
        """The number of open descriptors, by target."""

    def add(self, descriptor: "SimulatedDescriptor") -> int:
        """Enter *descriptor*, and return its number, which no other ever has."""
        self._count += 1
        self._open[self._count] = descriptor
        self._leading[descriptor.target] += 1
        return self._count

    def remove(self, number: int) -> None:
        """Remove a descriptor."""
        if (descriptor := self._open.pop(number, None)) is None:
            return
        self._leading[descriptor.target] -= 1
        if not self._leading[descriptor.target]:
            del self._leading[descriptor.target]

    def leads_to(self, target: "Target") -> bool:
        """Say whether an open descriptor leads to *thing*."""
        return target in self._leading

    def all(self) -> list["SimulatedDescriptor"]:
        """Return the open ones, oldest first."""
        return list(self._open.values())

    def close_all(self, owner: str) -> None:
        """Close the descriptors of *owner*, as the host does when a process ends."""
        for descriptor in [d for d in self._open.values() if d.owner == owner]:
            descriptor.close()


class Target(Protocol):
    """The target of descriptors."""

    @property
    def kind(self) -> str:
        """One word for people who read a ledger."""


class SimulatedDescriptor:
    """A right the simulated host enforces. Implements `hwmodel.machine.Descriptor`."""

    def __init__(self, ledger: Ledger, target: Target, *, writable: bool = True, owner: str = KERNEL) -> None:
        """Open a descriptor of *thing* for *owner*."""
        self._ledger = ledger
        self.target = target
        self.writable = writable
        self.owner = owner
        self.closed = False
        self.number = ledger.add(self)

    def __repr__(self) -> str:
        """Show what a leak report needs: number, kind and owner."""
        return f"<{self.target.kind} descriptor {self.number} of {self.owner}>"

    def close(self) -> None:
        """Give it up."""
        self.closed = True
        self._ledger.remove(self.number)

    def duplicate(self) -> "SimulatedDescriptor":
        """Return another descriptor of the same target."""
        self.use()
        self._ledger.calls.make("dup")
        return SimulatedDescriptor(self._ledger, self.target, writable=self.writable, owner=self.owner)

    def posted(self) -> bool:
        """Say whether something can be taken from it."""
        return isinstance(self.target, TicketTarget) and self.target.is_posted

    def use(self) -> Target:
        """Return its target. Raises OSError when it was closed."""
        if self.closed:
            raise OSError(9, f"{self!r} is closed")
        return self.target


class MemoryTarget:
    """Memory that a descriptor gives access to."""

    kind = "memory"

    def __init__(self, region: Region) -> None:
        """Stand for *region*."""
        self.region = region


class TicketTarget:
    """A ticket: the numbers posted on it, oldest first, as in a pipe of one page."""

    kind = "ticket"

    def __init__(self) -> None:
        """Start empty."""
        self._posted: deque[int] = deque()

    def post(self, number: int) -> None:
        """Post *number*; a full ticket loses it."""
        if len(self._posted) < FRAME_SIZE // 8:
            self._posted.append(number)

    @property
    def is_posted(self) -> bool:
        """Whether a number can be taken."""
        return bool(self._posted)

    def claim(self) -> int:
        """Take the oldest, or 0."""
        return self._posted.popleft() if self._posted else 0


class WaitTarget:
    """The end of a doorbell to wait on."""

    kind = "wait end"

    def __init__(self) -> None:
        """Make both ends, not rung yet."""
        self.rung = False
        self.ringer = RingTarget(self)


class RingTarget:
    """The end of a doorbell to ring."""

    kind = "ring end"

    def __init__(self, waiter: WaitTarget) -> None:
        """Ring at *waiter*."""
        self.waiter = waiter


class Bell:
    """A program's share of two doorbells: the end of one to wait on, and the end of another to ring."""

    def __init__(self, ledger: Ledger, wait: SimulatedDescriptor, ring: SimulatedDescriptor) -> None:
        """Take both. Raises OSError when they are not such ends."""
        waiter, ringer = wait.use(), ring.use()
        if not isinstance(waiter, WaitTarget) or not isinstance(ringer, RingTarget):
            raise OSError(22, f"{wait!r} and {ring!r} are not ends of doorbells")
        self._ledger = ledger
        self._ends = wait, ring
        self._waiter, self._ringer = waiter, ringer

    @property
    def has_news(self) -> bool:
        """Whether it was rung, or the other side is gone."""
        return self._waiter.rung or not self._is_connected

    @property
    def _is_connected(self) -> bool:
        return not self._ends[0].closed and self._ledger.leads_to(self._waiter.ringer)

    def ring(self) -> None:
        """Wake the side that waits at the other end."""
        if not self._ends[1].closed:
            self._ringer.waiter.rung = True

    def silence(self) -> bool:
        """Take what was rung; False: there was nothing, and never will be."""
        was_rung, self._waiter.rung = self._waiter.rung, False
        return was_rung or self._is_connected

    def close(self) -> None:
        """Give both ends up."""
        for end in self._ends:
            end.close()


class ConsoleTarget:
    """The listening socket of the operators' console, to which nobody connects on the simulated machine."""

    kind = "console"


class FileTarget:
    """A file of the host: what programs are read from is empty here."""

    kind = "file"

    def __init__(self, path: str, size: int = 0, calls: HostCalls | None = None) -> None:
        """Stand for the file at *path*, or a new one of *size* bytes there."""
        self.path = path
        self.data = bytearray(size)
        self._calls = calls or HostCalls()

    def pread(self, offset: int, size: int) -> bytes:
        """Return *size* bytes from *offset* on. Raises OSError."""
        self._ask("pread")
        return bytes(self.data[offset : offset + size])

    def pwrite(self, offset: int, data: bytes) -> None:
        """Store *data* from *offset* on. Raises OSError."""
        self._ask("pwrite")
        self.data[offset : offset + len(data)] = data

    def _ask(self, name: str) -> None:
        """Make a call of a program's, which may fail."""
        if number := self._calls.ask(name):
            raise OSError(number, os.strerror(number))


class EndpointTarget:
    """The listening socket of a binding."""

    kind = "endpoint"

    def __init__(self, address: str) -> None:
        """Listen under that name."""
        self.address = address


T = TypeVar("T", MemoryTarget, TicketTarget)


def consume(descriptor: object, kind: type[T], *, writable: bool) -> T:
    """Close *descriptor* and return its target, checked as the host checks. Raises TypeError, OSError."""
    if not isinstance(descriptor, SimulatedDescriptor):
        raise TypeError(f"{descriptor!r} is not a descriptor of this machine")
    target = descriptor.use()
    descriptor.close()
    if not isinstance(target, kind):
        raise OSError(22, f"a {target.kind} descriptor does not lead to {kind.kind}")
    if writable and not descriptor.writable:
        raise PermissionError(13, f"{descriptor!r} does not allow writing")
    return target
