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

from typing import TYPE_CHECKING

from kernel.abi import traps
from kernel.abi.budget import OFFER_LIFE_NS, Item
from kernel.abi.errors import Refusal
from kernel.abi.ids import show_thread
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_OFFERS
from kernel.abi.rights import ALL_RIGHTS, Rights
from kernel.capability import Capability, Offer, derive, narrowed, place, settle
from kernel.dispatch import Call, handles
from kernel.errors import Refused
from kernel.frames import Extent, check_no_ring, passed_on

if TYPE_CHECKING:
    from kernel.environment import Environment
    from kernel.kernel import Kernel


def withdraw_offers(kernel: "Kernel", ended: "Environment") -> None:
    """Take the offers that *ended* made, and those made to it; nobody is told: an offer is for one receiver."""
    for environment in kernel.environments:
        made = environment.table.offers
        fallen = list(made.values()) if environment is ended else [made.get(ended, {})]
        for offer in [offer for offers in fallen for offer in offers]:
            _withdraw(kernel, offer)


def _withdraw(kernel: "Kernel", offer: Capability) -> None:
    """Empty the slot of *offer*."""
    del _offered(offer).children[offer]
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
    for offer in [offer for offer in payer.owes if _until(offer) <= now]:
        _withdraw(kernel, offer)
    if len(between) >= MAX_OFFERS:
        _withdraw(kernel, next(iter(between)))
    elif payer.owes and payer.budget.room(Item.OFFERS) < 1:
        _withdraw(kernel, _of_who_has_most(payer))
    payer.budget.check(Item.OFFERS)


def _of_who_has_most(payer: "Environment") -> Capability:
    """Return the oldest offer between the two who have most of those that *payer* pays for: others' never fall."""
    pairs: dict[tuple[Environment, Environment | None], list[Capability]] = {}
    for offer in payer.owes:
        pairs.setdefault((offer.holder, offer.offer and offer.offer.receiver), []).append(offer)
    return max(pairs.values(), key=len)[0]


def _until(offer: Capability) -> int:
    """Return when *offer* falls."""
    assert offer.offer is not None
    return offer.offer.until


@handles(traps.Accept)
def _accept(kernel: "Kernel", call: Call[traps.Accept]) -> traps.Accepted:
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
    _withdraw(kernel, offer)
    pass_on = _grant if is_grant else derive
    accepted = pass_on(kernel, capability, caller, rights)
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


def _grant(kernel: "Kernel", old: Capability, receiver: "Environment", rights: Rights) -> Capability:
    """Move *old* to *receiver*, with what was derived from it; the giver keeps no mapping and no other offer."""
    for offer in old.offers():
        _withdraw(kernel, offer)
    new = place(kernel, Capability(old.thing, rights, old.parent, old.holder.thread), receiver)
    new.children = old.children
    for child in new.children:
        child.parent = new
    if old.parent is not None:
        del old.parent.children[old]
    old.holder.table.remove(old)
    old.thing.lost(kernel, old)
    kernel.kip.show(old.holder)
    settle(kernel, [old], keeper=None)
    return new
