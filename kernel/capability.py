"""Capabilities: who may do what to which thing.

Every capability sits in one slot of one environment's table and has at most one parent: the capability it was
derived from. Taking one away takes everything derived from it. The trees span environments, and callers decide how
large they get, so taking is a job (`kernel.jobs`). It begins by cutting off what is to go: that is *condemned*, and
good for nothing from then on, though it leaves the tables one by one, and its memory is taken last.

An *offer* sits in the table of who made it like a capability derived from the one it is of, and goes with it. It
is to be taken by one environment (`kernel.offers`), and is a right to nothing: the thing does not know of it.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.ids import ANY_FRAME, Handle, handle, handle_generation, handle_slot
from kernel.abi.limits import MAX_DEPTH, MAX_HANDLES, MAX_HOLDERS_SHOWN, MAX_SLOTS, NO_LIMIT
from kernel.abi.rights import ALL_RIGHTS, Rights
from kernel.dispatch import Call, handles
from kernel.errors import Refused
from kernel.frames import check_no_ring, part_of
from kernel.jobs import Latch
from kernel.thing import Thing

if TYPE_CHECKING:
    from hwmodel.machine import Alarm
    from kernel.environment import Environment
    from kernel.kernel import Kernel

_SPARE_SLOTS = 64
"""Free slots kept back before one is used again, so that a stale handle stays stale for long."""


class Offer(NamedTuple):
    """What makes a capability an offer: who may take it, and how."""

    receiver: "Environment"
    payer: "Environment"
    """Whose budget it counts against."""
    until: int
    """When it falls, by the machine's clock."""
    grant: bool
    """The capability it is of moves to the receiver; otherwise the receiver gets one derived from that."""


class Capability:
    """A right to one thing, in one slot of one table; or an offer of one."""

    __slots__ = (
        "carved",
        "children",
        "deadline",
        "depth",
        "handle",
        "leaked",
        "limit",
        "mapped",
        "offer",
        "origin",
        "parent",
        "rights",
        "table",
        "taken",
        "thing",
        "walk",
    )

    def __init__(
        self,
        thing: Thing,
        rights: Rights,
        parent: "Capability | None",
        origin: int = 0,
        offer: Offer | None = None,
    ) -> None:
        """Make a capability that sits nowhere yet."""
        self.thing = thing
        self.rights = rights
        self.parent = parent
        self.origin = origin
        self.offer = offer
        self.depth: int = parent.depth + 1 if parent is not None else 0
        self.children: dict[Capability, None] = {}
        self.table: Table
        self.handle: Handle
        self.limit = NO_LIMIT
        self.carved = 0
        """Of RAM: how many frames may be, and are, carved through what was derived from it."""
        self.mapped = False
        """Its holder has, or had, a descriptor of the memory."""
        self.leaked = False
        """Somebody gave up by itself what was derived from it, and may still have the memory mapped."""
        self.taken = False
        """It sits in no table any more."""
        self.walk: Latch | None = None
        """Opens when all that is being taken from below it is gone."""
        self.deadline: Alarm | None = None
        """When what is below it is taken by force."""

    def __repr__(self) -> str:
        """Show what it is to, its rights and its holder."""
        what = "Capability" if self.offer is None else "Offer"
        return f"<{what} {self.thing!r} {self.rights!r} of {self.holder!r}>"

    @property
    def holder(self) -> "Environment":
        """Who has it, or had."""
        return self.table.holder

    @property
    def condemned(self) -> bool:
        """Whether it is being taken away, or something it was derived from is."""
        at = self
        while (above := at.parent) is not None:
            if at.taken or at not in above.children:
                return True
            at = above
        return at.taken

    def offers(self) -> "list[Capability]":
        """Return the offers of it that stand: they sit in its own table."""
        return [offer for made in self.table.offers.values() for offer in made if offer.parent is self]

    def lead_to(self, thing: Thing) -> None:
        """Make it, and the offers of it, those to *thing*, which took the place of what they were to."""
        for capability in (self, *self.offers()):
            capability.thing = thing


class Owed:
    """The offers that count against one budget, in whosever table."""

    def __init__(self) -> None:
        """Start with none."""
        self._all: dict[Capability, None] = {}
        self._pairs: dict[tuple[Table, Environment], dict[Capability, None]] = {}
        """Those between the same two."""

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
        """Return the oldest between the two who have most: others' never fall for them."""
        most = max(self._pairs.values(), key=len)
        return next(iter(most))


def _between(offer: Capability) -> "tuple[Table, Environment]":
    assert offer.offer is not None
    return offer.table, offer.offer.receiver


class Table:
    """The capabilities of one environment, by slot; slot 0 stays empty."""

    def __init__(self, holder: "Environment") -> None:
        """Make an empty table."""
        self.holder = holder
        """Whose it is; a successor takes it over."""
        self._slots: list[Capability | None] = [None]
        self._generations = [0]
        self._free: deque[int] = deque()
        self.used = 0
        self.offered = 0
        """How many of them are offers."""
        self.offers: dict[Environment, dict[Capability, None]] = {}
        """Those that sit here, by receiver, oldest first."""

    def __iter__(self) -> Iterator[Capability]:
        """Yield the capabilities in slot order."""
        return (capability for capability in self._slots if capability is not None)

    def lookup(self, name: int) -> Capability:
        """Return the capability that handle *name* stands for. Raises Refused, also when it is an offer."""
        capability = self.find(name)
        if capability.offer is not None:
            raise Refused(Refusal.WRONG_KIND, f"handle {name:#x} is an offer: it can be inspected or dropped")
        return capability

    def find(self, name: int) -> Capability:
        """Return what handle *name* stands for, be it an offer. Raises Refused."""
        slot = handle_slot(name)
        if not 0 < slot < len(self._slots):
            raise Refused(Refusal.BAD_HANDLE, f"handle {name:#x}")
        capability = self._slots[slot]
        if capability is None or self._generations[slot] != handle_generation(name) or capability.condemned:
            raise Refused(Refusal.STALE_HANDLE, f"handle {name:#x}")
        return capability

    def check_room(self, holder: "Environment") -> None:
        """Refuse unless there may be one more capability, and there is somebody to use it."""
        if self.used - self.offered >= MAX_HANDLES:
            raise Refused(Refusal.TABLE_FULL, f"{holder.name} holds {self.used - self.offered} capabilities")
        if not holder.alive and not holder.keeps:
            raise Refused(Refusal.TABLE_FULL, f"{holder.name} has ended")
        holder.budget.check(Item.HANDLES)

    def insert(self, capability: Capability, holder: "Environment") -> Handle:
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


def give(kernel: "Kernel", holder: "Environment", thing: Thing, rights: Rights = ALL_RIGHTS) -> Capability:
    """Give *holder* a first capability to *thing*."""
    return place(kernel, Capability(thing, rights, None), holder)


def derive(
    kernel: "Kernel", parent: Capability, holder: "Environment", rights: Rights, thing: Thing | None = None
) -> Capability:
    """Give *holder* a capability derived from *parent*, to the same thing or to *thing*, a part of it.

    Raises Refused, also when *parent* went, and perhaps its holder, since it was looked up.
    """
    if parent.condemned:
        raise Refused(Refusal.STALE_HANDLE, "what it would be derived from is being taken away")
    origin = parent.holder.thread if parent.holder is not holder else 0
    return place(kernel, Capability(thing or parent.thing, rights, parent, origin), holder)


def place(kernel: "Kernel", capability: Capability, holder: "Environment") -> Capability:
    """Put *capability* into the table of *holder* and under its parent. Raises Refused when there is no room."""
    parent = capability.parent
    if capability.depth > MAX_DEPTH:
        raise Refused(Refusal.TOO_DEEP, f"{MAX_DEPTH} derivations, one from another")
    holder.table.insert(capability, holder)
    if parent is not None:
        parent.children[capability] = None
    if capability.offer is None:
        capability.thing.gained(capability)
    kernel.kip.show(holder)
    return capability


def require(call: Call[Any], right: Rights) -> None:
    """Refuse the call unless its capability carries *right*."""
    if right & ~call.capability.rights:
        raise Refused(Refusal.MISSING_RIGHT, f"needs {right!r}, has {call.capability.rights!r}")


def narrowed(call: Call[Any], bits: int) -> Rights:
    """Return *bits* as rights of a derivative. Raises Refused if they are not among those of the capability."""
    if bits > ALL_RIGHTS:
        raise Refused(Refusal.BAD_ARGUMENT, f"rights {bits:#x} are none")
    rights = Rights(bits)
    require(call, rights)
    return rights


@handles(traps.Derive)
def _derive(kernel: "Kernel", call: Call[traps.Derive]) -> int:
    trap, parent = call.trap, call.capability
    rights = narrowed(call, trap.rights)
    check_no_ring(parent.thing)
    part = part_of(parent.thing, trap.first, trap.count) if _narrows(trap) else None
    return derive(kernel, parent, call.caller, rights, part).handle


def _narrows(trap: traps.Derive) -> bool:
    return trap.first != ANY_FRAME or trap.count != 0


@handles(traps.Inspect)
def _inspect(_kernel: "Kernel", call: Call[traps.Inspect]) -> traps.Inspection:
    capability = call.capability
    first, count, status, fault, text = capability.thing.describe()
    return traps.Inspection(
        kind=capability.thing.kind,
        rights=capability.rights,
        origin=capability.origin,
        first=first,
        count=count,
        status=status,
        fault=fault,
        text=text,
        holders=tuple(islice(_holders(capability), MAX_HOLDERS_SHOWN)),
    )


def _holders(capability: Capability) -> Iterator[traps.Holder]:
    shown = (child for child in capability.children if child.offer is None and not child.taken)
    return (traps.Holder(child.holder.thread, child.rights) for child in shown)


@handles(traps.Inventory)
def _inventory(_kernel: "Kernel", call: Call[traps.Inventory]) -> tuple[int, ...]:
    return tuple(capability.handle for capability in call.caller.table)
