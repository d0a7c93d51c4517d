"""Offers: how a capability goes from one environment to another, by consent of both.

Who wants to pass a capability on makes an offer of it, which sits in its own table; the message names the offer,
and its receiver accepts it. So nothing comes into a table unasked, and what was in a message that nobody took
has gone nowhere. An offer falls with the capability it is of, when its maker drops it, and when either side
ends; a successor takes over none, because the messages that named them are lost.

An offer counts against the budget of its receiver, where that has a binding to its maker: so it is an answer. Else
it counts against its maker's. It falls after OFFER_LIFE_NS. Where the budget has no room, and where MAX_OFFERS
stand between two environments, an older one falls: that of the two who have most. So who never accepts what it is
answered with loses that, and nobody else loses anything.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.abi import traps
from kernel.abi.budget import OFFER_LIFE_NS, Item
from kernel.abi.errors import Refusal
from kernel.abi.ids import show_thread
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_OFFERS
from kernel.abi.rights import ALL_RIGHTS, Rights
from kernel.capability import Capability, Offer, derive, narrowed, place
from kernel.dispatch import Call, handles
from kernel.errors import Refused
from kernel.frames import Extent, check_no_ring, passed_on

if TYPE_CHECKING:
    from kernel.environment import Environment
    from kernel.jobs import Steps
    from kernel.kernel import Kernel

    PassOn = Callable[[Kernel, Capability, Environment, Rights], Capability]


_SWEPT = 8
"""Offers looked at, whether their time is over, each time one is made."""


def withdraw_offers(kernel: "Kernel", ended: "Environment") -> "Steps[None]":
    """Take the offers that *ended* made, and those made to it; nobody is told: an offer is for one receiver."""
    made = [offer for offers in ended.table.offers.values() for offer in offers]
    for offer in made:
        if not offer.taken:
            _withdraw(kernel, offer)
        yield None
    while ended.offered:
        _withdraw(kernel, ended.offered.popitem()[0])
        yield None


def _withdraw(kernel: "Kernel", offer: Capability) -> None:
    """Empty the slot of *offer*."""
    _offered(offer).children.pop(offer, None)
    offer.holder.table.remove(offer)
    kernel.kip.show(offer.holder)


def _offered(offer: Capability) -> Capability:
    """Return the capability *offer* is of."""
    assert offer.parent is not None
    return offer.parent


@handles(traps.Transfer)
def _transfer(kernel: "Kernel", call: Call[traps.Transfer]) -> int:
    trap, capability, caller = call.trap, call.capability, call.caller
    rights = narrowed(call, trap.rights)
    if not rights:
        raise Refused(Refusal.BAD_ARGUMENT, "an offer of no rights is of nothing")
    check_no_ring(capability.thing)
    receiver = kernel.threads.living(trap.to)
    if not receiver.calls(caller):
        caller.check_may_bind(receiver)
    payer = receiver if receiver.calls(caller) else caller
    _make_room(kernel, caller.table.offers.get(receiver, {}), payer)
    until = kernel.machine.clock.now() + OFFER_LIFE_NS
    offer = Capability(capability.thing, rights, capability, offer=Offer(receiver, payer, until, trap.grant))
    return place(kernel, offer, caller).handle


def _make_room(kernel: "Kernel", between: dict[Capability, None], payer: "Environment") -> None:
    """Let offers fall until *payer* may have one more, with those that stand *between* its two. Raises Refused."""
    now = kernel.machine.clock.now()
    for offer in payer.owes.oldest(_SWEPT):
        if _until(offer) <= now:
            _withdraw(kernel, offer)
    if len(between) >= MAX_OFFERS:
        _withdraw(kernel, next(iter(between)))
    elif payer.owes and payer.budget.room(Item.OFFERS) < 1:
        _withdraw(kernel, payer.owes.of_who_has_most())
    payer.budget.check(Item.OFFERS)


def _until(offer: Capability) -> int:
    """Return when *offer* falls."""
    assert offer.offer is not None
    return offer.offer.until


@handles(traps.Accept)
def _accept(kernel: "Kernel", call: Call[traps.Accept]) -> "traps.Accepted | Steps[traps.Accepted]":
    trap, caller = call.trap, call.caller
    if trap.rights > ALL_RIGHTS:
        raise Refused(Refusal.BAD_ARGUMENT, f"rights {trap.rights:#x} are none")
    offer, is_grant = _find(kernel, call)
    rights = offer.rights & Rights(trap.rights)
    if not rights:
        raise Refused(Refusal.BAD_ARGUMENT, f"none of {Rights(trap.rights)!r} is in {offer.rights!r}")
    caller.table.check_room(caller)
    if isinstance(offer.thing, Extent):
        caller.budget.check(Item.DESCRIPTORS)
    capability = _offered(offer)
    if is_grant and capability.mapped and isinstance(capability.thing, Extent):
        return _accept_mapped(kernel, call, capability.thing, rights)
    return _take_over(kernel, call, offer, rights, _grant if is_grant else derive)


def _accept_mapped(
    kernel: "Kernel", call: Call[traps.Accept], extent: Extent, rights: Rights
) -> "Steps[traps.Accepted]":
    """Accept a grant whose giver has the extent mapped: it gets new memory, of which the giver has no mapping."""
    yield from extent.lock()
    try:
        yield extent.copy()
        offer, _ = _find(kernel, call)
        accepted = _take_over(kernel, call, offer, rights, _grant)
        yield from extent.move(kernel, None)
    finally:
        extent.unlock(kernel)
    return accepted


def _take_over(
    kernel: "Kernel",
    call: Call[traps.Accept],
    offer: Capability,
    rights: Rights,
    pass_on: "PassOn",
) -> traps.Accepted:
    """Give the caller what *offer* is of, and take the offer out of its table. Raises Refused."""
    capability = _offered(offer)
    if capability.condemned:
        raise Refused(Refusal.NO_SUCH_OFFER, "what it is of is being taken away")
    call.caller.table.check_room(call.caller)
    _withdraw(kernel, offer)
    accepted = pass_on(kernel, capability, call.caller, rights)
    kernel.count(Counter.TRANSFERS)
    passed_on(kernel, accepted)
    thing = accepted.thing
    return traps.Accepted(
        handle=accepted.handle,
        kind=thing.kind,
        rights=rights,
        count=thing.count if isinstance(thing, Extent) else 0,
    )


def _find(kernel: "Kernel", call: Call[traps.Accept]) -> tuple[Capability, bool]:
    """Return the offer to the caller that its trap names, and whether it grants.

    Whatever else is wrong, the refusal is the same: a guess finds out nothing about others' tables.
    """
    trap = call.trap
    try:
        offer = kernel.threads.living(trap.sender).table.find(trap.offer)
    except Refused:
        pass
    else:
        if offer.offer is not None and offer.offer.receiver is call.caller:
            if _until(offer) > kernel.machine.clock.now():
                return offer, offer.offer.grant
            _withdraw(kernel, offer)
    raise Refused(Refusal.NO_SUCH_OFFER, f"offer {trap.offer:#x} of {show_thread(trap.sender)}")


def _grant(kernel: "Kernel", moved: Capability, receiver: "Environment", rights: Rights) -> Capability:
    """Move a capability to *receiver*, with what was derived from it; the giver keeps no other offer of it."""
    giver = moved.table
    for offer in moved.offers():
        _withdraw(kernel, offer)
    giver.remove(moved)
    moved.rights, moved.origin, moved.mapped = rights, giver.holder.thread, False
    receiver.table.insert(moved, receiver)
    moved.thing.moved(kernel, moved, giver)
    kernel.kip.show(giver.holder)
    kernel.kip.show(receiver)
    return moved
