"""Lipc: a message from hand to hand, between two threads of one environment.

Where the partner sleeps in a receive that the sender satisfies, the sender puts the words into its hands and wakes
it: no packet, no ticket, no other environment. Anything else than untyped words from one thread to another that
waits already is an Ipc as any. Source: L4 X.2 reference manual, rev. 7.
"""

from typing import TYPE_CHECKING

from kernel.abi.ids import ANY_LOCAL_THREAD, ANY_THREAD, NIL_THREAD
from libexo.l4.format.tag import MsgTag

if TYPE_CHECKING:
    from libexo.l4.engine.context import Context


def lipc(own: "Context", to: int, specifier: int, timeouts: int) -> tuple[int, MsgTag]:
    """Do Ipc, from hand to hand where both threads are of this environment and the partner waits."""
    thread = own.environment.threads.get(own.global_id(to))
    partner = thread.engine if thread is not None else None
    if partner is None or partner is own or not _hand_over(own, partner, own.global_id(specifier)):
        return own.ipc(to, specifier, timeouts)
    try:
        return own.ipc(NIL_THREAD, specifier, timeouts)
    finally:
        own.awaits_nobody()


def _hand_over(own: "Context", partner: "Context", specifier: int) -> bool:
    """Put the message into the hands of *partner*, if it sleeps to receive from us. Untyped words only.

    From then on we await *specifier*, so that the answer finds us ready however soon it comes.
    """
    registers = own.registers
    tag = MsgTag(registers.mr[0])
    if tag.t or tag.p or own.halted or own.jumps or registers.preempt_flags:
        return False
    with own.environment.lock:
        if partner.is_aborted or partner.awaits not in (ANY_THREAD, ANY_LOCAL_THREAD, own.thread.id):
            return False
        partner.awaits = NIL_THREAD
        partner.thread.core.row.rests()
        own.awaits = specifier
        own.thread.core.row.receives(specifier)
        plain = MsgTag.of(tag.label, tag.u)  # r, X and E are not the sender's to set
        partner.delivered = (own.thread.id, [int(plain), *registers.mr[1 : tag.u + 1]])
    own.thread.callers.pop(partner.thread.id, None)
    partner.thread.wake()
    return True
