"""ExchangeRegisters: read and write the registers of a thread of one's own environment, stop, start, abort it.

The kernel has no part in it: the exchanged state is kept by the environment itself. A thread here is not
interrupted at an instruction: a changed instruction pointer and a halt take effect when it next enters or leaves
an IPC, and at once if it waits in one. The first thread of an ordinary program has no caller that could make it
jump: its instruction pointer is only remembered. Source: L4 X.2 reference manual, rev. 7.
"""

from typing import NamedTuple

from kernel.abi.ids import NIL_THREAD, is_local
from kernel.abi.messages import Phase
from libexo.l4.engine.start import engine, engine_of
from libexo.l4.engine.x2 import Engine
from libexo.l4.format.constants import ErrInvalidThread
from libexo.l4.format.words import word

__all__ = [
    "AbortIpc_and_stop",
    "AbortIpc_and_stop_SpIpFlags",
    "AbortReceive_and_stop",
    "AbortReceive_and_stop_SpIpFlags",
    "AbortSend_and_stop",
    "AbortSend_and_stop_SpIpFlags",
    "ExchangeRegisters",
    "Exchanged",
    "GlobalIdOf",
    "LocalId",
    "LocalIdOf",
    "PagerOf",
    "SameThreads",
    "Set_PagerOf",
    "Set_UserDefinedHandleOf",
    "Start",
    "Start_SpIp",
    "Start_SpIpFlags",
    "Stop",
    "Stop_SpIpFlags",
    "ThreadWasHalted",
    "ThreadWasIpcing",
    "ThreadWasReceiving",
    "ThreadWasSending",
    "UserDefinedHandleOf",
]

HALT, RECEIVE, SEND = 1 << 0, 1 << 1, 1 << 2
"""Control bits H, R, S. The result uses the same three: it was halted, receiving, sending."""
SP, IP, FLAGS, HANDLE, PAGER, APPLY_HALT, DELIVER = (1 << bit for bit in range(3, 10))
"""Control bits s, i, f, u, p, h, d."""
_RESUME = APPLY_HALT | RECEIVE | SEND
_STOP = APPLY_HALT | HALT | DELIVER


class Exchanged(NamedTuple):
    """The result of ExchangeRegisters: the values before, or 0 unless they were to be delivered."""

    result: int
    """The other form of the thread's id (local for global); nilthread: failed, see ErrorCode."""
    control: int = 0
    """Bits 0 to 2: it was halted, receiving, sending."""
    sp: int = 0
    ip: int = 0
    flags: int = 0
    handle: int = 0
    pager: int = 0


def ExchangeRegisters(
    dest: int, control: int, sp: int = 0, ip: int = 0, flags: int = 0, handle: int = 0, pager: int = 0
) -> Exchanged:
    """Exchange registers with thread *dest* of the caller's environment, as *control* says. Raises ValueError.

    Error InvalidThread: no such thread here.
    """
    own = engine()
    target = _find(own, dest)
    if target is None:
        own.registers.error_code = ErrInvalidThread
        return Exchanged(NIL_THREAD)
    before = _deliver(target, dest, control)
    _write(target, control, word(sp), word(ip), word(flags), word(handle), word(pager))
    target.abort({phase for phase, bit in _ABORTS.items() if control & bit})
    if control & APPLY_HALT:
        target.halted = bool(control & HALT)
    if target is not own:
        target.thread.wake()
    return before


_ABORTS = {Phase.RECEIVE: RECEIVE, Phase.SEND: SEND}


def _find(own: Engine, dest: int) -> Engine | None:
    thread = own.environment.threads.get(own.global_id(dest))
    return None if thread is None else engine_of(thread)


def _deliver(target: Engine, dest: int, control: int) -> Exchanged:
    registers = target.registers
    other = target.thread.id if is_local(dest) else target.local
    was = HALT if target.halted else 0
    was |= RECEIVE if target.phase is Phase.RECEIVE else SEND if target.phase is Phase.SEND else 0
    if not control & DELIVER:
        return Exchanged(other, was)
    return Exchanged(
        other, was, target.sp, target.ip, target.flags, registers.user_defined_handle, registers.pager
    )


def _write(target: Engine, control: int, sp: int, ip: int, flags: int, handle: int, pager: int) -> None:
    registers = target.registers
    if control & SP:
        target.sp = sp
    if control & IP:
        target.ip, target.jumps = ip, target.begins
    if control & FLAGS:
        target.flags = flags
    if control & HANDLE:
        registers.user_defined_handle = handle
    if control & PAGER:
        registers.pager = pager


# ---------------------------------------------------------------------------------------------- made of it


def GlobalIdOf(t: int) -> int:
    """Return the global id of thread *t* of this environment; nilthread: there is none."""
    return ExchangeRegisters(t, 0).result if is_local(t) else t


def LocalIdOf(t: int) -> int:
    """Return the local id of thread *t* of this environment; nilthread: there is none."""
    return t if is_local(t) else ExchangeRegisters(t, 0).result


def LocalId(t: int) -> int:
    """Return the local id of thread *t*: LocalIdOf under its older name."""
    return LocalIdOf(t)


def SameThreads(left: int, right: int) -> bool:
    """Say whether two ids, local or global, name the same thread."""
    return GlobalIdOf(left) == GlobalIdOf(right)


def UserDefinedHandleOf(t: int) -> int:
    """Return the word that thread *t* keeps for its program."""
    return ExchangeRegisters(t, DELIVER).handle


def Set_UserDefinedHandleOf(t: int, handle: int) -> None:
    """Set the word that thread *t* keeps for its program."""
    ExchangeRegisters(t, HANDLE, handle=handle)


def PagerOf(t: int) -> int:
    """Return the pager of thread *t*."""
    return ExchangeRegisters(t, DELIVER).pager


def Set_PagerOf(t: int, p: int) -> None:
    """Set the pager of thread *t*."""
    ExchangeRegisters(t, PAGER, pager=p)


def Start(t: int) -> None:
    """Resume thread *t*, aborting any IPC it is in."""
    ExchangeRegisters(t, _RESUME)


def Start_SpIp(t: int, sp: int, ip: int) -> None:
    """Resume thread *t* at *ip*, an entry, with *sp*."""
    ExchangeRegisters(t, _RESUME | SP | IP, sp, ip)


def Start_SpIpFlags(t: int, sp: int, ip: int, flags: int) -> None:
    """Do the same, with *flags*."""
    ExchangeRegisters(t, _RESUME | SP | IP | FLAGS, sp, ip, flags)


def Stop(t: int) -> int:
    """Halt thread *t*; return its state before."""
    return ExchangeRegisters(t, _STOP).control


def Stop_SpIpFlags(t: int) -> tuple[int, int, int, int]:
    """Halt thread *t*; return its state before, stack pointer, instruction pointer and flags."""
    return _stopped(t, 0)


def AbortReceive_and_stop(t: int) -> int:
    """Halt thread *t* and abort its receive phase; return its state before."""
    return ExchangeRegisters(t, _STOP | RECEIVE).control


def AbortReceive_and_stop_SpIpFlags(t: int) -> tuple[int, int, int, int]:
    """Do the same; return also stack pointer, instruction pointer and flags."""
    return _stopped(t, RECEIVE)


def AbortSend_and_stop(t: int) -> int:
    """Halt thread *t* and abort its send phase; return its state before."""
    return ExchangeRegisters(t, _STOP | SEND).control


def AbortSend_and_stop_SpIpFlags(t: int) -> tuple[int, int, int, int]:
    """Do the same; return also stack pointer, instruction pointer and flags."""
    return _stopped(t, SEND)


def AbortIpc_and_stop(t: int) -> int:
    """Halt thread *t* and abort any IPC it is in; return its state before."""
    return ExchangeRegisters(t, _STOP | RECEIVE | SEND).control


def AbortIpc_and_stop_SpIpFlags(t: int) -> tuple[int, int, int, int]:
    """Do the same; return also stack pointer, instruction pointer and flags."""
    return _stopped(t, RECEIVE | SEND)


def _stopped(t: int, abort: int) -> tuple[int, int, int, int]:
    stopped = ExchangeRegisters(t, _STOP | abort)
    return stopped.control, stopped.sp, stopped.ip, stopped.flags


def ThreadWasHalted(s: int) -> bool:
    """Say whether the thread of state *s* was halted."""
    return bool(s & HALT)


def ThreadWasReceiving(s: int) -> bool:
    """Say whether the thread of state *s* was receiving."""
    return bool(s & RECEIVE)


def ThreadWasSending(s: int) -> bool:
    """Say whether the thread of state *s* was sending."""
    return bool(s & SEND)


def ThreadWasIpcing(s: int) -> bool:
    """Say whether the thread of state *s* was in an IPC."""
    return bool(s & (RECEIVE | SEND))
