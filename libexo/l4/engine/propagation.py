"""Propagation and redirection: messages that do not go straight from their sender to their receiver.

A thread that sends for another (X.2: the virtual sender) has that thread, if it called the propagator, wait for the
receiver's answer instead: its call is *forwarded*. The caller is asked before the message goes, and confirms before
it may be answered, so the receiver always finds it ready. A space whose redirector is gone sends nothing until it
has another, or needs none.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from kernel.abi.ids import NIL_THREAD
from kernel.abi.messages import Phase
from libexo.errors import IpcError, IpcTimeout, NoRedirector
from libexo.ipc.message import Origin
from libexo.ipc.operation import LOOK_AGAIN, Operation
from libexo.l4.engine.context import READY_NS
from libexo.l4.format.tag import PROPAGATED

if TYPE_CHECKING:
    from libexo.ipc.peer import Peer
    from libexo.l4.engine.context import Context

TURNING = 100_000_000
"""How long a caller may take to confirm that it waits for another thread's answer, in ns, once: it may be stopped.
Then its party has READY_NS, until it confirms."""
TURNING_BACK = 1_000_000
"""The same if it is to wait for us again, in ns: it may have given up, and then confirms nothing."""


def speak_for(own: "Context", to: int) -> tuple[int, Origin | None]:
    """Return the thread for which *own* sends its message (0: itself), and the call that was forwarded for it."""
    thread, environment = own.thread, own.environment
    if not own.registers.mr[0] & PROPAGATED:
        return NIL_THREAD, None
    row = environment.kip.thread(to)
    virtual = own.global_id(own.registers.virtual_actual_sender)
    if row is None or not thread.core.speaks_for(environment.number, thread.id, virtual, row.environment):
        return NIL_THREAD, None
    caller = thread.callers.pop(virtual, None)
    if caller is not None and not turn(own, caller, to):
        caller = None
    return virtual, caller


def turn(own: "Context", caller: Origin, to: int) -> bool:
    """Have *caller* wait for *to*'s answer, and wait until it confirms. False: it waits for none.

    When it has ended, the IPC of *own* is aborted, or its time is over, that is waited for no longer. If *to* is
    *own*, the confirmation is not vital: an answer that comes before it is a message of its own.
    """
    core, peer = own.thread.core, caller.peer
    forward = core.forward(caller, to)
    if forward is None or peer is None:
        return False
    back = to == own.thread.id
    confirmation = Operation(core, forward, until=_confirms_by(own, peer, back=back))
    with suppress(IpcError):  # it may have died, or given up, meanwhile
        while not confirmation.advance() and not own.is_aborted:
            confirmation.sleep()
    if not (forward.done or back or own.is_aborted):
        core.hesitates(peer)
    return True


def _confirms_by(own: "Context", peer: "Peer", *, back: bool) -> int:
    """Return by when *peer* has to confirm that it waits for another, or for us again: *back*."""
    core, operation = own.thread.core, own.operation
    now = core.now()
    if back:
        return now + TURNING_BACK
    by = now + (READY_NS if peer.family in core.hesitant else TURNING)
    until = operation.until if operation is not None else None
    return by if until is None or until < now + READY_NS else min(by, until)


def await_redirector(own: "Context", operation: Operation, to: int, gone: NoRedirector) -> None:
    """Wait until the redirector that is *gone* has a successor, or none is needed. Raises IpcError.

    Returns also when thread *to* ended: to send again then raises its error.
    """
    core = own.thread.core
    while _lacks_redirector(own) and core.kip.thread(to) is not None:
        core.pump_gate()
        operation.check_abort(Phase.SEND)
        now, until = core.now(), operation.until
        if until is not None and now >= until:
            raise IpcTimeout(Phase.SEND, str(gone))
        own.pause(deadline=min(now + LOOK_AGAIN, until or now + LOOK_AGAIN))


def _lacks_redirector(own: "Context") -> bool:
    kip = own.environment.kip
    row = kip.thread(own.thread.id)
    return row is not None and bool(row.redirector) and kip.thread(row.redirector) is None
