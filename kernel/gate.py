"""The trap gate: the one way in (decode, look the handle and its rights up, handler) and the one way out."""

from typing import TYPE_CHECKING, Any

import msgspec

from hwmodel.machine import Exhausted
from kernel.abi import gate, traps
from kernel.abi.errors import Fault, Refusal
from kernel.abi.events import Event
from kernel.abi.gate import Status
from kernel.abi.kip import Counter
from kernel.dispatch import HANDLERS, Call, handles
from kernel.errors import Faulted, Refused

if TYPE_CHECKING:
    from hwmodel.machine import Descriptor
    from kernel.environment import Environment
    from kernel.kernel import Kernel

_DECODER = msgspec.msgpack.Decoder(traps.AnyTrap)
_ENCODER = msgspec.msgpack.Encoder()
_DONE = bytes([Status.DONE])
_REFUSED = bytes([Status.REFUSED])
_FIRST_FIELD = {trap: trap.__struct_fields__[0] for trap in traps.TRAPS.values() if trap.needs is not None}
_NUMBER = {trap: number for number, trap in traps.TRAPS.items()}


class Gate:
    """Takes packets of environments, and answers each once."""

    def __init__(self, kernel: "Kernel") -> None:
        """Serve the traps of *kernel*."""
        self._kernel = kernel

    def enter(self, caller: "Environment", data: bytes, descriptors: "list[Descriptor]") -> None:
        """Do one trap and answer it; a caller that broke the contract is ended instead."""
        gives: list[Descriptor] = []
        try:
            trap = _decode(data)
            answer = self.perform(caller, trap, descriptors, gives)
        except Faulted as faulted:
            self._kernel.environments.fault(caller, faulted.fault, faulted.detail)
        else:
            sent, gives = gives, []
            if not caller.body.port.send(answer, sent):
                self._kernel.environments.fault(caller, Fault.GATE_OVERRUN, type(trap).__name__)
        finally:
            for descriptor in (*descriptors, *gives):
                descriptor.close()

    def perform(
        self,
        caller: "Environment",
        trap: traps.Trap,
        descriptors: "list[Descriptor]",
        gives: "list[Descriptor]",
    ) -> bytes:
        """Do *trap* and return the answer; *gives* collects the descriptors that go with it."""
        kind = type(trap)
        if descriptors and not kind.takes_descriptors:
            raise Faulted(Fault.EXTRA_DESCRIPTORS, kind.__name__)
        call: Call[Any] = Call(caller, trap, descriptors)
        self._kernel.kip.count_trap(caller.number)
        try:
            _check_capability(call)
            result = _handle(self._kernel, call)
        except Refused as refused:
            for descriptor in call.gives:
                descriptor.close()
            return self._refuse(caller, kind, refused)
        self._kernel.trace.record(Event.TRAP, caller.number, _NUMBER[kind])
        gives += call.gives
        return _DONE if result is None else _DONE + _ENCODER.encode(result)

    def _refuse(self, caller: "Environment", kind: type[traps.Trap], refused: Refused) -> bytes:
        self._kernel.count(Counter.REFUSALS)
        self._kernel.trace.record(Event.TRAP, caller.number, _NUMBER[kind], refused.refusal)
        return _REFUSED + _ENCODER.encode(gate.Refused(int(refused.refusal), refused.detail))


def _handle(kernel: "Kernel", call: Call[Any]) -> Any:  # noqa: ANN401 - each trap has its own result
    """Do a trap. Raises Refused, also for want of what the host would have to lend."""
    try:
        return HANDLERS[type(call.trap)](kernel, call)
    except Exhausted as exhausted:
        raise Refused(Refusal.HOST_FULL, str(exhausted)) from exhausted


def _decode(data: bytes) -> traps.Trap:
    try:
        trap: traps.Trap = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Faulted(Fault.MALFORMED_TRAP, str(error)) from None
    return trap


def _check_capability(call: Call[Any]) -> None:
    """Look the trap's first argument up, if it is a handle, and check its kind and rights. Raises Refused."""
    needs = call.trap.needs
    if needs is None:
        return
    kind, rights = needs
    table, name = call.caller.table, getattr(call.trap, _FIRST_FIELD[type(call.trap)])
    capability = table.find(name) if call.trap.takes_offers else table.lookup(name)
    if kind is not None and capability.thing.kind is not kind:
        raise Refused(Refusal.WRONG_KIND, f"{capability.thing.kind.name}, not {kind.name}")
    if rights & ~capability.rights:
        raise Refused(Refusal.MISSING_RIGHT, f"needs {rights!r}, has {capability.rights!r}")
    call.capability = capability


@handles(traps.KernelInterface)
def _kernel_interface(kernel: "Kernel", call: Call[traps.KernelInterface]) -> traps.Interface:
    caller = call.caller
    call.gives += (
        kernel.kip.descriptor(),
        caller.shared.descriptor(writable=True),
        kernel.trace.descriptor(),
    )
    return traps.Interface(
        thread=caller.thread,
        environment=caller.number,
        kip_size=kernel.kip.size,
        trace_size=kernel.trace.size,
        utcb_area=_ends(caller.utcb_area or range(0)),
        kip_area=_ends(caller.kip_area),
    )


def _ends(area: range) -> tuple[int, int]:
    return area.start, area.stop


@handles(traps.Batch)
def _batch(kernel: "Kernel", call: Call[traps.Batch]) -> tuple[bytes, ...]:
    return tuple(kernel.gate.perform(call.caller, trap, [], call.gives) for trap in call.trap.traps)
