"""Offers: capabilities passed from one environment to another, by consent of both.

To pass a capability on, its holder makes an offer of it, which is in its own table. A message names the offer,
and the receiver accepts it. So nothing enters a table unasked, and the capabilities of a message that nobody took
have gone nowhere. An offer falls with the capability it is of, when its maker drops it, and when either side
ends. A successor takes over none, because the messages that named them are lost.

An offer counts against the budget of its receiver if that has a binding to its maker, since it is then an answer;
otherwise against its maker's. It falls after OFFER_LIFE_NS. Where the budget has no room, or MAX_OFFERS
stand between two environments, an older one falls: that of the pair that has most. So a receiver that never
accepts its answers loses those, and no other loses anything.
"""

from typing import TYPE_CHECKING

from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_OFFERS
from kernel.abi.rights import Rights
from kernel.capability import Capability, derive
from kernel.errors import Refused
from kernel.frames import passed_on

if TYPE_CHECKING:
    from kernel.environment import Environment
    from kernel.exposure import Exposure
    from kernel.jobs import Steps

_SWEPT = 8
"""Old offers checked for their time each time one is made."""


def withdraw_offers(exposure: "Exposure", ended: "Environment") -> "Steps[None]":
    """Withdraw the offers that *ended* made, and those made to it. Nobody is told: an offer is for one receiver."""
    made = [offer for offers in ended.table.offers.values() for offer in offers]
    for offer in made:
        if not offer.taken:
            withdraw(exposure, offer)
        yield None
    while ended.offered:
        withdraw(exposure, ended.offered.popitem()[0])
        yield None


def withdraw(exposure: "Exposure", offer: Capability) -> None:
    """Empty the slot of *offer*."""
    offered(offer).children.pop(offer, None)
    offer.holder.table.remove(offer)
    exposure.kip.show(offer.holder)


def offered(offer: Capability) -> Capability:
    """Return the capability *offer* is of."""
    assert offer.parent is not None
    return offer.parent


def make_room(exposure: "Exposure", now: int, between: dict[Capability, None], payer: "Environment") -> None:
    """Let offers fall until *payer* may have one more, and one more fits *between* its two. Raises Refused."""
    for offer in payer.owes.oldest(_SWEPT):
        if offer.terms.until <= now:
            withdraw(exposure, offer)
    if len(between) >= MAX_OFFERS:
        withdraw(exposure, next(iter(between)))
    elif payer.owes and payer.budget.room(Item.OFFERS) < 1:
        withdraw(exposure, payer.owes.of_who_has_most())
    payer.budget.check(Item.OFFERS)


def take_over(exposure: "Exposure", offer: Capability, receiver: "Environment", rights: Rights) -> Capability:
    """Give *receiver* what *offer* is of, and take the offer out of its table. Raises Refused."""
    capability = offered(offer)
    if capability.condemned:
        raise Refused(Refusal.NO_SUCH_OFFER, "the offered capability is being taken away")
    receiver.table.check_room(receiver)
    withdraw(exposure, offer)
    pass_on = _grant if offer.terms.grant else derive
    accepted = pass_on(exposure, capability, receiver, rights)
    exposure.count(Counter.TRANSFERS)
    passed_on(accepted)
    return accepted


def _grant(exposure: "Exposure", moved: Capability, receiver: "Environment", rights: Rights) -> Capability:
    """Move a capability to *receiver*, with its derivatives; the giver keeps no other offer of it."""
    giver = moved.table
    for offer in moved.offers():
        withdraw(exposure, offer)
    giver.remove(moved)
    moved.rights, moved.origin, moved.mapped = rights, giver.holder.thread, False
    receiver.table.insert(moved, receiver)
    moved.resource.moved(moved, giver)
    exposure.kip.show(giver.holder)
    exposure.kip.show(receiver)
    return moved
