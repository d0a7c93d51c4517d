"""The way a message takes where that is not from its sender to its receiver: propagation, redirection.

Who sends for another (X.2: the virtual sender) has that one, if it called him, wait for the receiver's answer
instead of his own: its call is *turned*. The caller is asked before the message goes, and answers before it may be
answered, so the receiver always finds it ready. A space whose redirector is gone sends nothing until it has
another, or is to have none.
"""

from typing import TYPE_CHECKING

from kernel.abi.ids import NIL_THREAD, USER_BASE, is_local, show_thread, thread_number, thread_version
from kernel.abi.messages import PacketKind, Phase
from libexo.errors import IpcTimeout, NoPartner, NoRedirector
from libexo.ipc.message import Origin
from libexo.ipc.sending import RECHECK
from libexo.l4.format.tag import PROPAGATED

if TYPE_CHECKING:
    from libexo.ipc.exchange import Outgoing
    from libexo.l4.engine.context import Context

TURNING = 100_000_000
"""How long a caller may take to say that it waits for another's answer now, in ns: it may just have died."""
TURNING_BACK = 1_000_000
"""The same where it is to wait for us again, in ns: it may have given up meanwhile, and then says nothing."""
LOOK_AGAIN = 5_000_000
"""How often it is looked whether there is a redirector again, in ns."""


def speak_for(own: "Context", to: int) -> tuple[int, Origin | None]:
    """Return for whom *own* sends the message in its registers (0: itself), and the call that was turned for it."""
    thread, environment = own.thread, own.environment
    if not own.registers.mr[0] & PROPAGATED:
        return NIL_THREAD, None
    row = environment.kip.thread(to)
    virtual = own.global_id(own.registers.virtual_actual_sender)
    receiving = thread.core.receiving
    if row is None or not receiving.speaks_for(environment.number, thread.id, virtual, row.environment):
        return NIL_THREAD, None
    caller = thread.callers.pop(virtual, None)
    if caller is not None and not turn(own, caller, to):
        caller = None
    return virtual, caller


def turn(own: "Context", caller: Origin, to: int) -> bool:
    """Have *caller* wait for *to*'s answer, and wait until it does. False: it waits for none.

    Where *to* is *own*, that is not vital: an answer that comes sooner than the turn is a message like any other.
    """
    core, host = own.thread.core, own.environment.host
    turned = core.receiving.forward(caller, to)
    deadline = host.now() + (TURNING_BACK if to == own.thread.id else TURNING)
    while turned is not None and not turned.done and host.now() < deadline:
        core.receiving.look()
        if not turned.done:
            own.pause(core.open_inbox(), deadline=deadline)
    return turned is not None


def keep_bound(own: "Context", specifier: int) -> bool:
    """Bind to the one partner of a closed receive. Raises NoPartner when there is none.

    Returns whether the kernel will say when it is gone: not where a redirector is in between.
    """
    if thread_number(specifier) < USER_BASE and thread_version(specifier) == 1:
        return True
    if is_local(specifier):
        raise NoPartner(Phase.RECEIVE, f"no thread here has local id {specifier:#x}")
    try:
        if own.thread.core.link(specifier).receiver == specifier:
            return True
    except NoRedirector:
        pass
    except NoPartner as gone:
        raise NoPartner(Phase.RECEIVE, str(gone)) from gone
    if own.environment.kip.thread(specifier) is None:
        raise NoPartner(Phase.RECEIVE, f"there is no thread {show_thread(specifier)}")
    return False


def look_after(own: "Context", call: "Outgoing") -> int | None:
    """Look whether *call* is being answered still, where its way fell; return how soon to look again, in ns.

    If it is not, or who answers it is gone, it has failed.
    """
    link, sending = call.link, own.thread.core.sending
    if not link.fallen or call.forwarded_to:
        return None
    if own.environment.kip.thread(link.receiver) is None or not call.is_coming():
        sending.pump(link)  # what was answered before is taken
        if not call.done:
            sending.fail(call, call.cut_off(f"the binding to thread {show_thread(link.partner)} fell"))
    return RECHECK


def goes_on(own: "Context", call: "Outgoing") -> bool:
    """Say whether *call*, which failed, only lost its way back: who is to answer lives, and can still send to us.

    A binding falls when the redirector changes. The answer comes as a message, like any other.
    """
    error = call.error
    if call.kind != PacketKind.CALL or not isinstance(error, NoPartner) or error.phase is not Phase.RECEIVE:
        return False
    if not call.link.fallen or own.environment.kip.thread(call.forwarded_to or call.link.receiver) is None:
        return False
    call.error = None
    return True


def await_redirector(own: "Context", to: int, gone: NoRedirector) -> None:
    """Wait until there is another redirector than the one that is *gone*, or is to be none. Raises IpcError.

    Where thread *to* ends meanwhile, there is nobody to wait for a redirector for: who sends again hears so.
    """
    host, kip = own.environment.host, own.environment.kip
    while _lacks_redirector(own) and kip.thread(to) is not None:
        own.thread.core.pump_gate()
        own.check_abort(Phase.SEND)
        now = host.now()
        if own.deadline_at is not None and now >= own.deadline_at:
            raise IpcTimeout(Phase.SEND, str(gone))
        own.pause(deadline=min(now + LOOK_AGAIN, own.deadline_at or now + LOOK_AGAIN))


def _lacks_redirector(own: "Context") -> bool:
    kip = own.environment.kip
    row = kip.thread(own.thread.id)
    return row is not None and bool(row.redirector) and kip.thread(row.redirector) is None
