"""Sending to one who waits for just that: an answer to a caller, the acknowledgement of an interrupt.

A caller is found ready by its answer ticket; an answer that brings items is over when the caller says how much of
it he took, because a cut message is an error of both.
"""

from typing import TYPE_CHECKING

from kernel.abi.ids import show_thread
from kernel.abi.messages import IpcCode, Phase
from libexo.errors import IpcError, IpcTimeout, NoPartner, TrapRefused
from libexo.ipc.message import Message, Origin
from libexo.ipc.sending import OVERDUE
from libexo.l4.engine import transfer
from libexo.l4.format.times import split_timeouts

if TYPE_CHECKING:
    from libexo.l4.engine.context import Context


def acknowledge(own: "Context", to: int, message: Message) -> None:
    """Answer a kernel thread: an interrupt is unmasked."""
    try:
        own.thread.core.answer(Origin(None, to, 0, answers=True), message)
    except TrapRefused as refused:
        raise NoPartner(Phase.SEND, f"thread {show_thread(to)}: {refused}") from refused


def answer(own: "Context", caller: Origin, message: Message, virtual: int) -> bool:
    """Answer *caller*, which waits for that. False: it waits no longer, and may be sent to as anybody."""
    receiving, tells = own.thread.core.receiving, bool(message.typed)
    deadline = own.deadline(split_timeouts(own.registers.xfer_timeouts)[0])
    receiving.recheck(caller)  # who was deleted this moment took its ticket along unclaimed
    try:
        answer = receiving.answer(caller, message, tells=tells, virtual=virtual)
    except IpcTimeout:
        return False
    except NoPartner:
        if own.environment.kip.thread(caller.sender) is None:
            raise
        return False  # its binding fell, for it has another redirector
    except TrapRefused as refused:
        raise IpcError(IpcCode.OVERFLOW, Phase.SEND, str(refused)) from refused
    while tells and not answer.done:
        receiving.look()
        receiving.recheck(caller)
        own.thread.core.pump_gate()
        if not answer.done:
            _check_transfer(own, deadline)
            at = None if deadline is None else deadline + OVERDUE
            own.pause(own.thread.core.open_inbox(), deadline=at)
    if answer.error is not None:
        raise answer.error
    transfer.sent(own)
    return True


def _check_transfer(own: "Context", deadline: int | None) -> None:
    """Raise IpcError when the transfer of an answer was aborted, or lasts far beyond *deadline*.

    Who takes it keeps to that time-out himself, from his first page fault on, and says what he took.
    """
    if Phase.SEND in own.aborted:
        raise IpcError(IpcCode.ABORTED, Phase.SEND, "aborted while the answer was taken")
    if deadline is not None and own.environment.host.now() >= deadline + OVERDUE:
        raise IpcError(IpcCode.XFER_TIMEOUT_HERE, Phase.SEND, "the answer was not taken in time")
