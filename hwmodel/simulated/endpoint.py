"""Simulated end points: one connection each, as on the real machine."""

from collections.abc import Callable
from typing import Protocol

from hwmodel.machine import Clock
from hwmodel.simulated.descriptors import EndpointTarget, Ledger, SimulatedDescriptor


class Place(Protocol):
    """The machine, as end points see it."""

    clock: Clock
    ledger: Ledger
    endpoints: "dict[str, SimulatedEndpoint]"
    """End points that were neither taken nor removed, by name."""
    endpoint_removed: Callable[[str], object]


class SimulatedEndpoint:
    """The listening socket of a binding. Implements `hwmodel.machine.Endpoint`."""

    def __init__(self, machine: Place, name: str, connected: Callable[[], None]) -> None:
        """Listen under *name*."""
        self._machine = machine
        self.name = name
        self._call: Callable[[], object] = connected
        """Called at the connection, until it is taken or removed; it refers to this end point."""
        self._is_connected = False

    def connect(self) -> bool:
        """Take a connection; the kernel learns of it in the next turn. False: there is one already."""
        if self._is_connected:
            return False
        self._is_connected = True
        clock = self._machine.clock
        clock.alarm(clock.now(), self._arrive)
        return True

    def _arrive(self) -> None:
        if self.name in self._machine.endpoints:
            self._call()

    def take(self) -> SimulatedDescriptor:
        """Return a descriptor of it."""
        del self._machine.endpoints[self.name]
        self._call = int
        return SimulatedDescriptor(self._machine.ledger, EndpointTarget(self.name))

    def close(self) -> None:
        """Remove it, unless it was taken; a connection that waits in it is lost."""
        self._call = int
        if self._machine.endpoints.pop(self.name, None) is not None:
            self._machine.endpoint_removed(self.name)
