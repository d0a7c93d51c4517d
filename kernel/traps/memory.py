"""The traps on memory: carve an extent from RAM, limit carving, map an extent."""

from typing import TYPE_CHECKING

from hwmodel.machine import Exhausted
from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.kip import Counter
from kernel.abi.rights import Rights
from kernel.capability import derive
from kernel.dispatch import CallTo, Handlers
from kernel.errors import Refused
from kernel.frames import Extent, Ram
from kernel.taking import Taking

if TYPE_CHECKING:
    from kernel.capability import Capability
    from kernel.jobs import Steps
    from kernel.kernel import Kernel


def _carve(kernel: "Kernel", call: CallTo[traps.Carve, Ram]) -> "Steps[traps.Carved]":
    trap, ram = call.trap, call.capability
    if trap.maps and Rights.READ & ~ram.rights:
        raise Refused(Refusal.MISSING_RIGHT, f"needs {Rights.READ!r} to be mapped, has {ram.rights!r}")
    call.caller.budget.check(Item.DESCRIPTORS)
    extent = yield from kernel.frames.carve(ram, trap.count, trap.first, zero=trap.zero, make=Extent)
    try:
        capability = derive(kernel.exposure, ram, call.caller, ram.rights | Rights.EXECUTE, extent)
    except Refused:
        yield from extent.free()
        raise
    extent.account(call.caller)
    if trap.maps:
        yield from _lend(kernel, call, capability, extent)
    kernel.exposure.count(Counter.CARVES)
    return traps.Carved(extent=capability.handle, first=extent.first)


def _lend(
    kernel: "Kernel", call: CallTo[traps.Carve, Ram], capability: "Capability", extent: Extent
) -> "Steps[None]":
    """Hand the descriptor over with the answer; where the host lends none, undo the carving."""
    try:
        call.gives.append(extent.descriptor(capability))
    except Exhausted:
        yield from Taking(kernel.exposure, capability, call.caller).steps(itself=True)
        raise
    call.undo = lambda: True  # a caller without a descriptor asks for one


def _map_extent(
    _kernel: "Kernel", call: CallTo[traps.MapExtent, Extent]
) -> "traps.Mapped | Steps[traps.Mapped]":
    return _map_later(call, call.resource) if call.resource.locked else _map_now(call, call.resource)


def _map_later(call: CallTo[traps.MapExtent, Extent], extent: Extent) -> "Steps[traps.Mapped]":
    yield from extent.settled()
    if call.capability.condemned:
        raise Refused(Refusal.STALE_HANDLE, f"handle {call.capability.handle:#x}")
    return _map_now(call, extent)


def _map_now(call: CallTo[traps.MapExtent, Extent], extent: Extent) -> traps.Mapped:
    extent.check_no_ring()
    capability, page = call.capability, call.trap.page
    span = extent.span(capability)
    if page >= len(span):
        raise Refused(Refusal.BAD_ARGUMENT, f"page {page} of {len(span)}")
    call.gives.append(extent.descriptor(capability, page))
    piece = extent.pieces.at(span.start + page)[1]
    writable, paged = bool(capability.rights & Rights.WRITE), extent.owner not in (None, capability)
    return traps.Mapped(len(span), writable, paged, piece.start - span.start, len(piece))


def _limit(_kernel: "Kernel", call: CallTo[traps.Limit, Ram]) -> int:
    call.capability.limit = call.trap.count
    return call.capability.carved


HANDLERS: Handlers = {traps.Carve: _carve, traps.MapExtent: _map_extent, traps.Limit: _limit}
