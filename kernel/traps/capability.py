"""The traps on capabilities: pass on, take back, look at."""

from itertools import islice
from typing import TYPE_CHECKING, Any

from hwmodel.machine import Exhausted
from kernel.abi import traps
from kernel.abi.budget import OFFER_LIFE_NS, Item
from kernel.abi.errors import Refusal
from kernel.abi.ids import ANY_FRAME, show_thread
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_HOLDERS_SHOWN
from kernel.abi.messages import Label
from kernel.abi.rights import ALL_RIGHTS, Rights
from kernel.capability import Capability, Offer, Resource, derive, place
from kernel.dispatch import Call, CallTo, Handlers
from kernel.errors import Refused
from kernel.frames import Extent, Ram
from kernel.offers import make_room, offered, take_over, withdraw
from kernel.parts import derive_part
from kernel.processor import Processor
from kernel.reservation import Reservation
from kernel.taking import Taking
from kernel.x2.narrowing import narrow

if TYPE_CHECKING:
    from kernel.jobs import Steps
    from kernel.kernel import Kernel


def _derive(kernel: "Kernel", call: CallTo[traps.Derive, Resource]) -> "int | Steps[int]":
    trap, parent = call.trap, call.capability
    rights = _narrowed(call, trap.rights)
    parent.resource.check_no_ring()
    part: Resource | None = None
    if trap.first != ANY_FRAME or trap.count:
        whole = parent.resource
        if isinstance(whole, Processor | Reservation):
            if not parent.rights & Rights.CONTROL:
                raise Refused(Refusal.MISSING_RIGHT, f"needs {Rights.CONTROL!r}, has {parent.rights!r}")
            whole = whole.reserved.whole if isinstance(whole, Processor) else whole
            part = whole.part(trap.first, trap.count)
        elif isinstance(whole, Ram):
            part = whole.part(trap.first, trap.count)
        else:
            return derive_part(kernel.exposure, parent, call.caller, rights, trap.first, trap.count)
    return derive(kernel.exposure, parent, call.caller, rights, part).handle


def _narrowed(call: CallTo[Any, Resource], bits: int) -> Rights:
    """Return *bits* as rights of a derivative. Raises Refused if they are not among those of the capability."""
    if bits > ALL_RIGHTS:
        raise Refused(Refusal.BAD_ARGUMENT, f"rights {bits:#x} do not exist")
    rights = Rights(bits)
    if rights & ~call.capability.rights:
        raise Refused(Refusal.MISSING_RIGHT, f"needs {rights!r}, has {call.capability.rights!r}")
    return rights


def _transfer(kernel: "Kernel", call: CallTo[traps.Transfer, Resource]) -> int:
    trap, capability, caller = call.trap, call.capability, call.caller
    rights = _narrowed(call, trap.rights)
    if not rights:
        raise Refused(Refusal.BAD_ARGUMENT, "an offer needs at least one right")
    capability.resource.check_no_ring()
    receiver = kernel.threads.living(trap.to)
    if not receiver.calls(caller):
        caller.check_may_bind(receiver)
    payer = receiver if receiver.calls(caller) else caller
    now = kernel.machine.clock.now()
    make_room(kernel.exposure, now, caller.table.offers.get(receiver, {}), payer)
    terms = Offer(receiver, payer, now + OFFER_LIFE_NS, trap.grant)
    offer = Capability(capability.resource, rights, capability, offer=terms)
    return place(kernel.exposure, offer, caller).handle


def _revoke(kernel: "Kernel", call: CallTo[traps.Revoke, Resource]) -> "Steps[int]":
    if call.trap.rights and isinstance(call.resource, Extent):
        return (yield from narrow(call.resource, call.capability, Rights(call.trap.rights & ALL_RIGHTS)))
    if call.trap.first != ANY_FRAME:
        return (yield from _take_extent(kernel, call))
    if call.trap.microseconds:
        return (yield from _ask(kernel, call))
    capability = call.capability
    taking = Taking(kernel.exposure, capability, call.caller, keeper=capability)
    yield from taking.steps(itself=False)
    kernel.exposure.count(Counter.REVOCATIONS)
    extent = capability.resource
    if taking.moved and capability.mapped and not capability.taken and isinstance(extent, Extent):
        call.undo = lambda: _tell_moved(kernel, capability)
        try:
            call.gives.append(extent.descriptor(capability))
        except Exhausted:
            call.undo()
    return taking.count


def _take_extent(kernel: "Kernel", call: CallTo[traps.Revoke, Resource]) -> "Steps[int]":
    """Take an extent carved below, by its first frame, or ask its user for frames; return how many it has."""
    trap, extent = call.trap, kernel.frames.extents.get(call.trap.first)
    root = above = extent.root if extent is not None else None
    while above is not None and above is not call.capability:
        above = above.parent
    if extent is None or root is None or above is None:
        return 0
    if trap.frames:
        kernel.exposure.tell(extent.user or root.holder, Label.REVOKE, (0, trap.microseconds, trap.frames))
        return extent.count
    yield from Taking(kernel.exposure, root, call.caller).steps(itself=True, forced=True)
    kernel.exposure.count(Counter.REVOCATIONS)
    return extent.count


def _tell_moved(kernel: "Kernel", capability: Capability) -> bool:
    """Tell the holder to map the new memory, whose descriptor could not be sent; the revocation stands."""
    capability.mapped = False
    kernel.exposure.tell(capability.holder, Label.MOVED, (capability.handle,))
    return True


def _ask(kernel: "Kernel", call: CallTo[traps.Revoke, Resource]) -> "Steps[int]":
    """Ask the holders, and take by force at the deadline. A capability has one deadline: the last one set."""
    capability, microseconds = call.capability, call.trap.microseconds
    if capability.deadline is None:
        call.caller.budget.charge(Item.ALARMS)
    else:
        capability.deadline.cancel()
    clock = kernel.machine.clock
    capability.deadline = clock.alarm(
        clock.now() + microseconds * 1000, lambda: _take_at_deadline(kernel, capability)
    )
    asked, waiting = 0, [capability]
    while waiting:
        for wanted in list(waiting.pop().children):
            if wanted.taken:
                continue
            asked += 1
            if wanted.holder is not call.caller:
                kernel.exposure.tell(wanted.holder, Label.REVOKE, (wanted.handle, microseconds, 0))
            waiting.append(wanted)
            yield None
    return asked


def _take_at_deadline(kernel: "Kernel", capability: Capability) -> None:
    """Take what is left."""
    capability.holder.budget.release(Item.ALARMS)
    capability.deadline = None
    kernel.exposure.count(Counter.REVOCATIONS)
    kernel.jobs.add(Taking(kernel.exposure, capability, capability.holder).steps(itself=False, forced=True))


def _drop(kernel: "Kernel", call: CallTo[traps.Drop, Resource]) -> "Steps[None]":
    yield from Taking(kernel.exposure, call.capability, call.caller).steps(itself=True)


def _inspect(_kernel: "Kernel", call: CallTo[traps.Inspect, Resource]) -> traps.Inspection:
    capability = call.capability
    told = capability.resource.kind, capability.rights, capability.origin, *capability.resource.describe()
    shown = islice((c for c in capability.children if c.offer is None and not c.taken), MAX_HOLDERS_SHOWN)
    found = traps.Inspection(*told, holders=tuple(traps.Holder(c.holder.thread, c.rights) for c in shown))
    if span := capability.span:
        found.first, found.count = found.first + span.start, len(span)
    return found


def _inventory(_kernel: "Kernel", call: Call[traps.Inventory]) -> tuple[int, ...]:
    return tuple(capability.handle for capability in call.caller.table)


def _accept(kernel: "Kernel", call: Call[traps.Accept]) -> "traps.Accepted | Steps[traps.Accepted]":
    trap, caller = call.trap, call.caller
    if trap.rights > ALL_RIGHTS:
        raise Refused(Refusal.BAD_ARGUMENT, f"rights {trap.rights:#x} do not exist")
    offer = _find_offer(kernel, call)
    rights = offer.rights & Rights(trap.rights)
    if not rights:
        raise Refused(Refusal.BAD_ARGUMENT, f"none of {Rights(trap.rights)!r} is in {offer.rights!r}")
    caller.table.check_room(caller)
    if isinstance(offer.resource, Extent):
        caller.budget.check(Item.DESCRIPTORS)
        if offer.terms.grant and offered(offer).mapped:
            return _accept_mapped(kernel, call, offer.resource, offer, rights)
    return _accepted(take_over(kernel.exposure, offer, caller, rights))


def _find_offer(kernel: "Kernel", call: Call[traps.Accept]) -> Capability:
    """Return the offer to the caller that its trap names.

    Whatever is wrong, the refusal is the same: a guess finds out nothing about others' tables.
    """
    trap = call.trap
    try:
        offer = kernel.threads.living(trap.sender).table.find(trap.offer)
    except Refused:
        pass
    else:
        if offer.offer is not None and offer.offer.receiver is call.caller:
            if offer.offer.until > kernel.machine.clock.now():
                return offer
            withdraw(kernel.exposure, offer)
    raise Refused(Refusal.NO_SUCH_OFFER, f"offer {trap.offer:#x} of {show_thread(trap.sender)}")


def _accept_mapped(
    kernel: "Kernel", call: Call[traps.Accept], extent: Extent, offer: Capability, rights: Rights
) -> "Steps[traps.Accepted]":
    """Accept a grant whose giver has the extent mapped: it gets new memory, which the giver has not mapped."""
    yield from extent.lock()
    try:
        yield extent.copy(extent.span(offer))
        accepted = _accepted(take_over(kernel.exposure, _find_offer(kernel, call), call.caller, rights))
        yield from extent.move(None, extent.span(offer))
    finally:
        extent.unlock()
    return accepted


def _accepted(capability: Capability) -> traps.Accepted:
    resource = capability.resource
    count = len(resource.span(capability)) if isinstance(resource, Extent) else 0
    return traps.Accepted(capability.handle, resource.kind, capability.rights, count)


HANDLERS: Handlers = {
    traps.Derive: _derive,
    traps.Transfer: _transfer,
    traps.Revoke: _revoke,
    traps.Drop: _drop,
    traps.Inspect: _inspect,
    traps.Inventory: _inventory,
    traps.Accept: _accept,
}
