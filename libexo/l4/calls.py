"""The other system calls of X.2, and the functions made of them: threads, spaces, processors, the clock.

A call that fails returns 0 and leaves the reason in ErrorCode (`libexo.l4.format.constants`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.ids import NIL_THREAD
from kernel.abi.program import Program, ProgramKind, Role
from libexo.errors import Ended, TrapRefused
from libexo.l4.engine.start import engine
from libexo.l4.entries import entry_modules
from libexo.l4.format.constants import (
    ErrInvalidParam,
    ErrInvalidScheduler,
    ErrInvalidSpace,
    ErrInvalidThread,
    ErrKipArea,
    ErrNoMem,
    ErrNoPrivilege,
    ErrUtcbArea,
)
from libexo.l4.format.words import word
from libexo.l4.spaces import MODULES

if TYPE_CHECKING:
    from libexo.host.base import Host
    from libexo.transport.base import Descriptor

__all__ = [
    "AssociateInterrupt",
    "DeassociateInterrupt",
    "ProcessorControl",
    "SpaceControl",
    "SystemClock",
    "ThreadControl",
]

_CODES: Final = {
    Refusal.NO_PRIVILEGE: ErrNoPrivilege,
    Refusal.NO_SUCH_THREAD: ErrInvalidThread,
    Refusal.STALE_THREAD: ErrInvalidThread,
    Refusal.LINE_BUSY: ErrInvalidThread,
    Refusal.NO_SUCH_SPACE: ErrInvalidSpace,
    Refusal.BAD_SCHEDULER: ErrInvalidScheduler,
    Refusal.BAD_ARGUMENT: ErrInvalidParam,
    Refusal.BAD_UTCB: ErrUtcbArea,
    Refusal.BAD_KIP_AREA: ErrKipArea,
    Refusal.HOST_FULL: ErrNoMem,
    Refusal.TABLE_FULL: ErrNoMem,
    Refusal.OVER_BUDGET: ErrNoMem,
    Refusal.TOO_MANY_ENVIRONMENTS: ErrNoMem,
    Refusal.ENDING: ErrNoMem,
}


def _attempt(call: Callable[[], int]) -> tuple[int, int]:
    """Do *call*; return 1 and its result, or 0 twice and the reason in ErrorCode."""
    try:
        return 1, call()
    except TrapRefused as refused:
        engine().registers.error_code = _CODES.get(Refusal(refused.refusal), ErrInvalidParam)
        return 0, 0


def ThreadControl(
    dest: int, SpaceSpecifier: int, Scheduler: int, Pager: int, UtcbLocation: int = (1 << 64) - 1
) -> int:
    """Create, activate, change, move or delete thread *dest*: 1, or 0 and an ErrorCode. Raises ValueError.

    A fresh space runs `libexo.l4.spaces` when its first thread is activated. It imports the modules of the
    entries known here, from where this program imports them, so the thread can begin at any of them.
    """
    own = engine()
    program, descriptors = _program(own.environment.host) if Pager else (None, [])
    control = traps.ThreadControl(
        word(dest), word(SpaceSpecifier), word(Scheduler), word(Pager), word(UtcbLocation), program
    )

    def do() -> int:
        own.environment.sys.thread_control(control, descriptors)
        own.thread.core.pump_gate(surely=True)  # if the thread is of this environment, it begins now
        if own.thread.core.ended:
            raise Ended
        return 1

    return _attempt(do)[0]


_SPACE: Final = "libexo.l4.spaces"


def _program(host: "Host") -> "tuple[Program, list[Descriptor]]":
    """Return the program of a fresh space, and the directory it imports from: this program's own, if it has one."""
    imports = host.imports()
    modules = ((MODULES, ",".join(entry_modules(own=imports is not None))),)
    if imports is None:
        return Program(ProgramKind.SERVER, (_SPACE,), modules), []
    return Program(ProgramKind.SERVER, (_SPACE,), modules, (Role.IMPORTS,)), [imports]


def SpaceControl(
    SpaceSpecifier: int, control: int, KipArea: int, UtcbArea: int, Redirector: int = NIL_THREAD
) -> tuple[int, int]:
    """Set the areas of a space and its redirector. Returns the old control word, and 1, or 0 and an ErrorCode."""
    sys = engine().environment.sys
    args = (word(SpaceSpecifier), word(control), word(KipArea), word(UtcbArea), word(Redirector))
    done, old = _attempt(lambda: sys.space_control(*args))
    return old, done


def AssociateInterrupt(InterruptThread: int, InterruptHandler: int) -> int:
    """Have an interrupt's messages sent to thread *InterruptHandler*: 1, or 0 and an ErrorCode."""
    return ThreadControl(InterruptThread, InterruptThread, NIL_THREAD, InterruptHandler)


def DeassociateInterrupt(InterruptThread: int) -> int:
    """Leave an interrupt without a handler: 1, or 0 and an ErrorCode."""
    return ThreadControl(InterruptThread, InterruptThread, NIL_THREAD, InterruptThread)


def SystemClock() -> int:
    """Return the time since boot, in microseconds."""
    return engine().clock()


def ProcessorControl(ProcessorNo: int, InternalFrequency: int, ExternalFrequency: int, voltage: int) -> int:
    """Show the frequencies (kHz) of a processor, and its voltage (mV): 1, or 0 and an ErrorCode.

    The host sets them; the kernel interface page shows them.
    """
    sys = engine().environment.sys
    args = (word(ProcessorNo), word(InternalFrequency), word(ExternalFrequency), word(voltage))

    def do() -> int:
        sys.processor_control(*args)
        return 1

    return _attempt(do)[0]
