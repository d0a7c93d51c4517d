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
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.events import Event
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_BINDINGS
from kernel.abi.messages import Label
from kernel.dispatch import Call, handles
from kernel.errors import Refused
from kernel.rings import Ring, ring_extent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwmodel.machine import Descriptor, Machine
    from kernel.environment import Environment
    from kernel.kernel import Kernel
    from kernel.thread import Thread


_DESCRIPTORS, _RING_DESCRIPTORS = 2, 4
"""What the kernel holds for a binding: the tickets; with a ring, the receiver's ends of the doorbells as well."""


class Binding:
    """One thread's right to send to another."""

    __slots__ = ("intended", "receiver", "ring", "sender", "tickets", "token")

    def __init__(self, machine: "Machine", sender: "Thread", receiver: "Thread", intended: "Thread") -> None:
        """Bind *sender* to *receiver*, to reach *intended*. Raises Exhausted."""
        self.sender = sender
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
    def descriptors(self) -> int:
        """How many descriptors the kernel holds for it."""
        return _DESCRIPTORS if self.ring is None else _RING_DESCRIPTORS

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
        environment.budget.check(Item.BINDINGS)
        environment.budget.check(Item.DESCRIPTORS, _RING_DESCRIPTORS)
        self._kernel.threads.endpoint(receiver.number)
        binding = Binding(self._kernel.machine, sender, receiver, intended)
        environment.outgoing[binding.token] = receiver.incoming[binding.token] = binding
        environment.budget.hold(Item.BINDINGS)
        environment.budget.hold(Item.DESCRIPTORS, binding.descriptors)
        return binding

    def unbind(self, binding: Binding) -> None:
        """End *binding*."""
        environment = binding.sender.environment
        del environment.outgoing[binding.token], binding.receiver.incoming[binding.token]
        environment.budget.release(Item.BINDINGS)
        environment.budget.release(Item.DESCRIPTORS, binding.descriptors)
        for ticket in binding.tickets:
            ticket.close()
        if binding.ring is not None:
            binding.ring.close()
        self._kernel.kip.raise_epoch()

    def fall(self, thread: "Thread") -> None:
        """End every binding of *thread*, which is gone; its callers are told."""
        self.drop(binding for binding in thread.incoming.values() if binding.sender is not thread)
        outgoing = thread.environment.outgoing.values()
        for binding in [binding for binding in outgoing if binding.sender is thread]:
            self.unbind(binding)

    def renamed(self, thread: "Thread") -> None:
        """End every binding to *thread*: who asked for it by this id is told. Its own are of its new id."""
        self.drop(thread.incoming.values())
        self._kernel.kip.raise_epoch()

    def reroute(self, environment: "Environment") -> None:
        """End the bindings of *environment* that would now lead elsewhere; it is told that the receiver went."""
        self.drop(b for b in environment.outgoing.values() if environment.leads(b.intended) is not b.receiver)

    def drop(self, bindings: "Iterable[Binding]") -> None:
        """Tell each sender once that its receiver went, then end *bindings*: the reason is there before."""
        fallen = list(bindings)
        for sender, receiver in dict.fromkeys((binding.sender, binding.receiver) for binding in fallen):
            words = (receiver.id, *receiver.environment.end)
            self._kernel.tell(sender.environment, Label.PARTNER_GONE, words, thread=sender.id)
        for binding in fallen:
            self.unbind(binding)


@handles(traps.Bind)
def _bind(kernel: "Kernel", call: Call[traps.Bind]) -> traps.Bound:
    threads, bindings = kernel.threads, kernel.bindings
    intended = threads.find(call.trap.thread)
    sender = threads.own(call.caller, call.trap.sender)
    extent = ring_extent(call)
    binding = bindings.bind(sender, intended)
    try:
        _hand_over(call, binding)
        if extent is not None:
            binding.ring = Ring(kernel.machine, extent)
            call.caller.budget.hold(Item.DESCRIPTORS, binding.descriptors - _DESCRIPTORS)
            call.gives += binding.ring.begin(binding)
    except Exhausted:
        bindings.unbind(binding)
        raise
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
def _unbind(kernel: "Kernel", call: Call[traps.Unbind]) -> None:
    binding = call.caller.outgoing.get(call.trap.token)
    if binding is not None:
        kernel.bindings.unbind(binding)
    elif (binding := _incoming(kernel, call)) is not None:
        kernel.bindings.drop((binding,))
    else:
        raise Refused(Refusal.UNKNOWN_TOKEN, "")


@handles(traps.WaitPage)
def _wait_page(kernel: "Kernel", call: Call[traps.WaitPage]) -> None:
    partner = _partner(kernel, call)
    call.gives.append(partner.environment.shared.descriptor(writable=False))


@handles(traps.Sends)
def _sends(kernel: "Kernel", call: Call[traps.Sends]) -> bool:
    partner, to = _partner(kernel, call), call.trap.to
    outgoing = partner.environment.outgoing.values()
    return any(b.tickets[0].posted() for b in outgoing if b.sender is partner and b.intended.id == to)


def _partner(kernel: "Kernel", call: Call[traps.WaitPage] | Call[traps.Sends]) -> "Thread":
    """Return the thread the trap is about. Raises Refused unless the caller is bound to its environment."""
    partner = kernel.threads.find(call.trap.thread)
    if not call.caller.calls(partner.environment):
        raise Refused(Refusal.MAY_NOT_BIND, f"{call.caller.name} is not bound to {partner.environment.name}")
    return partner
