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
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.ids import show_thread
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_OFFERS
from kernel.abi.rights import Rights
from kernel.capability import Capability, derive
from kernel.errors import Refused
from kernel.frames import passed_on

if TYPE_CHECKING:
    from kernel.dispatch import Call
    from kernel.environment import Environment
    from kernel.jobs import Steps
    from kernel.kernel import Kernel

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
    offered(offer).children.pop(offer, None)
    offer.holder.table.remove(offer)
    kernel.kip.show(offer.holder)


def offered(offer: Capability) -> Capability:
    """Return the capability *offer* is of."""
    assert offer.parent is not None
    return offer.parent


def make_room(kernel: "Kernel", between: dict[Capability, None], payer: "Environment") -> None:
    """Let offers fall until *payer* may have one more, with those that stand *between* its two. Raises Refused."""
    now = kernel.machine.clock.now()
    for offer in payer.owes.oldest(_SWEPT):
        if offer.terms.until <= now:
            _withdraw(kernel, offer)
    if len(between) >= MAX_OFFERS:
        _withdraw(kernel, next(iter(between)))
    elif payer.owes and payer.budget.room(Item.OFFERS) < 1:
        _withdraw(kernel, payer.owes.of_who_has_most())
    payer.budget.check(Item.OFFERS)


def take_over(kernel: "Kernel", offer: Capability, receiver: "Environment", rights: Rights) -> Capability:
    """Give *receiver* what *offer* is of, and take the offer out of its table. Raises Refused."""
    capability = offered(offer)
    if capability.condemned:
        raise Refused(Refusal.NO_SUCH_OFFER, "what it is of is being taken away")
    receiver.table.check_room(receiver)
    _withdraw(kernel, offer)
    pass_on = _grant if offer.terms.grant else derive
    accepted = pass_on(kernel, capability, receiver, rights)
    kernel.count(Counter.TRANSFERS)
    passed_on(kernel, accepted)
    return accepted


def find_offer(kernel: "Kernel", call: "Call[traps.Accept]") -> Capability:
    """Return the offer to the caller that its trap names.

    Whatever else is wrong, the refusal is the same: a guess finds out nothing about others' tables.
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
    moved.resource.moved(kernel, moved, giver)
    kernel.kip.show(giver.holder)
    kernel.kip.show(receiver)
    return moved
