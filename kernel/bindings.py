"""Bindings: the right to send to a thread, checked once.

Each has a way of its own. Its sender is given the name of an end point that nobody else knows, to connect to, and
an unguessable token, by which it says there which binding it is. When it has connected, the receiver is told once
that a sender is there, however many bind meanwhile, and asks which. Both sides then hold everything they need, two
tickets each included; the kernel keeps no descriptor and is out of the path. A binding falls when either side
ends. Then the epoch in the KIP is raised, and receivers ask again whose their tokens are.

*Redirection* (X.2) is decided here, because it can be enforced nowhere else. An environment with a redirector
gets bindings to that thread only, whatever thread it asks for, except to threads of its own environment and of the
redirector's. When its redirector is set, changed or removed, the bindings that would now lead elsewhere fall.
Its threads are told that the receiver went, and bind again. Answers are not redirected: they go back over the
caller's binding, so a redirected environment may answer any thread that is bound to it.

A binding may have a ring, memory that both sides map (`kernel.rings`).
"""

import struct
from typing import TYPE_CHECKING

from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.limits import MAX_BINDINGS, MAX_BINDINGS_TO_ONE
from kernel.abi.messages import Label
from kernel.environment import RING_DESCRIPTORS, Binding, Environment, Thread
from kernel.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwmodel.machine import Machine
    from kernel.abi.ids import ThreadId
    from kernel.exposure import Exposure
    from kernel.jobs import Steps


_TOKEN = struct.Struct("<QQ")


class Bindings:
    """All bindings; each is listed in its sender's environment and at its receiver."""

    def __init__(self, machine: "Machine", exposure: "Exposure") -> None:
        """Start with none."""
        self._machine = machine
        self._exposure = exposure

    def bind(self, sender: Thread, intended: Thread) -> Binding:
        """Bind *sender* to *intended*, or to its own redirector. Raises Refused, Exhausted."""
        environment = sender.environment
        environment.check_list(intended.environment)
        receiver = environment.route(intended)
        if len(environment.outgoing) >= MAX_BINDINGS:
            raise Refused(Refusal.TOO_MANY_BINDINGS, f"{MAX_BINDINGS} bindings")
        if sum(each.receiver is receiver for each in environment.outgoing.values()) >= MAX_BINDINGS_TO_ONE:
            raise Refused(Refusal.TOO_MANY_BINDINGS, f"{MAX_BINDINGS_TO_ONE} bindings to {receiver}")
        environment.budget.check(Item.BINDINGS)
        environment.budget.check(Item.DESCRIPTORS, RING_DESCRIPTORS)
        binding = Binding(self._machine, sender, receiver, intended, self._connected)
        environment.outgoing[binding.token] = receiver.incoming[binding.token] = binding
        environment.budget.hold(Item.BINDINGS)
        environment.budget.hold(Item.DESCRIPTORS, binding.descriptors)
        return binding

    def _connected(self, binding: Binding) -> None:
        """Hand the binding to its receiver: its sender has connected."""
        receiver = binding.receiver
        receiver.arrived[binding.token] = binding
        if not receiver.told:
            self.announce(receiver)

    def announce(self, receiver: Thread) -> None:
        """Tell *receiver* that a sender waits; it is not told again before it has asked."""
        receiver.told = True
        self._exposure.tell(receiver.environment, Label.BOUND, (), thread=receiver.id)

    def unbind(self, binding: Binding) -> None:
        """End *binding*. Twice is harmless."""
        binding.receiver.incoming.pop(binding.token, None)
        binding.receiver.arrived.pop(binding.token, None)
        if binding.home.outgoing.pop(binding.token, None) is None:
            return
        binding.home.budget.release(Item.BINDINGS)
        binding.home.budget.release(Item.DESCRIPTORS, binding.descriptors)
        binding.close()
        self._exposure.kip.raise_epoch()

    def end(self, binding: Binding) -> None:
        """End *binding* alone: its sender is told which, since others to the same receiver stand."""
        words = binding.receiver.id, *_TOKEN.unpack(binding.token)
        self._exposure.tell(binding.sender.environment, Label.UNBOUND, words, thread=binding.sender.id)
        self.unbind(binding)

    def fall(self, thread: Thread) -> "Steps[None]":
        """Cut off every binding of *thread*, which is gone; the steps end them and tell its callers."""
        incoming = (binding for binding in self._cut_off(thread) if binding.sender is not thread)
        return self._fall(incoming, [b for b in thread.environment.outgoing.values() if b.sender is thread])

    def _fall(self, incoming: "Iterable[Binding]", outgoing: "Iterable[Binding]") -> "Steps[None]":
        yield from self.drop(incoming)
        for binding in outgoing:
            self.unbind(binding)
            yield None

    def renamed(self, thread: Thread) -> "Steps[None]":
        """End every binding to *thread* and tell those who use its old id. Its own bindings carry the new id."""
        fallen, before = self._cut_off(thread), thread.id
        thread.told = False  # by its old id
        self._exposure.kip.raise_epoch()
        return self.drop(fallen, before)

    def _cut_off(self, thread: Thread) -> "Iterable[Binding]":
        """Take all bindings to *thread* off its list and return them."""
        fallen, thread.incoming = thread.incoming, {}
        return fallen.values()

    def reroute(self, environment: Environment) -> "Steps[None]":
        """End the bindings of *environment* that would now lead elsewhere; its threads hear that receivers went."""
        outgoing = environment.outgoing.values()
        return self.drop([b for b in outgoing if environment.leads(b.intended) is not b.receiver])

    def drop(self, bindings: "Iterable[Binding]", gone: "ThreadId | None" = None) -> "Steps[None]":
        """Tell each sender once that its receiver (by the id *gone*) went, before its bindings end."""
        told: set[tuple[Thread, Thread]] = set()
        for binding in bindings:
            sender, receiver = binding.sender, binding.receiver
            if (sender, receiver) not in told:
                told.add((sender, receiver))
                words = (receiver.id if gone is None else gone, *receiver.environment.end)
                self._exposure.tell(sender.environment, Label.PARTNER_GONE, words, thread=sender.id)
            self.unbind(binding)
            yield None
