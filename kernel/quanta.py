"""The end of a total quantum, as X.2 has it: a preemption message from the thread to its scheduler.

What a thread may use is the business of who writes the plans, and so is that it runs no more. Only the kernel
can speak for the thread, and reach a scheduler that the writer of plans was not given to call.
"""

from typing import TYPE_CHECKING

from kernel.abi import traps
from kernel.abi.kip import Head
from kernel.abi.messages import Label
from kernel.cpu import Processor
from kernel.dispatch import Call, handles

if TYPE_CHECKING:
    from kernel.kernel import Kernel


@handles(traps.Expire)
def _expire(kernel: "Kernel", call: Call[traps.Expire]) -> None:
    processor = call.capability.thing
    assert isinstance(processor, Processor)
    processor.member(call.trap.thread)
    thread = kernel.threads.find(call.trap.thread)
    scheduler = kernel.threads.known(thread.scheduler)
    if scheduler is None or scheduler.environment is call.caller:
        return
    clock = kernel.machine.clock.now() - kernel.kip.head(Head.BOOT_NS)
    words = (clock // 1000, 0)
    kernel.tell(scheduler.environment, Label.PREEMPTION, words, sender=thread.id, thread=scheduler.id)
