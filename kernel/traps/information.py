"""The trap that tells an environment its own names, and shows it the exposed pages."""

from typing import TYPE_CHECKING

from kernel.abi import traps
from kernel.dispatch import Call, Handlers

if TYPE_CHECKING:
    from kernel.kernel import Kernel


def _kernel_interface(kernel: "Kernel", call: Call[traps.KernelInterface]) -> traps.Interface:
    caller, utcb = call.caller, call.caller.utcb_area or range(0)
    call.gives.append(kernel.kip.descriptor())
    call.gives.append(caller.shared.descriptor(writable=True))
    call.gives.append(kernel.exposure.trace.descriptor())
    return traps.Interface(
        thread=caller.thread,
        environment=caller.number,
        kip_size=kernel.kip.size,
        trace_size=kernel.exposure.trace.size,
        utcb_area=(utcb.start, utcb.stop),
        kip_area=(caller.kip_area.start, caller.kip_area.stop),
    )


HANDLERS: Handlers = {traps.KernelInterface: _kernel_interface}
