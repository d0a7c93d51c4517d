"""The traps on threads: their bindings, and the X.2 controls."""

from itertools import islice
from typing import TYPE_CHECKING

from hwmodel.machine import Exhausted
from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.events import Event
from kernel.abi.ids import KERNEL_ENVIRONMENTS, NIL_HANDLE
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_INCOMING
from kernel.dispatch import Call, Handlers
from kernel.environment import DESCRIPTORS, Binding, Thread
from kernel.errors import Refused
from kernel.frames import Extent
from kernel.rings import Ring, ring_extent
from kernel.x2.spaces import space_control
from kernel.x2.threads import thread_control

if TYPE_CHECKING:
    from kernel.jobs import Steps
    from kernel.kernel import Kernel


def _incoming(kernel: "Kernel", call: Call[traps.Incoming]) -> tuple[traps.Arrived, ...]:
    receiver = kernel.threads.own(call.caller, call.trap.receiver)
    taken = []
    for binding in list(islice(receiver.arrived.values(), MAX_INCOMING)):
        try:
            call.gives += binding.hand_over()
        except Exhausted:
            kernel.bindings.end(binding)  # otherwise it would be first again
            continue
        del receiver.arrived[binding.token]
        taken.append(traps.Arrived(binding.token, binding.identity))
    receiver.told = False
    if receiver.arrived:
        kernel.bindings.announce(receiver)
    return tuple(taken)


def _bind(kernel: "Kernel", call: Call[traps.Bind]) -> "traps.Bound | Steps[traps.Bound]":
    if call.trap.ring == NIL_HANDLE:
        return _bind_now(kernel, call, None)
    return _bind_ring(kernel, call, ring_extent(call.caller.table, call.trap.ring))


def _bind_ring(kernel: "Kernel", call: Call[traps.Bind], extent: Extent) -> "Steps[traps.Bound]":
    """Bind with *extent* as ring memory, once no other job works on it."""
    yield from extent.lock()
    try:
        bound = _bind_now(kernel, call, ring_extent(call.caller.table, call.trap.ring))
        yield from extent.cut()
    finally:
        extent.unlock()
    return bound


def _bind_now(kernel: "Kernel", call: Call[traps.Bind], extent: Extent | None) -> traps.Bound:
    threads, bindings = kernel.threads, kernel.bindings
    intended = threads.find(call.trap.thread)
    sender = threads.own(call.caller, call.trap.sender)
    binding = bindings.bind(sender, intended)
    call.gives += binding.senders
    binding.senders = []
    try:
        if extent is not None:
            binding.ring = Ring(kernel.machine, extent)
            call.caller.budget.hold(Item.DESCRIPTORS, binding.descriptors - DESCRIPTORS)
            call.gives += binding.ring.begin(lambda: bindings.end(binding))
    except Exhausted:
        bindings.unbind(binding)
        raise
    call.undo = lambda: bindings.unbind(binding)
    receiver = binding.receiver
    kernel.exposure.count(Counter.BINDS)
    kernel.exposure.trace.record(Event.BOUND, call.caller.number, receiver.id)
    return traps.Bound(
        address=binding.endpoint.name, token=binding.token, thread=receiver.id, ring=binding.ring_size
    )


def _identify(kernel: "Kernel", call: Call[traps.Identify]) -> traps.Identified:
    kernel.exposure.count(Counter.IDENTIFIES)
    binding = _to_caller(kernel, call)
    if binding is None:
        kernel.exposure.count(Counter.UNKNOWN_TOKENS)
        raise Refused(Refusal.UNKNOWN_TOKEN, "the message under it must be thrown away")
    return binding.identity


def _to_caller(kernel: "Kernel", call: Call[traps.Identify] | Call[traps.Unbind]) -> Binding | None:
    """Return the binding by its token, if the caller's thread is its receiver."""
    try:
        receiver = kernel.threads.own(call.caller, call.trap.receiver)
    except Refused:
        return None
    return receiver.incoming.get(call.trap.token)


def _unbind(kernel: "Kernel", call: Call[traps.Unbind]) -> None:
    binding = call.caller.outgoing.get(call.trap.token)
    if binding is not None:
        kernel.bindings.unbind(binding)
    elif (binding := _to_caller(kernel, call)) is not None:
        kernel.bindings.end(binding)
    else:
        raise Refused(Refusal.UNKNOWN_TOKEN, "")


def _acknowledge(kernel: "Kernel", call: Call[traps.Acknowledge]) -> None:
    if call.trap.thread == KERNEL_ENVIRONMENTS:
        kernel.on_heartbeat(call.caller)
    else:
        kernel.interrupts.answer(call.trap.thread, call.caller)


def _wait_page(kernel: "Kernel", call: Call[traps.WaitPage]) -> None:
    call.gives.append(_partner(kernel, call).environment.shared.descriptor(writable=False))


def _sends(kernel: "Kernel", call: Call[traps.Sends]) -> bool:
    partner, to = _partner(kernel, call), call.trap.to
    outgoing = partner.environment.outgoing.values()
    return any(b.look[0].posted() for b in outgoing if b.sender is partner and b.intended.id == to)


def _wake_when(kernel: "Kernel", call: Call[traps.WakeWhen]) -> "int | Steps[int]":
    trap, thread = call.trap, kernel.threads.own(call.caller, call.trap.thread)
    if not trap.clauses:
        return kernel.predicates.cancel(thread, trap.number)
    return kernel.predicates.wait(thread, trap.number, trap.clauses)


def _partner(kernel: "Kernel", call: Call[traps.WaitPage] | Call[traps.Sends]) -> "Thread":
    """Return the thread the trap is about. Raises Refused unless the caller is bound to its environment."""
    partner = kernel.threads.find(call.trap.thread)
    if not call.caller.calls(partner.environment):
        raise Refused(Refusal.MAY_NOT_BIND, f"{call.caller.name} is not bound to {partner.environment.name}")
    return partner


HANDLERS: Handlers = {
    traps.Incoming: _incoming,
    traps.Bind: _bind,
    traps.Identify: _identify,
    traps.Unbind: _unbind,
    traps.Acknowledge: _acknowledge,
    traps.ThreadControl: thread_control,
    traps.SpaceControl: space_control,
    traps.WaitPage: _wait_page,
    traps.Sends: _sends,
    traps.WakeWhen: _wake_when,
}
