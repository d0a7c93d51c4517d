"""The gate of a program on the simulated machine, and what wakes its strands."""

import threading
from collections import deque
from collections.abc import Sequence

from kernel.abi.gate import Status
from libexo.errors import GateClosed
from libexo.host.ground import Ground
from libexo.transport.base import Descriptor

GATE_KEY = 0
"""The gate's `fileno`; the keys of transports are above, those of wakers and doorbells below."""


class Own:
    """State of one strand. Implements `libexo.host.base.Own`."""

    waits = 0
    is_nudged = False
    """Its wait ends."""


class SimulatedGate:
    """The program's end of the trap gate. Implements `libexo.host.base.Gate`."""

    def __init__(self, ground: Ground) -> None:
        """Trap through *ground*."""
        self._ground = ground
        self._upcalls: deque[bytes] = deque()
        self._is_trapping = False
        """A strand waits for an answer, which it will take out of the gate."""
        self._owns = threading.local()

    @property
    def own(self) -> Own:
        """The state of the calling strand."""
        if not hasattr(self._owns, "own"):
            self._owns.own = Own()
        own: Own = self._owns.own
        return own

    def trap(self, data: bytes, descriptors: Sequence[Descriptor] = ()) -> tuple[bytes, list[Descriptor]]:
        """Send one trap and return the answer with its descriptors."""
        self._await_others()
        self._is_trapping = True
        try:
            self._ground.send(data, descriptors)
            return self._answer()
        finally:
            self._is_trapping = False

    def post(self, data: bytes) -> None:
        """Send one trap that is not answered."""
        if self._ground.closed:
            raise GateClosed("the kernel closed the gate")
        self._ground.send(data, ())

    def _await_others(self) -> None:
        """Wait until no other strand is in a trap."""
        while self._is_trapping:
            self._ground.wait(lambda: not self._is_trapping, None)

    def _answer(self) -> tuple[bytes, list[Descriptor]]:
        while True:
            packet = self._ground.receive()
            if packet is None:
                if self._ground.closed:
                    raise GateClosed("the kernel closed the gate")
                self._ground.wait(self._ground.arrived, None)
            elif packet[0][0] == Status.UPCALL:
                self._upcalls.append(packet[0])
            else:
                return packet[0], list(packet[1])

    def upcalls(self, *, surely: bool = False) -> list[bytes]:
        """Return the packets of upcalls that have arrived. Raises GateClosed when there will be no more."""
        if surely:
            self._await_others()
        while not self._is_trapping and (packet := self._ground.receive()) is not None:
            self._upcalls.append(packet[0])
        arrived = list(self._upcalls)
        self._upcalls.clear()
        if not arrived and not self._is_trapping and self._ground.closed:
            raise GateClosed("the kernel closed the gate")
        return arrived

    def ready(self) -> bool:
        """Say whether `upcalls` has anything."""
        return bool(self._upcalls) or (not self._is_trapping and self._ground.arrived())

    def fileno(self) -> int:
        """Return the key of the gate."""
        return GATE_KEY

    def close(self) -> None:
        """Leave."""
        self._ground.leave()


class SimulatedWaker:
    """A key that is among those awake, or not. Implements `libexo.host.base.Waker`."""

    def __init__(self, key: int, awake: set[int]) -> None:
        """Wake by putting *key* into *awake*."""
        self._key = key
        self._awake = awake
        self._closed = False

    def fileno(self) -> int:
        """Return the key to wait on."""
        if self._closed:
            raise ValueError("the waker is closed")
        return self._key

    def wake(self) -> None:
        """End every wait for it."""
        if not self._closed:
            self._awake.add(self._key)

    def clear(self) -> None:
        """Let waits last again."""
        self._awake.discard(self._key)

    def close(self) -> None:
        """Give it up."""
        self._closed = True
        self.clear()
