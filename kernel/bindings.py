"""Bindings: the right to send to a thread, checked once.

The sender gets an unguessable token, its routing id at the receiver's socket; the receiver asks once whose it
is. Then the kernel is out of the path. A binding falls when either side ends; the epoch in the KIP is raised,
and receivers forget what they were told.
"""

from typing import TYPE_CHECKING

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.events import Event
from kernel.abi.ids import thread_number
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_BINDINGS
from kernel.abi.messages import Label
from kernel.dispatch import Call, handles
from kernel.errors import Refused

if TYPE_CHECKING:
    from hwmodel.machine import Descriptor
    from kernel.environment import Environment
    from kernel.kernel import Kernel


class Binding:
    """One sender's right to send to one receiver."""

    __slots__ = ("receiver", "sender", "ticket", "token")

    def __init__(
        self, token: bytes, sender: "Environment", receiver: "Environment", ticket: "Descriptor"
    ) -> None:
        """Bind *sender* to *receiver*."""
        self.token = token
        self.sender = sender
        self.receiver = receiver
        self.ticket = ticket


class Bindings:
    """All bindings; each stands in its sender's and in its receiver's table."""

    def __init__(self, kernel: "Kernel") -> None:
        """Start with none."""
        self._kernel = kernel

    def bind(self, sender: "Environment", receiver: "Environment") -> Binding:
        """Bind *sender* to *receiver*. Raises Refused."""
        sender.check_may_bind(receiver)
        if len(sender.outgoing) >= MAX_BINDINGS:
            raise Refused(Refusal.TOO_MANY_BINDINGS, f"{MAX_BINDINGS} bindings")
        machine = self._kernel.machine
        self._kernel.threads.endpoint(thread_number(receiver.thread))
        binding = Binding(machine.token(), sender, receiver, machine.ticket())
        sender.outgoing[binding.token] = receiver.incoming[binding.token] = binding
        return binding

    def unbind(self, binding: Binding) -> None:
        """End *binding*."""
        del binding.sender.outgoing[binding.token], binding.receiver.incoming[binding.token]
        binding.ticket.close()
        self._kernel.kip.raise_epoch()

    def fall(self, environment: "Environment") -> None:
        """End every binding of *environment*, which is gone; its callers are told."""
        # Who sees the new epoch finds the reason in his gate.
        for caller in {binding.sender: None for binding in environment.incoming.values()}:
            self._kernel.tell(caller, Label.PARTNER_GONE, (environment.thread,))
        for binding in (environment.outgoing | environment.incoming).values():
            self.unbind(binding)


@handles(traps.Bind)
def _bind(kernel: "Kernel", call: Call[traps.Bind]) -> traps.Bound:
    receiver = kernel.threads.living(call.trap.thread)
    binding = kernel.bindings.bind(call.caller, receiver)
    call.gives.append(binding.ticket.duplicate())
    kernel.count(Counter.BINDS)
    kernel.trace.record(Event.BOUND, call.caller.number, receiver.thread)
    return traps.Bound(number=thread_number(receiver.thread), token=binding.token)


@handles(traps.Identify)
def _identify(kernel: "Kernel", call: Call[traps.Identify]) -> traps.Identified:
    kernel.count(Counter.IDENTIFIES)
    binding = call.caller.incoming.get(call.trap.token)
    if binding is None:
        kernel.count(Counter.UNKNOWN_TOKENS)
        raise Refused(Refusal.UNKNOWN_TOKEN, "the message under it must be thrown away")
    call.gives.append(binding.ticket.duplicate())
    return traps.Identified(thread=binding.sender.thread, environment=binding.sender.number)


@handles(traps.Unbind)
def _unbind(kernel: "Kernel", call: Call[traps.Unbind]) -> None:
    binding = call.caller.outgoing.get(call.trap.token)
    if binding is None:
        raise Refused(Refusal.UNKNOWN_TOKEN, "")
    kernel.bindings.unbind(binding)
