"""Capabilities: rights to resources, in tables and trees.

Every capability sits in one slot of one environment's table and has at most one parent: the capability it was
derived from. Taking one away takes everything derived from it. The trees span environments, and callers decide how
large they get, so taking is a job (`kernel.jobs`). It begins by cutting off what is to go. From then on that is
*condemned*, and useless, though it leaves the tables one by one, and its memory is taken last.

An *offer* sits in its maker's table, like a capability derived from the one it is of, and goes with it. One
environment may take it (`kernel.offers`). It is a right to nothing: the resource does not know of it.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.ids import Handle, ThreadId, handle, handle_generation, handle_slot
from kernel.abi.limits import MAX_DEPTH, MAX_HANDLES, MAX_SLOTS, NO_LIMIT
from kernel.abi.rights import ALL_RIGHTS, Kind, Rights
from kernel.errors import Refused
from kernel.jobs import Latch
from kernel.kip import Shown
from kernel.upcalls import Told

if TYPE_CHECKING:
    from hwmodel.machine import Alarm
    from kernel.exposure import Exposure
    from kernel.jobs import Steps

_SPARE_SLOTS = 64
"""Free slots kept back before one is used again, so that a stale handle stays stale for long."""


class Resource:
    """What a capability is to. By default it does not care who holds it."""

    kind: Kind

    def describe(self) -> tuple[int, int, int, int, str]:
        """Return first, count, status, fault, text of `traps.Inspection`."""
        return 0, 0, 0, 0, ""

    def check_no_ring(self) -> None:
        """Refuse memory of a ring, which cannot be passed on."""

    def gained(self, capability: "Capability") -> None:
        """Note *capability*, a new one to this resource."""

    def moved(self, capability: "Capability", giver: "Table") -> None:
        """Note that *capability* has moved here from the table of *giver*."""

    def inherited(self, heir: "Holder") -> None:
        """Note that *heir* now holds what its predecessor held of it."""

    def lost(self, capability: "Capability") -> "Steps[None] | None":
        """Note that *capability* to it is gone; return the steps that this calls for."""
        return None


class Holder(Shown, Told, Protocol):
    """A holder of capabilities: an environment."""

    name: str
    table: "Table"
    frames: int
    owes: "Owed"
    offered: "dict[Capability, None]"
    keeps: bool

    @property
    def thread(self) -> ThreadId:
        """Its id to others."""

    def repossess(self, capability: "Capability") -> None:
        """Write what was taken by force into the environment page."""


class Offer(NamedTuple):
    """The terms that make a capability an offer."""

    receiver: Holder
    payer: Holder
    """The environment whose budget it counts against."""
    until: int
    """When it falls, by the machine's clock."""
    grant: bool
    """Accepting moves the offered capability; otherwise it derives one from it."""


class Capability:
    """A right to one resource, in one slot of one table; or an offer of one."""

    __slots__ = (
        "carved", "children", "deadline", "depth", "handle", "leaked", "limit", "mapped", "offer", "origin",
        "parent", "resource", "rights", "span", "table", "taken", "walk",
    )  # fmt: skip

    def __init__(
        self,
        resource: Resource,
        rights: Rights,
        parent: "Capability | None",
        origin: int = 0,
        offer: Offer | None = None,
    ) -> None:
        """Make a capability that is in no table yet."""
        self.resource = resource
        self.rights = rights
        self.parent = parent
        self.origin = origin
        self.offer = offer
        self.depth: int = parent.depth + 1 if parent is not None else 0
        self.span: range | None = parent.span if parent is not None else None
        """Of an extent: the pages it is to; None: all."""
        self.children: dict[Capability, None] = {}
        self.table: Table
        self.handle: Handle
        self.limit = NO_LIMIT
        self.carved = 0
        """Of RAM: how many frames may be, and are, carved through its derivatives."""
        self.mapped = False
        """Its holder has, or had, a descriptor of the memory."""
        self.leaked = False
        """A holder gave up a derivative of it, and may still have the memory mapped."""
        self.taken = False
        """It is in no table any more."""
        self.walk: Latch | None = None
        """Opens when everything that is being taken from below it is gone."""
        self.deadline: Alarm | None = None
        """The alarm at which everything below it is taken by force."""

    def __repr__(self) -> str:
        """Show its resource, rights and holder."""
        what = "Capability" if self.offer is None else "Offer"
        return f"<{what} {self.resource!r} {self.rights!r} of {self.holder!r}>"

    @property
    def holder(self) -> Holder:
        """Its holder, or last holder."""
        return self.table.holder

    @property
    def terms(self) -> Offer:
        """The terms of an offer."""
        assert self.offer is not None
        return self.offer

    @property
    def condemned(self) -> bool:
        """Whether it, or one it was derived from, is being taken away."""
        at = self
        while (above := at.parent) is not None:
            if at.taken or at not in above.children:
                return True
            at = above
        return at.taken

    def offers(self) -> "list[Capability]":
        """Return the standing offers of it: they are in its own table."""
        return [offer for made in self.table.offers.values() for offer in made if offer.parent is self]

    def lead_to(self, resource: Resource) -> None:
        """Make *resource*, which took the place of the old one, what it and its offers are to."""
        for capability in (self, *self.offers()):
            capability.resource = resource


class Owed:
    """The offers that count against one budget, in whichever table they are."""

    def __init__(self) -> None:
        """Start with none."""
        self._all: dict[Capability, None] = {}
        self._pairs: dict[tuple[Table, Holder], dict[Capability, None]] = {}
        """The offers between the same two environments."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._all)

    def add(self, offer: Capability) -> None:
        """Count *offer*, which is the newest."""
        self._all[offer] = self._pairs.setdefault(_between(offer), {})[offer] = None

    def remove(self, offer: Capability) -> None:
        """Count *offer* no more."""
        del self._all[offer]
        made = self._pairs[_between(offer)]
        del made[offer]
        if not made:
            del self._pairs[_between(offer)]

    def oldest(self, count: int) -> list[Capability]:
        """Return the oldest, *count* at most."""
        return list(islice(self._all, count))

    def of_who_has_most(self) -> Capability:
        """Return the oldest offer of the pair that has most: no other pair ever loses one to it."""
        most = max(self._pairs.values(), key=len)
        return next(iter(most))


def _between(offer: Capability) -> "tuple[Table, Holder]":
    return offer.table, offer.terms.receiver


class Table:
    """The capabilities of one environment, by slot; slot 0 stays empty."""

    def __init__(self, holder: Holder) -> None:
        """Make an empty table."""
        self.holder = holder
        """Its environment; a successor takes the table over."""
        self._slots: list[Capability | None] = [None]
        self._generations = [0]
        self._free: deque[int] = deque()
        self.used = 0
        self.offered = 0
        """How many of them are offers."""
        self.offers: dict[Holder, dict[Capability, None]] = {}
        """The offers in this table, by receiver, oldest first."""

    def __iter__(self) -> Iterator[Capability]:
        """Yield the capabilities in slot order."""
        return (capability for capability in self._slots if capability is not None)

    def lookup(self, name: int) -> Capability:
        """Return the capability that handle *name* stands for. Raises Refused, for an offer too."""
        capability = self.find(name)
        if capability.offer is not None:
            raise Refused(Refusal.WRONG_KIND, f"handle {name:#x} is an offer: it can be inspected or dropped")
        return capability

    def find(self, name: int) -> Capability:
        """Return the capability or offer that handle *name* stands for. Raises Refused."""
        slot = handle_slot(name)
        if not 0 < slot < len(self._slots):
            raise Refused(Refusal.BAD_HANDLE, f"handle {name:#x}")
        capability = self._slots[slot]
        if capability is None or self._generations[slot] != handle_generation(name) or capability.condemned:
            raise Refused(Refusal.STALE_HANDLE, f"handle {name:#x}")
        return capability

    def check_room(self, holder: Holder) -> None:
        """Refuse unless there is room for one more capability and *holder* still lives."""
        if self.used - self.offered >= MAX_HANDLES:
            raise Refused(Refusal.TABLE_FULL, f"{holder.name} holds {self.used - self.offered} capabilities")
        if not holder.alive and not holder.keeps:
            raise Refused(Refusal.TABLE_FULL, f"{holder.name} has ended")
        holder.budget.check(Item.HANDLES)

    def insert(self, capability: Capability, holder: Holder) -> Handle:
        """Put *capability* into a free slot and return its handle. Raises Refused when there is none."""
        if capability.offer is None:
            self.check_room(holder)
        if len(self._free) > _SPARE_SLOTS or len(self._slots) > MAX_SLOTS:
            if not self._free:
                raise Refused(Refusal.TABLE_FULL, f"{holder.name} has no slot left")
            slot = self._free.popleft()
        else:
            slot = len(self._slots)
            self._slots.append(None)
            self._generations.append(0)
        self._slots[slot] = capability
        self.used += 1
        capability.table, capability.taken = self, False
        capability.handle = handle(slot, self._generations[slot])
        if capability.offer is None:
            holder.budget.hold(Item.HANDLES)
        else:
            self.offered += 1
            capability.offer.payer.budget.hold(Item.OFFERS)
            capability.offer.payer.owes.add(capability)
            self.offers.setdefault(capability.offer.receiver, {})[capability] = None
            capability.offer.receiver.offered[capability] = None
        return capability.handle

    def remove(self, capability: Capability) -> None:
        """Empty the slot of *capability*; its handle is stale from now on."""
        slot = handle_slot(capability.handle)
        self._slots[slot] = None
        self._generations[slot] = (self._generations[slot] + 1) & 0xFFFF
        self._free.append(slot)
        self.used -= 1
        capability.taken = True
        if capability.deadline is not None:
            capability.deadline.cancel()
            capability.deadline = None
            capability.holder.budget.release(Item.ALARMS)
        if capability.offer is None:
            capability.holder.budget.release(Item.HANDLES)
        else:
            self.offered -= 1
            capability.offer.payer.budget.release(Item.OFFERS)
            capability.offer.payer.owes.remove(capability)
            capability.offer.receiver.offered.pop(capability, None)
            made = self.offers[capability.offer.receiver]
            del made[capability]
            if not made:
                del self.offers[capability.offer.receiver]


def give(exposure: "Exposure", holder: Holder, resource: Resource, rights: Rights = ALL_RIGHTS) -> Capability:
    """Give *holder* a first capability to *resource*."""
    return place(exposure, Capability(resource, rights, None), holder)


def derive(
    exposure: "Exposure",
    parent: Capability,
    holder: Holder,
    rights: Rights,
    resource: Resource | None = None,
) -> Capability:
    """Give *holder* a capability derived from *parent*, to the same resource or to *resource*, a part of it.

    Raises Refused, also when *parent*, or its holder, went since it was looked up.
    """
    if parent.condemned:
        raise Refused(Refusal.STALE_HANDLE, "the capability to derive from is being taken away")
    origin = parent.holder.thread if parent.holder is not holder else 0
    return place(exposure, Capability(resource or parent.resource, rights, parent, origin), holder)


def place(exposure: "Exposure", capability: Capability, holder: Holder) -> Capability:
    """Put *capability* into the table of *holder* and under its parent. Raises Refused when there is no room."""
    parent = capability.parent
    if capability.depth > MAX_DEPTH:
        raise Refused(Refusal.TOO_DEEP, f"{MAX_DEPTH} derivations deep already")
    holder.table.insert(capability, holder)
    if parent is not None:
        parent.children[capability] = None
    if capability.offer is None:
        capability.resource.gained(capability)
    exposure.kip.show(holder)
    return capability
