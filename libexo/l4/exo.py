"""The helpers of the Pistachio fork that was to become an exokernel, by its names: they are not part of X.2.

IPC with a status in place of the tag: the code of the X.2 error word, without its phase. And the client side of
its memory server, which is ours (label 0: `servers.memory.protocol`).
"""

from enum import IntEnum

from libexo.l4.engine.start import engine
from libexo.l4.format.acceptor import Accept, Accepted, MapGrantItems
from libexo.l4.format.constants import ipc_error_parts
from libexo.l4.format.fpage import CompleteAddressSpace
from libexo.l4.format.registers import LoadMRs, StoreMR
from libexo.l4.format.tag import MsgTag
from libexo.l4.format.tcrs import ErrorCode
from libexo.l4.format.words import word
from libexo.l4.ipc import Call, Receive, Reply, Send
from libexo.l4.kip import GetKernelInterface
from libexo.l4.sigma0 import sigma0

MEMORY_LABEL = 0
MEM_ALLOC, MEM_FREE = 0, 1
"""MR1 of a request; MR2 is the size, MR3 the address, both in bytes. MR1 of the answer is the address, or 0."""


class exo_ipc_status(IntEnum):  # noqa: N801 - the fork's name
    """The outcome of an IPC: 0, or the code of the X.2 error word."""

    Ok = 0
    SendTimeout = 1
    """No partner in time; in either phase, despite the name."""
    NoPartner = 2
    Cancelled = 3
    MsgOverflow = 4
    XferTimeoutCurrent = 5
    XferTimeoutPartner = 6
    Aborted = 7


def _status(tag: MsgTag) -> exo_ipc_status:
    return exo_ipc_status(ipc_error_parts(ErrorCode())[1]) if tag.E else exo_ipc_status.Ok


def exo_call(to: int) -> exo_ipc_status:
    """Send the message in the registers to *to* and receive the answer."""
    return _status(Call(to))


def exo_send(to: int) -> exo_ipc_status:
    """Send the message in the registers to *to*."""
    return _status(Send(to))


def exo_reply(to: int) -> exo_ipc_status:
    """Send the message in the registers to *to*, if it is ready to receive."""
    return _status(Reply(to))


def exo_receive(from_: int) -> exo_ipc_status:
    """Receive from *from_*, into the registers."""
    return _status(Receive(from_))


def memory_server() -> int:
    """Return the thread of the memory server."""
    return sigma0(GetKernelInterface())


def memory_alloc(server: int, size: int) -> int:
    """Have *size* bytes, in whole pages, of zeroed memory mapped; return the address, 0: it was refused."""
    return _ask(server, MEM_ALLOC, size, 0)


def memory_free(server: int, addr: int, size: int) -> bool:
    """Give back the memory that `memory_alloc` returned for *size* bytes; return whether that succeeded."""
    freed = _ask(server, MEM_FREE, size, addr) != 0
    if freed:
        engine().thread.core.pump_gate(surely=True)  # the kernel's upcalls say what was taken: unmap it now
    return freed


def _ask(server: int, operation: int, size: int, address: int) -> int:
    before = Accepted()
    Accept(MapGrantItems(CompleteAddressSpace))
    words = operation, word(size, "size"), word(address, "address")
    LoadMRs(0, (MsgTag.of(MEMORY_LABEL, u=len(words)), *words))
    try:
        tag = Call(server)
    finally:
        Accept(before)
    return 0 if tag.E or not tag.u else StoreMR(1)
