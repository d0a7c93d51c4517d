"""Descriptors of the simulated machine: objects in a ledger, so that a test sees what was never closed."""

from typing import Protocol

from hwmodel.simulated.mmu import Region

KERNEL = "kernel"
"""The owner of what no program holds."""


class Ledger:
    """Every open descriptor of a machine."""

    def __init__(self) -> None:
        """Start empty."""
        self._open: dict[int, SimulatedDescriptor] = {}
        self._count = 0

    def add(self, descriptor: "SimulatedDescriptor") -> int:
        """Enter *descriptor*, and return its number, which no other ever has."""
        self._count += 1
        self._open[self._count] = descriptor
        return self._count

    def remove(self, number: int) -> None:
        """Strike a descriptor out."""
        self._open.pop(number, None)

    def all(self) -> list["SimulatedDescriptor"]:
        """Return the open ones, oldest first."""
        return list(self._open.values())

    def close_all(self, owner: str) -> None:
        """Close what *owner* holds, as the host does when a process ends."""
        for descriptor in [d for d in self._open.values() if d.owner == owner]:
            descriptor.close()


class Thing(Protocol):
    """What a descriptor leads to."""

    @property
    def kind(self) -> str:
        """One word for people who read a ledger."""


class SimulatedDescriptor:
    """A right the simulated host enforces. Implements `hwmodel.machine.Descriptor`."""

    def __init__(self, ledger: Ledger, thing: Thing, *, writable: bool = True, owner: str = KERNEL) -> None:
        """Open a descriptor of *thing* for *owner*."""
        self._ledger = ledger
        self.thing = thing
        self.writable = writable
        self.owner = owner
        self.closed = False
        self.number = ledger.add(self)

    def __repr__(self) -> str:
        """Show what a leak report needs: number, kind and owner."""
        return f"<{self.thing.kind} descriptor {self.number} of {self.owner}>"

    def close(self) -> None:
        """Give it up."""
        self.closed = True
        self._ledger.remove(self.number)

    def duplicate(self) -> "SimulatedDescriptor":
        """Return another descriptor of the same thing."""
        self.use()
        return SimulatedDescriptor(self._ledger, self.thing, writable=self.writable, owner=self.owner)

    def use(self) -> Thing:
        """Return what it leads to. Raises OSError when it was closed."""
        if self.closed:
            raise OSError(9, f"{self!r} is closed")
        return self.thing


class MemoryThing:
    """Memory that a descriptor gives access to."""

    kind = "memory"

    def __init__(self, region: Region) -> None:
        """Stand for *region*."""
        self.region = region


class TicketThing:
    """A counter, as an eventfd counts: posts add up, a claim takes all."""

    kind = "ticket"

    def __init__(self) -> None:
        """Start at zero."""
        self.value = 0


class ConsoleThing:
    """The listening socket of the operators' console: nobody ever connects to a simulated one."""

    kind = "console"


class FileThing:
    """A file of the host, which nobody reads on the simulated machine."""

    kind = "file"

    def __init__(self, path: str) -> None:
        """Stand for the file at *path*."""
        self.path = path


class EndpointThing:
    """The listening socket of a thread."""

    kind = "endpoint"

    def __init__(self, number: int) -> None:
        """Listen as thread *number*."""
        self.number = number
        self.closed = False
