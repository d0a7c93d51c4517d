"""Physical RAM: ranges of frames that may be carved, and extents, the runs that were.

The kernel knows which frames are free and whose extents the others are; which to take is the caller's choice
(first fit when it has none). An extent becomes memory of its own, so what a program can map is exactly what it
was given. The last capability to an extent takes its frames back to RAM.
"""

from typing import TYPE_CHECKING

from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.events import Event
from kernel.abi.ids import ANY_FRAME
from kernel.abi.messages import Label
from kernel.abi.rights import Kind, Rights
from kernel.errors import Refused
from kernel.runs import FreeRuns
from kernel.thing import Lasting, Thing

if TYPE_CHECKING:
    from hwmodel.machine import Backing, Descriptor
    from kernel.bindings import Binding
    from kernel.capability import Capability
    from kernel.environment import Environment
    from kernel.kernel import Kernel


class Ram(Lasting):
    """A range of frames whose holder may carve it. Extents carved from it are derived from it."""

    kind = Kind.RAM

    def __init__(self, first: int, count: int) -> None:
        """Name frames *first* .. *first* + *count* - 1."""
        self.first = first
        self.count = count

    def __repr__(self) -> str:
        """Show the range."""
        return f"<Ram {self.first}+{self.count}>"

    def describe(self) -> tuple[int, int, int, int, str]:
        """Return the range."""
        return self.first, self.count, 0, 0, ""

    def part(self, first: int, count: int) -> "Ram":
        """Return a part of the range; *count* 0 means to its end. Raises Refused."""
        first = self.first if first == ANY_FRAME else first
        count = count or self.first + self.count - first
        if first < self.first or count < 1 or first + count > self.first + self.count:
            raise Refused(Refusal.BAD_ARGUMENT, f"{first}+{count} is not inside {self.first}+{self.count}")
        return Ram(first, count)


class Extent:
    """A run of frames that was carved: memory of its own."""

    kind = Kind.EXTENT

    def __init__(self, first: int, count: int, backing: "Backing") -> None:
        """Wrap *backing*, the memory of *count* frames from *first*."""
        self.first = first
        self.count = count
        self.binding: Binding | None = None
        """Whose ring memory it is, if any: then it is nobody's to map, and has one capability."""
        self.leaked = False
        """Somebody gave its capability up by itself, and may still have the memory mapped."""
        self._backing = backing
        self._capabilities: dict[Capability, None] = {}
        self._user: Environment | None = None

    def __repr__(self) -> str:
        """Show the run."""
        return f"<Extent {self.first}+{self.count}>"

    def describe(self) -> tuple[int, int, int, int, str]:
        """Return the run."""
        return self.first, self.count, 0, 0, ""

    def held(self) -> bool:
        """Say whether anybody holds a capability to it."""
        return bool(self._capabilities)

    def descriptor(self, capability: "Capability") -> "Descriptor":
        """Return what the holder of *capability* maps it by."""
        capability.mapped = True
        return self._backing.descriptor(writable=bool(capability.rights & Rights.WRITE))

    # ----------------------------------------------------------------------------------- as memory of a ring

    def is_shared(self) -> bool:
        """Say whether there is more than one capability to it, or an offer of the one there is."""
        return len(self._capabilities) > 1 or any(held.offers() for held in self._capabilities)

    def check_no_ring(self) -> None:
        """Refuse while it is the memory of a ring."""
        if self.binding is not None:
            raise Refused(Refusal.RING_MEMORY, f"{self!r} is the ring of a binding")

    def become_ring(self, binding: "Binding") -> None:
        """Be memory of *binding*, zeros, that nobody can cut. Raises Exhausted: then nothing has changed."""
        self._backing.seal()
        self.binding = binding
        self._forget_mappings()

    def ring_descriptor(self) -> "Descriptor":
        """Return what either side of the binding maps it by."""
        return self._backing.descriptor(writable=True)

    def end_ring(self) -> None:
        """Be an ordinary extent of zeros again. Harmless when it is no ring's, or no more."""
        if self.binding is not None:
            self.binding = None
            self._backing.unseal()
            self._forget_mappings()

    def _forget_mappings(self) -> None:
        """Nobody has the memory mapped, for it is new."""
        self.leaked = False
        for capability in self._capabilities:
            capability.mapped = False

    # ------------------------------------------------------------------------------------------- its holders

    def gained(self, capability: "Capability") -> None:
        """Remember the holder."""
        self._capabilities[capability] = None

    def inherited(self, kernel: "Kernel", dead: "Environment", heir: "Environment") -> None:
        """The successor is the user now."""
        if self._user is dead:
            self._user = heir
            kernel.kip.show_frames(self.first, self.count, heir)

    def lost(self, kernel: "Kernel", capability: "Capability") -> None:
        """Forget the holder; at the last one, the frames go back to RAM, and a binding they were for falls."""
        del self._capabilities[capability]
        if not self._capabilities:
            binding, self.binding = self.binding, None
            self.free(kernel)
            if binding is not None:
                kernel.bindings.drop((binding,))
        elif all(other.holder is not self._user for other in self._capabilities):
            self.account(kernel, next(iter(self._capabilities)).holder)

    def free(self, kernel: "Kernel") -> None:
        """Take the memory from everybody and give the frames back to RAM."""
        self.account(kernel, None)
        self._backing.release()
        kernel.frames.give_back(self)

    def move(self, kernel: "Kernel", keeper: "Capability | None") -> None:
        """Copy the contents to new memory and take the old from all; holders but *keeper* are told."""
        self._backing.replace()
        self.leaked = False
        for capability in self._capabilities:
            if capability.mapped and capability is not keeper:
                kernel.tell(capability.holder, Label.MOVED, (capability.handle,))

    def account(self, kernel: "Kernel", user: "Environment | None") -> None:
        """Show the frames as those of *user* from now on."""
        for environment, sign in ((self._user, -1), (user, 1)):
            if environment is not None:
                environment.frames += sign * self.count
                environment.budget.hold(Item.DESCRIPTORS, sign)
                kernel.kip.show(environment)
        self._user = user
        kernel.kip.show_frames(self.first, self.count, user)


class Frames:
    """All frames of the machine."""

    def __init__(self, kernel: "Kernel") -> None:
        """Start with every frame of the machine free."""
        self._kernel = kernel
        self.total = kernel.machine.memory.frames
        self._runs = FreeRuns(self.total)

    @property
    def free(self) -> int:
        """How many frames are in no extent."""
        return self._runs.free

    def carve(self, ram: Ram, count: int, first: int, *, zero: bool) -> Extent:
        """Make an extent of free frames of *ram*. Raises Refused."""
        if count < 1:
            raise Refused(Refusal.BAD_ARGUMENT, f"{count} frames")
        at = self._choose(ram, count, first)
        backing = self._kernel.machine.memory.carve(at, count, zero=zero)
        self._runs.take(at, count)
        self._kernel.kip.show_free(self.free)
        return Extent(at, count, backing)

    def _choose(self, ram: Ram, count: int, first: int) -> int:
        if first != ANY_FRAME:
            ram.part(first, count)
            if not self._runs.covers(first, count):
                raise Refused(Refusal.FRAME_BUSY, f"{first}+{count}")
            return first
        found = self._runs.find(count, ram.first, ram.first + ram.count)
        if found is None:
            raise Refused(Refusal.NO_FRAMES, f"{count} frames asked for, {self.free} free in all RAM")
        return found

    def give_back(self, extent: Extent) -> None:
        """Make the frames of *extent* free again."""
        self._runs.give(extent.first, extent.count)
        self._kernel.kip.show_free(self.free)
        self._kernel.trace.record(Event.TOOK, 0, extent.first, Kind.EXTENT)


def check_no_ring(thing: Thing) -> None:
    """Refuse when *thing* is memory of a ring, which is passed on to nobody."""
    if isinstance(thing, Extent):
        thing.check_no_ring()


def part_of(thing: Thing, first: int, count: int) -> Ram:
    """Return a part of *thing*, which must be RAM to have parts. Raises Refused."""
    if not isinstance(thing, Ram):
        raise Refused(Refusal.NOT_WHOLE, f"{thing!r} has no parts")
    return thing.part(first, count)


def passed_on(kernel: "Kernel", given: "Capability") -> None:
    """Account an extent to whom its carver gave it, or who got it whole; sharing it on changes nothing."""
    extent, parent = given.thing, given.parent
    if not isinstance(extent, Extent) or parent is None:
        return
    whole = isinstance(parent.thing, Ram)
    from_carver = not whole and parent.origin == 0 and isinstance(getattr(parent.parent, "thing", None), Ram)
    if whole or from_carver:
        extent.account(kernel, given.holder)
