"""The handlers of all traps: a module for each of `kernel.abi.traps`, with the same names in the same order.

`kernel.gate` does batches; ThreadControl and SpaceControl are in `kernel.x2`.
"""

from kernel.dispatch import Handlers
from kernel.traps import capability, device, environment, information, memory, paging, processor, thread

HANDLERS: Handlers = {
    **information.HANDLERS,
    **environment.HANDLERS,
    **thread.HANDLERS,
    **processor.HANDLERS,
    **capability.HANDLERS,
    **memory.HANDLERS,
    **paging.HANDLERS,
    **device.HANDLERS,
}
