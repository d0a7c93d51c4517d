"""The traps on memory: carve an extent from RAM, limit what others may, map an extent."""

from typing import TYPE_CHECKING

from hwmodel.machine import Exhausted
from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.kip import Counter
from kernel.abi.rights import Rights
from kernel.capability import derive, require
from kernel.dispatch import Call, handles
from kernel.errors import Refused
from kernel.frames import Extent
from kernel.taking import Taking

if TYPE_CHECKING:
    from kernel.capability import Capability
    from kernel.jobs import Steps
    from kernel.kernel import Kernel


@handles(traps.Carve)
def _carve(kernel: "Kernel", call: Call[traps.Carve]) -> "Steps[traps.Carved]":
    trap, ram = call.trap, call.capability
    if trap.maps:
        require(call, Rights.READ)
    call.caller.budget.check(Item.DESCRIPTORS)
    extent = yield from kernel.frames.carve(ram, trap.count, trap.first, zero=trap.zero)
    try:
        capability = derive(kernel, ram, call.caller, ram.rights | Rights.EXECUTE, extent)
    except Refused:
        yield from extent.free(kernel)
        raise
    extent.account(kernel, call.caller)
    if trap.maps:
        yield from _lend(kernel, call, capability, extent)
    kernel.count(Counter.CARVES)
    return traps.Carved(extent=capability.handle, first=extent.first)


def _lend(
    kernel: "Kernel", call: Call[traps.Carve], capability: "Capability", extent: Extent
) -> "Steps[None]":
    """Hand the descriptor over with the answer; where the host lends none, nothing was carved."""
    try:
        call.gives.append(extent.descriptor(capability))
    except Exhausted:
        yield from Taking(kernel, capability, call.caller).steps(itself=True)
        raise
    call.undo = lambda: True  # who hears of no descriptor asks for one


@handles(traps.MapExtent)
def _map(_kernel: "Kernel", call: Call[traps.MapExtent]) -> "traps.Mapped | Steps[traps.Mapped]":
    extent = call.capability.thing
    assert isinstance(extent, Extent)
    return _map_later(call, extent) if extent.locked else _map_now(call, extent)


def _map_later(call: Call[traps.MapExtent], extent: Extent) -> "Steps[traps.Mapped]":
    """Wait until no job works on the memory."""
    yield from extent.settled()
    if call.capability.condemned:
        raise Refused(Refusal.STALE_HANDLE, f"handle {call.capability.handle:#x}")
    return _map_now(call, extent)


def _map_now(call: Call[traps.MapExtent], extent: Extent) -> traps.Mapped:
    capability = call.capability
    extent.check_no_ring()
    call.gives.append(extent.descriptor(capability))
    return traps.Mapped(count=extent.count, writable=bool(capability.rights & Rights.WRITE))


@handles(traps.Limit)
def _limit(_kernel: "Kernel", call: Call[traps.Limit]) -> int:
    call.capability.limit = call.trap.count
    return call.capability.carved
