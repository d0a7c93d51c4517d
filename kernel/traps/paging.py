"""The traps on paged objects: make one, map pages of it, supply, evict and protect them."""

from functools import partial
from typing import TYPE_CHECKING, Any

from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.limits import FRAME_SIZE, MAX_PAGES_PER_FRAME
from kernel.capability import derive
from kernel.dispatch import CallTo, Handlers
from kernel.errors import Refused
from kernel.frames import Extent, Ram
from kernel.objects import Object, Terms, Window

if TYPE_CHECKING:
    from kernel.jobs import Steps
    from kernel.kernel import Kernel

_END = 1 << 47
"""Where the addresses of programs end."""


def _create(kernel: "Kernel", call: CallTo[traps.ObjectCreate, Ram]) -> "Steps[traps.Carved]":
    trap, ram, caller = call.trap, call.capability, call.caller
    if trap.pages > trap.count * MAX_PAGES_PER_FRAME:
        raise Refused(Refusal.BAD_ARGUMENT, f"{trap.pages} pages: at most {MAX_PAGES_PER_FRAME} a frame")
    thread = kernel.threads.own(caller, trap.thread).id
    caller.budget.check(Item.DESCRIPTORS)
    terms = Terms(trap.pages, trap.microseconds * 1000, thread)
    make = partial(Object, terms=terms, waits=kernel.faults)
    thing = yield from kernel.frames.carve(
        ram, trap.count, trap.first, zero=True, pages=trap.pages, make=make
    )
    try:
        capability = derive(kernel.exposure, ram, caller, ram.rights, thing)
    except Refused:
        yield from thing.free()
        raise
    thing.own(capability)
    thing.account(caller)
    return traps.Carved(extent=capability.handle, first=thing.first)


def _window(kernel: "Kernel", call: CallTo[traps.Window, Extent]) -> "Steps[None] | None":
    trap, (thing, first), caller = call.trap, _pages(call), call.caller
    if not trap.count:
        kernel.faults.shut(caller, lambda window: window.address == trap.address)
        return None
    if trap.address % FRAME_SIZE or not 0 < trap.address <= _END - trap.count * FRAME_SIZE:
        raise Refused(Refusal.BAD_ARGUMENT, f"{trap.address:#x} is no address of a page")
    space = caller.body.space
    if space is None:
        raise Refused(Refusal.NOT_PAGED, caller.name)
    window = Window(thing, call.capability, caller, space, trap.address, first, trap.count)
    return _open(kernel, call, thing, window)


def _open(
    kernel: "Kernel", call: CallTo[traps.Window, Extent], thing: Object, window: Window
) -> "Steps[None]":
    """Open it while no memory moves: what is there now is what it is onto."""
    yield from thing.lock()
    try:
        _check_held(call)
        yield from kernel.faults.open(window)
    finally:
        thing.unlock()


def _supply(kernel: "Kernel", call: CallTo[traps.Supply, Extent]) -> "Steps[None] | None":
    thing, first = _pages(call)
    if call.trap.count > 1 or thing.locked:
        return _supply_run(kernel, call)
    thing.supply(first, 1)
    return kernel.faults.supplied_page(thing, first)


def _supply_run(kernel: "Kernel", call: CallTo[traps.Supply, Extent]) -> "Steps[None]":
    thing, first = yield from _settled(call)
    thing.supply(first, call.trap.count)
    yield from kernel.faults.supplied(thing, first, call.trap.count)


def _evict(_kernel: "Kernel", call: CallTo[traps.Evict, Extent]) -> "Steps[int]":
    thing, first = yield from _settled(call)
    return (yield from thing.evict(first, call.trap.count))


def _protect(_kernel: "Kernel", call: CallTo[traps.Protect, Extent]) -> "Steps[bytes]":
    thing, first = yield from _settled(call)
    return (yield from thing.protect(first, call.trap.count, call.trap.how))


def _pages(call: CallTo[Any, Extent]) -> tuple[Object, int]:
    """Return the object a trap is about, and the first page it names: a part counts its own. Raises Refused."""
    thing, trap = call.resource, call.trap
    if not isinstance(thing, Object):
        raise Refused(Refusal.WRONG_KIND, f"{thing!r} is not paged: make it by ObjectCreate")
    span = thing.span(call.capability)
    if trap.first + trap.count > len(span):
        raise Refused(Refusal.BAD_ARGUMENT, f"pages {trap.first}+{trap.count} of {len(span)} of {thing!r}")
    return thing, span.start + trap.first


def _settled(call: CallTo[Any, Extent]) -> "Steps[tuple[Object, int]]":
    """The same, when no job works on it."""
    thing, first = _pages(call)
    yield from thing.settled()
    _check_held(call)
    return thing, first


def _check_held(call: CallTo[Any, Extent]) -> None:
    """Refuse if the capability went meanwhile."""
    if call.capability.condemned:
        raise Refused(Refusal.STALE_HANDLE, f"handle {call.capability.handle:#x}")


HANDLERS: Handlers = {
    traps.ObjectCreate: _create,
    traps.Window: _window,
    traps.Supply: _supply,
    traps.Evict: _evict,
    traps.Protect: _protect,
}
