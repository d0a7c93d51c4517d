"""Simulated gates: the kernel's end, with the packets on their way in both directions."""

from collections import deque
from collections.abc import Sequence

from hwmodel.machine import Exhausted
from hwmodel.simulated.calls import HostCalls
from hwmodel.simulated.descriptors import SimulatedDescriptor
from kernel.abi.limits import MAX_UNREAD_DESCRIPTORS

PORT_PACKETS = 256
"""Packets a gate holds before its program counts as one that does not read."""

Packet = tuple[bytes, list[SimulatedDescriptor]]


class SimulatedPort:
    """The kernel's end of a gate. Implements `hwmodel.machine.Port`."""

    def __init__(self, owner: str, calls: HostCalls) -> None:
        """Open the gate of *owner*."""
        self._owner = owner
        self._calls = calls
        self.to_program: deque[Packet] = deque()
        self.to_kernel: deque[Packet] = deque()
        self.closed = False
        """The kernel closed its end."""
        self.cut = False
        """A failure cut it, or the program left."""
        self.held = False
        """The kernel takes no packet out of it for now."""

    def send(self, data: bytes, descriptors: Sequence[object] = ()) -> bool:
        """Send one packet; the descriptors are consumed. Raises Exhausted."""
        given = [d for d in descriptors if isinstance(d, SimulatedDescriptor)]
        try:
            self._calls.make("sendmsg" if given else "send")
            is_heard = self._has_room(len(given)) and not (self.closed or self.cut)
        except Exhausted:
            for descriptor in given:
                descriptor.close()
            raise
        if not is_heard:
            for descriptor in given:
                descriptor.close()
            return self.cut and not self.closed
        for descriptor in given:
            descriptor.owner = self._owner
        self.to_program.append((data, given))
        return True

    def _has_room(self, descriptors: int) -> bool:
        unread = sum(len(given) for _, given in self.to_program)
        return len(self.to_program) < PORT_PACKETS and unread + descriptors <= MAX_UNREAD_DESCRIPTORS

    def offer(self, data: bytes) -> bool:
        """Send one packet while half of the room is left for answers."""
        try:
            return len(self.to_program) < PORT_PACKETS // 2 and self.send(data)
        except Exhausted:
            return False

    def has_asked(self) -> bool:
        """Say whether a packet waits to be read, or is being answered."""
        return self.held or bool(self.to_kernel)

    def hold(self) -> None:
        """Take no packet out of it until `resume`."""
        self.held = True

    def resume(self) -> None:
        """Take packets again."""
        self.held = False

    def close(self) -> None:
        """Close this end; packets on the way to the program still arrive."""
        self.closed = True
        self.drain()

    def drain(self) -> None:
        """Throw away packets that the kernel will not read any more."""
        while self.to_kernel:
            for descriptor in self.to_kernel.popleft()[1]:
                descriptor.close()
