"""The trap gate: the one way in (decode, look the handle and its rights up, handler) and the one way out.

A trap that has much to do goes on as a job (`kernel.jobs`). Until it is answered, its caller's gate is not read.
"""

from types import GeneratorType
from typing import TYPE_CHECKING, Any

import msgspec

from hwmodel.machine import Exhausted
from kernel.abi import gate, traps
from kernel.abi.errors import Fault, Refusal
from kernel.abi.events import Event
from kernel.abi.gate import Status
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_ANSWERS
from kernel.abi.rights import Rights
from kernel.dispatch import Answer, Call, CallTo, Handlers
from kernel.errors import Faulted, Refused
from kernel.jobs import Latch
from kernel.traps import HANDLERS

if TYPE_CHECKING:
    from hwmodel.machine import Descriptor
    from kernel.environment import Environment
    from kernel.jobs import Steps
    from kernel.kernel import Kernel

_DECODER = msgspec.msgpack.Decoder(traps.AnyTrap)
_ENCODER = msgspec.msgpack.Encoder()
_DONE = bytes([Status.DONE])
_REFUSED = bytes([Status.REFUSED])
_MOMENT = 5_000_000
"""Nanoseconds after which an answer that the host would not take is sent again."""
_AT_ONCE = 8
"""Traps of a batch that are done without becoming a job."""
_TOO_LONG = Refused(Refusal.HOST_FULL, "the answers of the batch leave no room for this one: ask again")
_NEEDS = {
    trap: (trap.__struct_fields__[0], trap.needs[0], int(trap.needs[1]))
    for trap in traps.TRAPS.values()
    if trap.needs is not None
}
"""Of the first argument of a trap: its name, of which kind it must be, and which rights it must have.

Members of an enum take ten times as long as the numbers that they are.
"""
_NUMBER = {trap: number for number, trap in traps.TRAPS.items()}


class Gate:
    """Takes packets of environments, and answers each once."""

    def __init__(self, kernel: "Kernel") -> None:
        """Serve the traps of *kernel*."""
        self._kernel = kernel
        self._exposure = kernel.exposure
        self._handlers: Handlers = {**HANDLERS, traps.Batch: self._batch}

    def enter(self, caller: "Environment", data: bytes, descriptors: "list[Descriptor]") -> None:
        """Do one trap and answer it; a caller that broke the contract is ended instead."""
        try:
            trap = _decode(data)
            answer = self.perform(caller, trap, descriptors)
        except Faulted as faulted:
            self._kernel.environments.fault(caller, faulted.fault, faulted.detail)
            _close(descriptors)
            return
        if isinstance(answer, Answer) and self._send(caller, trap, answer):
            _close(descriptors)
            return
        steps, port = self._finish(caller, trap, answer, descriptors), caller.body.port
        if not self._kernel.jobs.begin(steps, port.resume, _NUMBER[type(trap)]):
            port.hold()

    def _finish(
        self,
        caller: "Environment",
        trap: traps.Trap,
        answer: "Answer | Steps[Answer]",
        descriptors: "list[Descriptor]",
    ) -> "Steps[None]":
        """Do the rest of a trap, and answer it if its caller still lives."""
        answer = answer if isinstance(answer, Answer) else (yield from answer)
        while caller.alive and not caller.fault:
            if self._send(caller, trap, answer):
                answer.call = None
                break
            yield self._wait()
        _close([*answer.gives(), *descriptors])

    def _wait(self) -> Latch:
        """Return a latch that opens after a moment."""
        latch, clock = Latch(), self._kernel.machine.clock
        clock.alarm(clock.now() + _MOMENT, latch.open)
        return latch

    def _send(self, caller: "Environment", trap: traps.Trap, answer: Answer) -> bool:
        """Answer, unless nobody waits; False: the host cannot now. A caller that does not read is ended.

        The host's limits on us are not the caller's fault: a trap whose descriptors cannot be sent is refused, and
        undone.
        """
        port = caller.body.port
        if isinstance(trap, traps.Supply) and trap.quiet:
            return True
        try:
            heard = port.send(answer.data, answer.gives())
        except Exhausted as exhausted:
            answer.data = _without_gifts(answer, _refusal(Refused(Refusal.HOST_FULL, str(exhausted))))
            answer.call = None
            try:
                heard = port.send(answer.data)
            except Exhausted:
                return False
        if not heard:
            self._kernel.environments.fault(caller, Fault.GATE_OVERRUN, type(trap).__name__)
        return True

    def perform(
        self, caller: "Environment", trap: traps.Trap, descriptors: "list[Descriptor]"
    ) -> "Answer | Steps[Answer]":
        """Do *trap* and return the answer, or the steps to it."""
        kind = type(trap)
        if descriptors and not kind.takes_descriptors:
            raise Faulted(Fault.EXTRA_DESCRIPTORS, kind.__name__)
        call: Call[Any] = (Call if kind.needs is None else CallTo)(caller, trap, descriptors)
        self._exposure.kip.count_trap(caller.number, _NUMBER[kind])
        try:
            if isinstance(call, CallTo):
                _look_up(call, kind)
            result = self._handlers[kind](self._kernel, call)
        except (Refused, Exhausted) as refused:
            return self._refuse(call, refused)
        return self._carry_on(call, result) if isinstance(result, GeneratorType) else self._done(call, result)

    def _batch(
        self, _kernel: "Kernel", call: Call[traps.Batch]
    ) -> "tuple[bytes, ...] | Steps[tuple[bytes, ...]]":
        """Do the traps one by one; where one has much to do, or there are many, the rest in steps."""
        parts = call.parts = list[Answer]()
        late = self._kernel.machine.late
        for at, trap in enumerate(call.trap.traps):
            answer = self.perform(call.caller, trap, [])
            if not isinstance(answer, Answer) or at == _AT_ONCE or late():
                return self._rest(call, parts, answer)
            parts.append(answer)
        return tuple(part.data for part in parts)

    def _rest(
        self, call: Call[traps.Batch], parts: list[Answer], answer: "Answer | Steps[Answer]"
    ) -> "Steps[tuple[bytes, ...]]":
        """Do the rest of a batch, of which one *answer* is under way."""
        parts.append(answer if isinstance(answer, Answer) else (yield from answer))
        room = MAX_ANSWERS - sum(len(part.data) for part in parts)
        for trap in call.trap.traps[len(parts) :]:
            yield None
            if not call.caller.alive:
                break
            answer = self.perform(call.caller, trap, []) if room > 0 else self._refuse(call, _TOO_LONG)
            parts.append(answer if isinstance(answer, Answer) else (yield from answer))
            room -= len(parts[-1].data)
        return tuple(part.data for part in parts)

    def _carry_on(self, call: Call[Any], steps: "Steps[Any]") -> "Steps[Answer]":
        """Do the steps of a handler."""
        try:
            result = yield from steps
        except (Refused, Exhausted) as refused:
            return self._refuse(call, refused)
        return self._done(call, result)

    def _done(self, call: Call[Any], result: Any) -> Answer:  # noqa: ANN401 - each trap has its own result
        self._exposure.trace.record(Event.TRAP, call.caller.number, _NUMBER[type(call.trap)])
        return Answer(_DONE if result is None else _DONE + _ENCODER.encode(result), call)

    def _refuse(self, call: Call[Any], why: Refused | Exhausted) -> Answer:
        """Answer that the trap was not done: refused, or the host had no room."""
        _close(call.gives)
        refused = why if isinstance(why, Refused) else Refused(Refusal.HOST_FULL, str(why))
        self._exposure.count(Counter.REFUSALS)
        self._exposure.trace.record(Event.TRAP, call.caller.number, _NUMBER[type(call.trap)], refused.refusal)
        return Answer(_refusal(refused))


def _refusal(refused: Refused) -> bytes:
    return _REFUSED + _ENCODER.encode(gate.Refused(int(refused.refusal), refused.detail))


def _without_gifts(answer: Answer, refusal: bytes) -> bytes:
    """Return what is sent instead of *answer*, when no descriptors can be sent."""
    call = answer.call
    if call is None or not answer.gives():
        return answer.data
    if call.parts:
        return _DONE + _ENCODER.encode([_without_gifts(part, refusal) for part in call.parts])
    return answer.data if call.undo() else refusal


def _close(descriptors: "list[Descriptor]") -> None:
    for descriptor in descriptors:
        descriptor.close()


def _decode(data: bytes) -> traps.Trap:
    try:
        trap: traps.Trap = _DECODER.decode(data)
    except gate.UNDECODABLE as error:
        raise Faulted(Fault.MALFORMED_TRAP, str(error)) from None
    return trap


def _look_up(call: CallTo[Any, Any], trap: type[traps.Trap]) -> None:
    """Look up the handle that is the first argument of *trap*; check kind and rights. Raises Refused."""
    field, kind, rights = _NEEDS[trap]
    table, name = call.caller.table, getattr(call.trap, field)
    capability = table.find(name) if trap.takes_offers else table.lookup(name)
    if kind is not None and capability.resource.kind is not kind:
        raise Refused(Refusal.WRONG_KIND, f"{capability.resource.kind.name}, not {kind.name}")
    if rights & ~int(capability.rights):
        raise Refused(Refusal.MISSING_RIGHT, f"needs {Rights(rights)!r}, has {capability.rights!r}")
    call.capability = capability
