"""Bindings: the right to send to a thread, checked once.

The sender gets an unguessable token, its routing id at the receiver's socket; the receiver asks once whose it
is. Then the kernel is out of the path. A binding falls when either side ends; the epoch in the KIP is raised,
and receivers forget what they were told.

*Redirection* (X.2) is decided here, because nowhere else can it be enforced. An environment with a redirector
gets bindings to that thread only, whomever it asks for, but for threads of its own environment and of the
redirector's. When its redirector is set, changed or removed, the bindings that would now lead elsewhere fall,
and its threads are told that the receiver went, so that they bind anew. Answers are not redirected: they go back
over the binding of the one who called, so a redirected environment may answer whoever is bound to it.

A binding may have a ring, memory that both sides map (`kernel.rings`).
"""

from typing import TYPE_CHECKING

from hwmodel.machine import Exhausted
from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.events import Event
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_BINDINGS
from kernel.abi.messages import Label
from kernel.dispatch import Call, handles
from kernel.errors import Refused
from kernel.frames import Extent
from kernel.rings import Ring, ring_extent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwmodel.machine import Descriptor, Machine
    from kernel.abi.ids import ThreadId
    from kernel.environment import Environment
    from kernel.jobs import Steps
    from kernel.kernel import Kernel
    from kernel.thread import Thread


class Binding:
    """One thread's right to send to another."""

    __slots__ = ("home", "intended", "receiver", "ring", "sender", "tickets", "token")

    def __init__(self, machine: "Machine", sender: "Thread", receiver: "Thread", intended: "Thread") -> None:
        """Bind *sender* to *receiver*, to reach *intended*. Raises Exhausted."""
        self.sender = sender
        self.home = sender.environment
        """Where it stands, also when its sender has been moved."""
        self.receiver = receiver
        self.intended = intended
        self.tickets = _tickets(machine)
        self.token = machine.token()
        self.ring: Ring | None = None

    @property
    def redirected(self) -> bool:
        """Whether it leads elsewhere than its sender asked for."""
        return self.receiver is not self.intended

    @property
    def ring_size(self) -> int:
        """Bytes of its ring memory; 0: it has none."""
        return self.ring.size if self.ring is not None else 0


def _tickets(machine: "Machine") -> "tuple[Descriptor, Descriptor]":
    """Return the tickets of sending and of answering. Raises Exhausted."""
    send = machine.ticket()
    try:
        return send, machine.ticket()
    except Exhausted:
        send.close()
        raise


class Bindings:
    """All bindings; each stands in its sender's environment and at its receiver."""

    def __init__(self, kernel: "Kernel") -> None:
        """Start with none."""
        self._kernel = kernel

    def bind(self, sender: "Thread", intended: "Thread") -> Binding:
        """Bind *sender* to *intended*, or to who gets what is meant for it. Raises Refused, Exhausted."""
        environment = sender.environment
        environment.check_list(intended.environment)
        receiver = environment.route(intended)
        if len(environment.outgoing) >= MAX_BINDINGS:
            raise Refused(Refusal.TOO_MANY_BINDINGS, f"{MAX_BINDINGS} bindings")
        self._kernel.threads.endpoint(receiver.number)
        binding = Binding(self._kernel.machine, sender, receiver, intended)
        environment.outgoing[binding.token] = receiver.incoming[binding.token] = binding
        return binding

    def unbind(self, binding: Binding) -> None:
        """End *binding*. Twice is harmless."""
        binding.receiver.incoming.pop(binding.token, None)
        if binding.home.outgoing.pop(binding.token, None) is None:
            return
        for ticket in binding.tickets:
            ticket.close()
        if binding.ring is not None:
            binding.ring.close()
        self._kernel.kip.raise_epoch()

    def undo(self, binding: Binding) -> bool:
        """End *binding*, of which its sender has not heard; say that it does not stand."""
        self.unbind(binding)
        return False

    def fall(self, thread: "Thread") -> "Steps[None]":
        """Cut off every binding of *thread*, which is gone; the steps end them, and its callers are told."""
        incoming = (binding for binding in self._cut_off(thread) if binding.sender is not thread)
        outgoing = [b for b in thread.environment.outgoing.values() if b.sender is thread]
        return self._fall(incoming, outgoing)

    def _fall(self, incoming: "Iterable[Binding]", outgoing: "Iterable[Binding]") -> "Steps[None]":
        yield from self.drop(incoming)
        for binding in outgoing:
            self.unbind(binding)
            yield None

    def renamed(self, thread: "Thread") -> "Steps[None]":
        """End every binding to *thread*: who asked for it by this id is told. Its own are of its new id."""
        fallen, before = self._cut_off(thread), thread.id
        self._kernel.kip.raise_epoch()
        return self.drop(fallen, before)

    def _cut_off(self, thread: "Thread") -> "Iterable[Binding]":
        """Let no binding to *thread* be known to it any more; return what they were."""
        fallen, thread.incoming = thread.incoming, {}
        return fallen.values()

    def reroute(self, environment: "Environment") -> "Steps[None]":
        """End the bindings of *environment* that would now lead elsewhere; it is told that the receiver went."""
        outgoing = environment.outgoing.values()
        return self.drop([b for b in outgoing if environment.leads(b.intended) is not b.receiver])

    def drop(self, bindings: "Iterable[Binding]", gone: "ThreadId | None" = None) -> "Steps[None]":
        """Tell each sender once that its receiver went (as *gone*), then end its bindings: the reason is first."""
        told: set[tuple[Thread, Thread]] = set()
        for binding in bindings:
            sender, receiver = binding.sender, binding.receiver
            if (sender, receiver) not in told:
                told.add((sender, receiver))
                words = (receiver.id if gone is None else gone,)
                self._kernel.tell(sender.environment, Label.PARTNER_GONE, words, thread=sender.id)
            self.unbind(binding)
            yield None


@handles(traps.Bind)
def _bind(kernel: "Kernel", call: Call[traps.Bind]) -> "traps.Bound | Steps[traps.Bound]":
    extent = ring_extent(call)
    return _bind_now(kernel, call, None) if extent is None else _bind_ring(kernel, call, extent)


def _bind_ring(kernel: "Kernel", call: Call[traps.Bind], extent: Extent) -> "Steps[traps.Bound]":
    """Bind with *extent* as ring memory, once no other job works on it."""
    yield from extent.lock()
    try:
        bound = _bind_now(kernel, call, ring_extent(call))
        yield from extent.cut()
    finally:
        extent.unlock(kernel)
    return bound


def _bind_now(kernel: "Kernel", call: Call[traps.Bind], extent: Extent | None) -> traps.Bound:
    threads, bindings = kernel.threads, kernel.bindings
    intended = threads.find(call.trap.thread)
    sender = threads.own(call.caller, call.trap.sender)
    binding = bindings.bind(sender, intended)
    try:
        _hand_over(call, binding)
        if extent is not None:
            binding.ring = Ring(kernel.machine, extent)
            call.gives += binding.ring.begin(binding)
    except Exhausted:
        bindings.unbind(binding)
        raise
    call.undo = lambda: bindings.undo(binding)
    receiver = binding.receiver
    kernel.count(Counter.BINDS)
    kernel.trace.record(Event.BOUND, call.caller.number, receiver.id)
    return traps.Bound(
        number=receiver.number, token=binding.token, thread=receiver.id, ring=binding.ring_size
    )


def _hand_over(call: "Call[traps.Bind] | Call[traps.Identify]", binding: Binding) -> None:
    """Give the caller its ends of the tickets. Raises Exhausted."""
    for ticket in binding.tickets:
        call.gives.append(ticket.duplicate())


@handles(traps.Identify)
def _identify(kernel: "Kernel", call: Call[traps.Identify]) -> traps.Identified:
    kernel.count(Counter.IDENTIFIES)
    binding = _incoming(kernel, call)
    if binding is None:
        kernel.count(Counter.UNKNOWN_TOKENS)
        raise Refused(Refusal.UNKNOWN_TOKEN, "the message under it must be thrown away")
    _hand_over(call, binding)
    if binding.ring is not None:
        binding.ring.share(call.gives)
    sender = binding.sender
    return traps.Identified(
        thread=sender.id,
        environment=sender.environment.number,
        redirected=binding.redirected,
        ring=binding.ring_size,
    )


def _incoming(kernel: "Kernel", call: Call[traps.Identify] | Call[traps.Unbind]) -> Binding | None:
    """Return the binding by its token, if the caller's thread is its receiver."""
    try:
        receiver = kernel.threads.own(call.caller, call.trap.receiver)
    except Refused:
        return None
    return receiver.incoming.get(call.trap.token)


@handles(traps.Unbind)
def _unbind(kernel: "Kernel", call: Call[traps.Unbind]) -> "Steps[None] | None":
    binding = call.caller.outgoing.get(call.trap.token)
    if binding is not None:
        kernel.bindings.unbind(binding)
    elif (binding := _incoming(kernel, call)) is not None:
        return kernel.bindings.drop((binding,))
    else:
        raise Refused(Refusal.UNKNOWN_TOKEN, "")
    return None
