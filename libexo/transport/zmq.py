"""The ZeroMQ transport: a STREAM socket a thread, and a plain socket a binding, in the run directory.

ZeroMQ moves bytes, and we cut messages out of them (`libexo.transport.framing`): its own protocol would hold as
much of a message that is not complete as a stranger sends (docs/decisions/0018-streams.md).
"""

import atexit
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from libexo.transport import heap
from libexo.transport.base import FLUSH_MS, Broken, Source
from libexo.transport.outbox import Outbox
from libexo.transport.polling import Poll
from libexo.transport.stream import StreamChannel

if TYPE_CHECKING:
    import zmq

    from libexo.transport.zmq_inbox import ZmqInbox
    from libexo.transport.zmq_polling import ZmqPoll


class ZmqTransport:
    """Channels and inboxes of one process. Implements `libexo.transport.base.Transport`."""

    def __init__(self, run: Path) -> None:
        """Use the sockets in *run*. Raises OSError."""
        heap.keep()
        self._run = run
        self._outbox = Outbox()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        """Made for the first inbox: who only calls needs none."""
        self._inboxes: weakref.WeakKeyDictionary[ZmqInbox, int] = weakref.WeakKeyDictionary()
        """And of which strand they are: no other may use them."""
        self._channels: weakref.WeakSet[StreamChannel] = weakref.WeakSet()
        atexit.register(self._flush)

    def channel(self, address: str, token: bytes) -> StreamChannel:
        """Connect to the end point of a binding. Raises OSError."""
        channel = StreamChannel(f"{self._run}/ipc/{address}", token, self._outbox)
        self._channels.add(channel)
        return channel

    def inbox(self, broken: Broken) -> "ZmqInbox":
        """Open the receiving end of a thread."""
        import zmq  # noqa: PLC0415 - few programs receive

        from libexo.transport.zmq_inbox import ZmqInbox  # noqa: PLC0415

        if self._context is None:
            self._context = zmq.Context()
        inbox = ZmqInbox(self._context, broken)
        self._inboxes[inbox] = threading.get_ident()
        return inbox

    def poll(self, sources: Sequence[Source]) -> "Poll | ZmqPoll":
        """Return what waits for *sources*, which are ends of this transport and others."""
        if self._context is None:
            return Poll(sources)
        from libexo.transport.zmq_polling import End, ZmqPoll  # noqa: PLC0415

        return ZmqPoll(sources) if any(isinstance(source, End) for source in sources) else Poll(sources)

    def _flush(self) -> None:
        """Have what the ending program said last leave it: its threads that send end with it."""
        self._outbox.drain(FLUSH_MS / 1000)
        for inbox, strand in list(self._inboxes.items()):
            if strand == threading.get_ident():
                inbox.finish()

    def leave(self) -> None:
        """Have what was said last leave the program, and send nothing more."""
        atexit.unregister(self._flush)
        self._flush()
        self._outbox.close()

    def forked(self) -> None:
        """Leave everything to the parent, in its child.

        Its copies of connections would be kept for ever, and an epoll of the parent's tell of them although the
        parent has closed them. At its end there is nothing to send, and the lock of the outbox may be a strand's
        that the child does not have.
        """
        atexit.unregister(self._flush)
        for channel in list(self._channels):
            channel.forked()

    def close(self) -> None:
        """Close every socket of ZeroMQ and its context; send nothing more."""
        atexit.unregister(self._flush)
        self._outbox.close()
        if self._context is not None:
            self._context.destroy(linger=0)
