"""The rendezvous: messages between threads, their items and time-outs, and its face that waits.

    from libexo import ipc

    reply = thread.call(to, ipc.Message(label=0x40, words=(1, 2, 3)), timeout=1.0)

`thread` is what programs use. Below it, from the top: `rendezvous` with its floors `sending`, `answers`,
`receiving` and `endpoint`; what they know of partners (`links`, `peers`, `tickets`) and of messages under way
(`exchange`, `pending`); and what a message is (`message`, `packing`). None of them waits: they are driven by an
`operation`, of which three faces make theirs: this one, `libexo.aio` and `libexo.l4`.
"""

from kernel.abi.ids import ANY_LOCAL_THREAD, ANY_THREAD
from libexo.ipc.message import FpageItem, GrantItem, Item, MapItem, Message
from libexo.ipc.ring import open_ring
from libexo.ipc.thread import READY, Thread

__all__ = [
    "ANY_LOCAL_THREAD",
    "ANY_THREAD",
    "READY",
    "FpageItem",
    "GrantItem",
    "Item",
    "MapItem",
    "Message",
    "Thread",
    "open_ring",
]
