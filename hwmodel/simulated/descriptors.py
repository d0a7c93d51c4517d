"""Descriptors of the simulated machine: objects in a ledger, so that a test sees what was never closed."""

from collections import Counter, deque
from typing import Protocol

from hwmodel.simulated.calls import HostCalls
from hwmodel.simulated.mmu import Region
from kernel.abi.limits import FRAME_SIZE

KERNEL = "kernel"
"""The owner of what no program holds."""


class Ledger:
    """Every open descriptor of a machine."""

    def __init__(self, calls: HostCalls | None = None) -> None:
        """Start empty; *calls* are those of the host that lends the descriptors."""
        self.calls = calls or HostCalls()
        self._open: dict[int, SimulatedDescriptor] = {}
        self._count = 0
        self._leading: Counter[Thing] = Counter()
        """How many open descriptors lead to a thing."""

    def add(self, descriptor: "SimulatedDescriptor") -> int:
        """Enter *descriptor*, and return its number, which no other ever has."""
        self._count += 1
        self._open[self._count] = descriptor
        self._leading[descriptor.thing] += 1
        return self._count

    def remove(self, number: int) -> None:
        """Strike a descriptor out."""
        if (descriptor := self._open.pop(number, None)) is None:
            return
        self._leading[descriptor.thing] -= 1
        if not self._leading[descriptor.thing]:
            del self._leading[descriptor.thing]

    def leads_to(self, thing: "Thing") -> bool:
        """Say whether an open descriptor leads to *thing*."""
        return thing in self._leading

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
        self._ledger.calls.make("dup")
        return SimulatedDescriptor(self._ledger, self.thing, writable=self.writable, owner=self.owner)

    def posted(self) -> bool:
        """Say whether there is something to be taken from it."""
        return isinstance(self.thing, TicketThing) and self.thing.is_posted

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
    """Numbers that were posted, oldest first, as in a pipe of one page."""

    kind = "ticket"

    def __init__(self) -> None:
        """Start with none."""
        self._posted: deque[int] = deque()

    def post(self, number: int) -> None:
        """Put *number* up; where it is full, it is lost."""
        if len(self._posted) < FRAME_SIZE // 8:
            self._posted.append(number)

    @property
    def is_posted(self) -> bool:
        """Whether there is one to take."""
        return bool(self._posted)

    def claim(self) -> int:
        """Take the oldest, or 0."""
        return self._posted.popleft() if self._posted else 0


class WaitThing:
    """The end of a doorbell to wait on."""

    kind = "wait end"

    def __init__(self) -> None:
        """Make both ends; nobody has rung yet."""
        self.rung = False
        self.ringer = RingThing(self)


class RingThing:
    """The end of a doorbell to ring."""

    kind = "ring end"

    def __init__(self, waiter: WaitThing) -> None:
        """Ring at *waiter*."""
        self.waiter = waiter


class Bell:
    """What a program holds of two doorbells: the end of one to wait on, and the end of another to ring."""

    def __init__(self, ledger: Ledger, wait: SimulatedDescriptor, ring: SimulatedDescriptor) -> None:
        """Take both. Raises OSError when they are not such ends."""
        waiter, ringer = wait.use(), ring.use()
        if not isinstance(waiter, WaitThing) or not isinstance(ringer, RingThing):
            raise OSError(22, f"{wait!r} and {ring!r} are no ends of doorbells")
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
        """Wake who waits at the other end."""
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
    """The listening socket of a binding."""

    kind = "endpoint"

    def __init__(self, address: str) -> None:
        """Listen under that name."""
        self.address = address
