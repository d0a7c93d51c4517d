"""Offers: how a capability goes from one environment to another, by consent of both.

Who wants to pass a capability on makes an offer of it, which sits in its own table; the message names the offer,
and its receiver accepts it. So nothing comes into a table unasked, and what was in a message that nobody took
has gone nowhere. An offer falls with the capability it is of, when its maker drops it, and when either side
ends; a successor takes over none, because the messages that named them are lost.

Between two environments at most MAX_OFFERS stand, and the oldest falls to make room: a caller that never accepts
what a server answers with does not fill the server's table.
"""

from typing import TYPE_CHECKING

from kernel.abi import traps
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
    made = caller.table.offers.get(receiver, {})
    if len(made) >= MAX_OFFERS:
        _withdraw(kernel, next(iter(made)))
    offer = Capability(capability.thing, rights, capability, offer=Offer(receiver, trap.grant))
    return place(kernel, offer, caller).handle


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
            return offer, offer.offer.grant
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
