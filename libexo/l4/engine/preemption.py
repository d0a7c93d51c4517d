"""Preemptions, as a thread hears of them that set preempt flags: told when it next enters an IPC.

The kernel takes the processor from an environment, and counts that in the environment page. What X.2 tells at the
instruction a thread is resumed at is told here in the thread's next IPC, once for all preemptions before it.

- Flag *s*, and not *d*: a preemption message (label -3) to the exception handler, not answered.
- Flag *d*: the kernel puts the end of a slice off, for a millisecond at most, and shows that as flag *I*. A thread
  that did not give up the processor by then was preempted nevertheless: it loses d and I, and calls the exception
  handler (label -4), whose answer lets it go on.

Both messages are two words: the clock in microseconds, and 0, its upper half where words are shorter. Without a
handler, or with one that is gone, the thread goes on untold. A thread whose preemption was not put off, because one
of a higher priority had come, is told nothing. Sources: L4 X.2 reference manual, rev. 7; the exception handler is
told as in mung, where L4Ka::Pistachio would tell the scheduler.
"""

from typing import TYPE_CHECKING

from kernel.abi.ids import NIL_THREAD
from kernel.abi.kip import Page
from kernel.abi.messages import Label
from libexo.l4.engine.fault import preserved
from libexo.l4.format.tag import MsgTag
from libexo.l4.format.tcrs import DELAY_PREEMPTION, PREEMPTION_PENDING, SIGNAL_PREEMPTION
from libexo.l4.format.times import Never, Timeouts, ZeroTime

if TYPE_CHECKING:
    from libexo.l4.engine.context import Context

_WORDS = 2


def tell(own: "Context") -> None:
    """Tell the handler of the calling thread, which has preempt flags set, of preemptions since the last time."""
    registers = own.registers
    page = registers.page
    if page is None or page[Page.PREEMPTIONS] == registers.preemptions:
        return
    registers.preemptions = page[Page.PREEMPTIONS]
    if not registers.preempt_flags & DELAY_PREEMPTION:
        if registers.preempt_flags & SIGNAL_PREEMPTION:
            _send(own, Label.PREEMPTION, answered=False)
    elif page[Page.OVERDUE]:
        registers.preempt_flags &= ~(DELAY_PREEMPTION | PREEMPTION_PENDING)
        page[Page.CRITICAL] = page[Page.OVERDUE] = 0
        _send(own, Label.SYSTEM_EXCEPTION, answered=True)


def _send(own: "Context", label: Label, *, answered: bool) -> None:
    """Send the clock to the exception handler; to the thread nothing has happened."""
    registers = own.registers
    handler = registers.exception_handler
    if handler == NIL_THREAD:
        return
    with preserved(registers):
        registers.mr[: _WORDS + 1] = (int(MsgTag.of(label, u=_WORDS)), own.clock(), 0)
        registers.br[0] = 0
        if answered:
            own.ipc(handler, handler, Timeouts(Never, Never))
        else:
            own.ipc(handler, NIL_THREAD, Timeouts(Never, ZeroTime))
