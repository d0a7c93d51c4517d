"""The traps on interrupt lines."""

from typing import TYPE_CHECKING

from kernel.abi import traps
from kernel.dispatch import CallTo, Handlers
from kernel.interrupts import Line

if TYPE_CHECKING:
    from kernel.kernel import Kernel


def _interrupt_bind(kernel: "Kernel", call: CallTo[traps.InterruptBind, Line]) -> None:
    line = call.resource
    if call.trap.bind:
        kernel.interrupts.bind(line, call.caller.first)
    elif line.handler is not None and line.handler.environment is call.caller:
        kernel.interrupts.unbind(line)


def _interrupt_mask(kernel: "Kernel", call: CallTo[traps.InterruptMask, Line]) -> None:
    kernel.interrupts.mask(call.resource, masked=call.trap.masked)


HANDLERS: Handlers = {traps.InterruptBind: _interrupt_bind, traps.InterruptMask: _interrupt_mask}
