"""Exceptions, as X.2 has them: what a thread cannot go on with is told to its exception handler.

A thread that ends with an exception of Python sends, as from an instruction that trapped, the generic layout: IP,
SP, FLAGS, exception number, error code, local id. The number is the signal a process would have got; the error code
is 0. The answer brings IP, SP and FLAGS to go on with. Without a handler, or one that is gone, the thread is halted
and its trace printed; whoever resumes it says where. When a whole environment dies by a signal, the kernel sends
the same message in its name, and nobody can go on: see `kernel.abi.kip.Page.EXCEPTION_HANDLER`.
"""

import signal
import sys
import traceback
from typing import TYPE_CHECKING

from kernel.abi.ids import NIL_THREAD
from kernel.abi.messages import Label
from libexo.l4.format.tag import MsgTag
from libexo.l4.format.times import Never, Timeouts

if TYPE_CHECKING:
    from libexo.l4.engine.context import Context

_SIGNALS: tuple[tuple[type[BaseException], int], ...] = (
    (ArithmeticError, signal.SIGFPE),
    (MemoryError, signal.SIGSEGV),
    (LookupError, signal.SIGSEGV),
)
_WORDS = 6
_RELOADED = 3


class NoEntry(Exception):
    """A thread is to begin where nothing is."""


def number(error: BaseException) -> int:
    """Return the exception number of *error*: the signal that stands for its like."""
    if isinstance(error, NoEntry):
        return signal.SIGILL
    return next((int(each) for kind, each in _SIGNALS if isinstance(error, kind)), int(signal.SIGABRT))


def handle(own: "Context", error: Exception) -> None:
    """Tell the handler of the calling thread about *error*; on return the thread goes on where it was told to."""
    registers = own.registers
    handler = registers.exception_handler
    if handler != NIL_THREAD:
        words = (own.ip, own.sp, own.flags, number(error), 0, own.local)
        registers.mr[: _WORDS + 1] = (int(MsgTag.of(Label.EXCEPTION, u=_WORDS)), *words)
        _, answer = own.ipc(handler, handler, Timeouts(Never, Never))
        if not answer.E and answer.u >= _RELOADED:
            own.ip, own.sp, own.flags = registers.mr[1 : 1 + _RELOADED]
            return
    traceback.print_exception(error, file=sys.stderr)
    own.halt()
