"""The traps on memory: carve an extent from RAM, map an extent."""

from typing import TYPE_CHECKING

from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.kip import Counter
from kernel.abi.rights import ALL_RIGHTS, Rights
from kernel.capability import derive
from kernel.dispatch import Call, handles
from kernel.errors import Refused
from kernel.frames import Extent, Ram

if TYPE_CHECKING:
    from kernel.kernel import Kernel


@handles(traps.Carve)
def _carve(kernel: "Kernel", call: Call[traps.Carve]) -> traps.Carved:
    trap, ram = call.trap, call.capability
    assert isinstance(ram.thing, Ram)
    call.caller.budget.check(Item.DESCRIPTORS)
    extent = kernel.frames.carve(ram.thing, trap.count, trap.first, zero=trap.zero)
    try:
        capability = derive(kernel, ram, call.caller, ALL_RIGHTS & (ram.rights | Rights.EXECUTE), extent)
    except Refused:
        extent.free(kernel)
        raise
    extent.account(kernel, call.caller)
    kernel.count(Counter.CARVES)
    return traps.Carved(extent=capability.handle, first=extent.first)


@handles(traps.MapExtent)
def _map(_kernel: "Kernel", call: Call[traps.MapExtent]) -> traps.Mapped:
    capability = call.capability
    extent = capability.thing
    assert isinstance(extent, Extent)
    extent.check_no_ring()
    call.gives.append(extent.descriptor(capability))
    return traps.Mapped(count=extent.count, writable=bool(capability.rights & Rights.WRITE))
