"""Thread control registers: a thread's knowledge of itself, and its requests to the kernel.

Every function acts on the calling thread's own registers; ExchangeRegisters reads and sets another thread's.
"""

from kernel.abi.ids import ThreadId
from kernel.abi.kip import Page
from libexo.l4.format.registers import Registers, current
from libexo.l4.format.words import WORD_MASK, within, word

__all__ = [
    "ActualSender",
    "Clr_CopFlag",
    "DisablePreemption",
    "DisablePreemptionFaultException",
    "EnablePreemption",
    "EnablePreemptionFaultException",
    "ErrorCode",
    "ExceptionHandler",
    "IntendedReceiver",
    "MyGlobalId",
    "MyLocalId",
    "Myself",
    "Pager",
    "PreemptionPending",
    "ProcessorNo",
    "Reset_WordSizeMask",
    "Set_CopFlag",
    "Set_ExceptionHandler",
    "Set_Pager",
    "Set_ThreadWord",
    "Set_UserDefinedHandle",
    "Set_VirtualSender",
    "Set_XferTimeouts",
    "ThreadWord",
    "UserDefinedHandle",
    "WordSizeMask",
    "XferTimeouts",
]

SIGNAL_PREEMPTION = 1 << 5
"""Preempt flag s: tell of preemptions."""
DELAY_PREEMPTION = 1 << 6
"""Preempt flag d: delay them."""
PREEMPTION_PENDING = 1 << 7
"""Preempt flag I: one was delayed."""

_COP_FLAGS = 8


def MyGlobalId() -> ThreadId:
    """Return the caller's global id."""
    return ThreadId(current().my_global_id)


def MyLocalId() -> ThreadId:
    """Return the caller's local id: the address of its UTCB."""
    return ThreadId(current().my_local_id)


def Myself() -> ThreadId:
    """Return the caller's global id."""
    return MyGlobalId()


def ProcessorNo() -> int:
    """Return the number of the processor whose plan the caller is under; 0: none."""
    return current().processor_no()


def UserDefinedHandle() -> int:
    """Return the word the program keeps with the thread."""
    return current().user_defined_handle


def Set_UserDefinedHandle(NewValue: int) -> None:
    """Set the word the program keeps with the thread."""
    current().user_defined_handle = word(NewValue)


def Pager() -> ThreadId:
    """Return the thread that gets the caller's page faults."""
    return ThreadId(current().pager)


def Set_Pager(NewPager: int) -> None:
    """Set the thread that gets the caller's page faults."""
    current().pager = word(NewPager, "thread id")


def ExceptionHandler() -> ThreadId:
    """Return the thread that gets the caller's exceptions."""
    return ThreadId(current().exception_handler)


def Set_ExceptionHandler(NewHandler: int) -> None:
    """Have thread *NewHandler* told of the caller's exceptions, and of the end of its environment.

    Of several threads of an environment, the last one to call this decides about the environment's end.
    """
    registers = current()
    registers.exception_handler = word(NewHandler)
    if registers.page is not None:
        registers.page[Page.EXCEPTION_HANDLER] = registers.exception_handler


def ErrorCode() -> int:
    """Return the code of the caller's last failed call: after an IPC a word of phase, code and offset."""
    return current().error_code


def XferTimeouts() -> int:
    """Return the time-outs of string transfers: for sends in bits 31..16, for receives in bits 15..0."""
    return current().xfer_timeouts


def Set_XferTimeouts(NewValue: int) -> None:
    """Set the time-outs of string transfers, as `Timeouts` packs them."""
    current().xfer_timeouts = word(NewValue, "time-outs")


def IntendedReceiver() -> ThreadId:
    """Return the thread for which the last message received was meant, when it was redirected."""
    return ThreadId(current().intended_receiver)


def ActualSender() -> ThreadId:
    """Return the thread that sent the last message received, when it was propagated."""
    return ThreadId(current().virtual_actual_sender)


def Set_VirtualSender(t: int) -> None:
    """Set the thread for which the next message is sent, when its tag has p."""
    current().virtual_actual_sender = word(t, "thread id")


def WordSizeMask() -> int:
    """Return the mask of the word size: all ones, unless a compatibility mode set it."""
    return current().word_size_mask


def Reset_WordSizeMask() -> None:
    """Make the mask of the word size all ones."""
    current().word_size_mask = WORD_MASK


def ThreadWord(n: int) -> int:
    """Return thread word *n* (0 or 1), whose use is up to libraries."""
    return current().thread_words[within(n, 0, len(current().thread_words) - 1, "thread word")]


def Set_ThreadWord(n: int, w: int) -> None:
    """Set thread word *n* (0 or 1)."""
    current().thread_words[within(n, 0, len(current().thread_words) - 1, "thread word")] = word(w)


def Set_CopFlag(n: int) -> None:
    """Note that the thread uses coprocessor *n* (0..7)."""
    current().cop_flags |= 1 << within(n, 0, _COP_FLAGS - 1, "coprocessor")


def Clr_CopFlag(n: int) -> None:
    """Note that the thread uses coprocessor *n* (0..7) no longer."""
    current().cop_flags &= ~(1 << within(n, 0, _COP_FLAGS - 1, "coprocessor"))


def EnablePreemptionFaultException() -> bool:
    """Ask to be told of preemptions: set flag s. Returns whether it was set.

    The headers of L4Ka::Pistachio for ia32 swap this and its opposite; the manual is followed.
    """
    return _raise(SIGNAL_PREEMPTION)


def DisablePreemptionFaultException() -> bool:
    """Ask not to be told of preemptions: clear flag s. Returns whether it was set."""
    return _drop(SIGNAL_PREEMPTION)


def EnablePreemption() -> bool:
    """Allow preemption at once: clear the delay flag d. Returns whether it was set.

    The headers of L4Ka::Pistachio for amd64 swap this and its opposite.
    """
    return _drop(DELAY_PREEMPTION)


def DisablePreemption() -> bool:
    """Ask for preemption to be delayed: set flag d. Returns whether it was set."""
    return _raise(DELAY_PREEMPTION)


def PreemptionPending() -> bool:
    """Say whether a preemption was delayed, and forget it: reads and clears flag I.

    If one was, the caller should give up the processor (`ThreadSwitch`) as soon as it can.
    """
    registers = current()
    if registers.page is not None and registers.page[Page.OVERDUE]:
        registers.page[Page.OVERDUE] = 0
        registers.preempt_flags |= PREEMPTION_PENDING
    return _drop(PREEMPTION_PENDING)


def _raise(flag: int) -> bool:
    """Set preempt flag *flag*; return whether it was set."""
    registers = current()
    was = bool(registers.preempt_flags & flag)
    if registers.page is not None and not registers.preempt_flags:
        registers.preemptions = registers.page[Page.PREEMPTIONS]  # it asked to be told from now on only
    registers.preempt_flags |= flag
    _show(registers)
    return was


def _drop(flag: int) -> bool:
    """Clear preempt flag *flag*; return whether it was set."""
    registers = current()
    was = bool(registers.preempt_flags & flag)
    registers.preempt_flags &= ~flag
    _show(registers)
    return was


def _show(registers: Registers) -> None:
    """Show flag d to the kernel. Of several threads of an environment, the last one to call this decides."""
    if registers.page is not None:
        registers.page[Page.CRITICAL] = bool(registers.preempt_flags & DELAY_PREEMPTION)
