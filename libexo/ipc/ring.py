"""How a binding of ours comes to its ring: messages through memory that both threads share.

    open_ring(thread, server)       # done by `Interface.connect(..., transport="ring")`

The sender pays for the memory with an extent, which the kernel turns into memory of the binding that nobody can
take away (`kernel.rings`). It then tells the receiver, over the binding's socket; when that says that it has its
end, both use the ring from then on (`libexo.transport.ring`). A receiver that has too many rings already refuses,
and the messages go on through the socket: that is slower, and all else is the same.
"""

import platform
from typing import TYPE_CHECKING

from libexo.errors import ExoError, IpcError, TrapRefused

if TYPE_CHECKING:
    from libexo.ipc.exchange import Link
    from libexo.ipc.thread import Thread

PAGES = 33
"""Of a ring, unless the sender says otherwise: control words, and 64 KiB for each direction."""
ORDERED = ("x86_64", "AMD64")
"""Hosts on which others see stores in the order they were made, as `libexo.transport.ring.duplex` needs it."""


def open_ring(thread: "Thread", to: int, pages: int = PAGES) -> "Link":
    """Have the messages of *thread* to thread *to* go through a ring of that many *pages*.

    They do once the receiver has said so, which nobody waits for. The memory server gives the memory; it is the
    caller's as long as the binding stands. Raises NoPartner, RemoteError (no memory), ExoError on a host that does
    not keep stores in order.
    """
    if platform.machine() not in ORDERED:
        raise ExoError(
            f"rings need a host that keeps stores in order ({ORDERED[0]}), not {platform.machine()}"
        )
    return open_paid(thread, to, thread.environment.services.memory().try_allocate(pages).handle)


def open_paid(thread: "Thread", to: int, extent: int) -> "Link":
    """Do the same with the extent of that handle, which is used up. Raises TrapRefused when it cannot be."""
    core = thread.core
    try:
        link = core.links.bind(to, extent)
    except (IpcError, TrapRefused):
        thread.environment.sys.drop(extent)
        raise
    core.links.prefer(link)
    core.announce_ring(link)
    return link
