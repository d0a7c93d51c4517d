"""Capabilities: who may do what to which thing.

Every capability sits in one slot of one environment's table and has at most one parent: the capability it was
derived from. Taking one away takes everything derived from it. The trees span environments; walks over them
are loops, not recursion, because a caller decides how deep they get.

An *offer* sits in the table of who made it like a capability derived from the one it is of, and goes with it. It
is to be taken by one environment (`kernel.offers`), and is a right to nothing: the thing does not know of it.
"""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.ids import ANY_FRAME, Handle, handle, handle_generation, handle_slot
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_HANDLES, MAX_SLOTS
from kernel.abi.messages import Label
from kernel.abi.rights import ALL_RIGHTS, Rights
from kernel.dispatch import Call, handles
from kernel.errors import Refused
from kernel.frames import Extent, check_no_ring, part_of
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
        "children",
        "deadline",
        "handle",
        "holder",
        "mapped",
        "offer",
        "origin",
        "parent",
        "rights",
        "thing",
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
        self.children: dict[Capability, None] = {}
        self.holder: Environment
        self.handle: Handle
        self.mapped = False
        """Its holder has, or had, a descriptor of the memory."""
        self.deadline: Alarm | None = None
        """When what was derived from it is taken by force: the last one set."""

    def __repr__(self) -> str:
        """Show what it is to, its rights and its holder."""
        what = "Capability" if self.offer is None else "Offer"
        return f"<{what} {self.thing!r} {self.rights!r} of {self.holder!r}>"

    def descendants(self) -> "Iterator[Capability]":
        """Yield everything derived from it, children after their parents."""
        waiting = deque(self.children)
        while waiting:
            capability = waiting.popleft()
            waiting.extend(capability.children)
            yield capability

    def offers(self) -> "list[Capability]":
        """Return the offers of it that stand."""
        return [child for child in self.children if child.offer is not None]

    def lead_to(self, thing: Thing) -> None:
        """Make it, and the offers of it, those to *thing*, which took the place of what they were to."""
        for capability in (self, *self.offers()):
            capability.thing = thing


class Table:
    """The capabilities of one environment, by slot; slot 0 stays empty."""

    def __init__(self) -> None:
        """Make an empty table."""
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
        if capability is None or self._generations[slot] != handle_generation(name):
            raise Refused(Refusal.STALE_HANDLE, f"handle {name:#x}")
        return capability

    def check_room(self, holder: "Environment") -> None:
        """Refuse unless there may be one more capability."""
        if self.used - self.offered >= MAX_HANDLES:
            raise Refused(Refusal.TABLE_FULL, f"{holder.name} holds {self.used - self.offered} capabilities")
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
        capability.holder = holder
        capability.handle = handle(slot, self._generations[slot])
        if capability.offer is None:
            holder.budget.hold(Item.HANDLES)
        else:
            self.offered += 1
            capability.offer.payer.budget.hold(Item.OFFERS)
            capability.offer.payer.owes[capability] = None
            self.offers.setdefault(capability.offer.receiver, {})[capability] = None
        return capability.handle

    def __contains__(self, capability: Capability) -> bool:
        """Say whether *capability* sits in this table."""
        slot = handle_slot(capability.handle)
        return slot < len(self._slots) and self._slots[slot] is capability

    def remove(self, capability: Capability) -> None:
        """Empty the slot of *capability*; its handle is stale from now on."""
        slot = handle_slot(capability.handle)
        self._slots[slot] = None
        self._generations[slot] = (self._generations[slot] + 1) & 0xFFFF
        self._free.append(slot)
        self.used -= 1
        if capability.deadline is not None:
            capability.deadline.cancel()
            capability.deadline = None
            capability.holder.budget.release(Item.ALARMS)
        if capability.offer is None:
            capability.holder.budget.release(Item.HANDLES)
        else:
            self.offered -= 1
            capability.offer.payer.budget.release(Item.OFFERS)
            del capability.offer.payer.owes[capability]
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
    """Give *holder* a capability derived from *parent*, to the same thing or to *thing*, a part of it."""
    origin = parent.holder.thread if parent.holder is not holder else 0
    return place(kernel, Capability(thing or parent.thing, rights, parent, origin), holder)


def place(kernel: "Kernel", capability: Capability, holder: "Environment") -> Capability:
    """Put *capability* into the table of *holder* and under its parent. Raises Refused when there is no room."""
    holder.table.insert(capability, holder)
    if capability.parent is not None:
        capability.parent.children[capability] = None
    if capability.offer is None:
        capability.thing.gained(capability)
    kernel.kip.show(holder)
    return capability


def take(
    kernel: "Kernel", capability: Capability, *, itself: bool, by: "Environment | None"
) -> list[Capability]:
    """Take away everything derived from *capability*, and *itself* if so asked; return what was taken.

    Losers other than *by* are told. A thing loses its capabilities one by one and cleans up at the last.
    """
    taken = list(capability.descendants())
    if itself:
        taken.insert(0, capability)
    if itself and capability.parent is not None:
        del capability.parent.children[capability]
    if not itself:
        capability.children.clear()
    for lost in reversed(taken):
        if lost not in lost.holder.table:
            continue  # went with a dead environment whose last watcher was taken above
        lost.holder.table.remove(lost)
        if lost.holder is not by:
            lost.holder.repossess(lost)
            kernel.tell(lost.holder, Label.REVOKED, (lost.handle,))
        kernel.kip.show(lost.holder)
        if lost.offer is None:
            lost.thing.lost(kernel, lost)
    return taken


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


@handles(traps.Revoke)
def _revoke(kernel: "Kernel", call: Call[traps.Revoke]) -> int:
    capability, microseconds = call.capability, call.trap.microseconds
    if not microseconds:
        return _revoke_now(kernel, capability, call)
    if capability.deadline is None:
        call.caller.budget.charge(Item.ALARMS)
    else:
        capability.deadline.cancel()
    clock = kernel.machine.clock
    deadline = clock.now() + microseconds * 1000
    capability.deadline = clock.alarm(deadline, lambda: _revoke_at_deadline(kernel, capability))
    asked = list(capability.descendants())
    for wanted in asked:
        if wanted.holder is not call.caller:
            kernel.tell(wanted.holder, Label.REVOKE, (wanted.handle, microseconds))
    return len(asked)


def _revoke_at_deadline(kernel: "Kernel", capability: Capability) -> None:
    """The deadline passed: take what is left."""
    capability.holder.budget.release(Item.ALARMS)
    capability.deadline = None
    _revoke_now(kernel, capability, None)


def _revoke_now(kernel: "Kernel", capability: Capability, call: "Call[traps.Revoke] | None") -> int:
    taken = take(kernel, capability, itself=False, by=capability.holder)
    kernel.count(Counter.REVOCATIONS)
    extent = capability.thing
    moved = settle(kernel, taken, keeper=capability if call is not None else None)
    if isinstance(extent, Extent) and extent.leaked and not moved:
        extent.move(kernel, keeper=capability if call is not None else None)
        moved = True
    if call is not None and moved and capability.mapped and isinstance(extent, Extent):
        call.gives.append(extent.descriptor(capability))
    return len(taken)


def settle(kernel: "Kernel", taken: list[Capability], *, keeper: Capability | None) -> bool:
    """Give each extent that a loser of *taken* had mapped new backing; say whether any had to be.

    A mapping cannot be taken from one holder only. Those who still hold the extent are told to map it again;
    *keeper* is not told, because its reply carries the new descriptor.
    """
    extents = {lost.thing: None for lost in taken if lost.mapped and isinstance(lost.thing, Extent)}
    for extent in extents:
        if extent.held():
            extent.move(kernel, keeper)
    return bool(extents)


@handles(traps.Drop)
def _drop(kernel: "Kernel", call: Call[traps.Drop]) -> None:
    dropped = call.capability
    taken = take(kernel, dropped, itself=True, by=call.caller)
    settle(kernel, taken[1:], keeper=None)
    if dropped.mapped and isinstance(dropped.thing, Extent):
        dropped.thing.leaked = True


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
        holders=tuple(
            traps.Holder(c.holder.thread, c.rights) for c in capability.children if c.offer is None
        ),
    )


@handles(traps.Inventory)
def _inventory(_kernel: "Kernel", call: Call[traps.Inventory]) -> tuple[int, ...]:
    return tuple(capability.handle for capability in call.caller.table)
