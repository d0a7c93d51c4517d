"""Rings: memory and doorbells of bindings whose messages bypass sockets.

Its sender pays with an extent, which becomes memory of the binding: both sides map it, and its contents are their
affair. An ordinary extent would not do: its owner can have it taken back at any time, and the other side's
next access would be a bus error. So the memory is sealed: nobody can cut it, not even the kernel. The price is that
it cannot be taken back either. When the binding falls, the frames get new memory, and the old is left to those who
have it mapped: it is private memory, like a heap, and the last answers can still be read from it. Frames and
accounts are as before, since the sender keeps its capability. All it can do with that is drop it, and then the
binding falls.

Two *doorbells* wake a side that sleeps. Each is one way, with an end to wait on and an end to ring. The kernel
gives all ends away, the receiver's when it asks which senders are bound to it. So a side finds its doorbell hung
up when the other side has ended, or has given its ends up.
"""

from typing import TYPE_CHECKING

from hwmodel.machine import Exhausted
from kernel.abi.errors import Refusal
from kernel.abi.limits import FRAME_SIZE, MAX_RING_FRAMES, MIN_RING_FRAMES
from kernel.abi.rights import Rights
from kernel.errors import Refused
from kernel.frames import Extent

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwmodel.machine import Descriptor, Machine
    from kernel.capability import Table

_NEEDED = Rights.READ | Rights.WRITE


class Ring:
    """The memory and the doorbells of one binding."""

    def __init__(self, machine: "Machine", extent: Extent) -> None:
        """Get two doorbells; *extent* is as it was until `begin`. Raises Exhausted."""
        self._extent = extent
        (sender_waits, receiver_rings), (receiver_waits, sender_rings) = _bells(machine)
        self._senders = [sender_waits, sender_rings]
        self._receivers = [receiver_waits, receiver_rings]
        """Each side's ends, until they are handed over."""

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return self._extent.count * FRAME_SIZE

    def begin(self, on_lost: "Callable[[], None]") -> "list[Descriptor]":
        """Make the extent memory of the binding; return the sender's descriptors: memory, doorbell ends.

        *on_lost* ends the binding when the extent is lost. Raises Exhausted: then the extent is as it was.
        """
        memory = self._extent.become_ring(on_lost)
        senders, self._senders = self._senders, []
        return [memory, *senders]

    def share(self) -> "list[Descriptor]":
        """Return the receiver's descriptors, once: memory, doorbell ends. Raises Exhausted: they are still here."""
        memory = self._extent.ring_descriptor()
        receivers, self._receivers = self._receivers, []
        return [memory, *receivers]

    def close(self) -> None:
        """Close the doorbells of the fallen binding; the extent, if it is still there, becomes ordinary again."""
        for end in (*self._senders, *self._receivers):
            end.close()
        self._extent.end_ring()


def _bells(machine: "Machine") -> "tuple[tuple[Descriptor, Descriptor], tuple[Descriptor, Descriptor]]":
    """Return two doorbells. Raises Exhausted."""
    first = machine.bell()
    try:
        return first, machine.bell()
    except Exhausted:
        for end in first:
            end.close()
        raise


def ring_extent(table: "Table", name: int) -> Extent:
    """Return the extent that handle *name* of *table* is to. Raises Refused when it cannot be memory of a ring."""
    capability = table.lookup(name)
    extent = capability.resource
    if not isinstance(extent, Extent):
        raise Refused(Refusal.WRONG_KIND, f"handle {name:#x} is to no extent")
    if _NEEDED & ~capability.rights:
        raise Refused(Refusal.MISSING_RIGHT, f"needs {_NEEDED!r}, has {capability.rights!r}")
    extent.check_no_ring()
    if extent.is_shared():
        raise Refused(Refusal.RING_MEMORY, f"there is another capability to {extent!r}, or an offer of it")
    if not MIN_RING_FRAMES <= extent.count <= MAX_RING_FRAMES:
        limits = f"{MIN_RING_FRAMES}..{MAX_RING_FRAMES}"
        raise Refused(Refusal.BAD_ARGUMENT, f"{extent.count} frames: a ring takes {limits}")
    return extent
