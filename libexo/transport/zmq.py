"""The ZeroMQ transport: a DEALER a binding, a ROUTER a thread, on Unix sockets in the run directory.

The binding's token is the DEALER's routing id, so every message says under which binding it came and cannot
say anything else. The ROUTER adopts the listening socket the kernel made (ZMQ_USE_FD): nobody can squat on a
thread's number, and while a server is restarted, connections wait in the socket's backlog.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import zmq

from kernel.abi.limits import MAX_STRING
from libexo.host.base import Descriptor, Source
from libexo.transport.base import Frames

QUEUE = 1000
"""Messages queued on each side of a binding before `send` says that it is full."""
FLUSH_MS = 200
"""How long a closing inbox may take to get its last answers out."""
RECONNECT_MS = 10
"""How soon a lost connection is tried again: a restarted server is back within this."""

# Plain numbers: combining the flags of an enum costs more than sending a frame does.
_NOW = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
_READABLE = int(zmq.POLLIN)
_poll = zmq.zmq_poll


class _End:
    """What both ends have in common: a socket, with its calls at hand."""

    shows_all = True
    """`Poll` sees whatever it holds: see `libexo.ipc`."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        """Use *socket*, which is connected or bound."""
        self.socket = socket
        self.is_ready = False
        """A wait found a message."""
        self.is_quiet = False
        """It was asked, had nothing, and was not used since: its descriptor will tell of news."""
        # Without the wrapper in Python, which serves socket types that have groups and routing ids.
        self._send = super(zmq.Socket, socket).send
        self._recv: Any = socket.recv
        self._alone: list[tuple[Any, int]] = [(socket, _READABLE)]
        self._descriptor = cast("int", socket.getsockopt(zmq.FD))

    def look(self) -> bool:
        """Ask whether there is a message. To receive in vain would raise an exception, at three times the cost."""
        found = bool(_poll(self._alone, 0))
        self.is_quiet = not found
        return found

    def _receive(self, frames: list[bytes]) -> list[bytes]:
        """Add to *frames* those left of a message; they are all there once the first one is."""
        self.is_quiet = False
        more = True
        while more:
            # A frame object knows whether another follows; to ask the socket costs more than to make one.
            frame = self._recv(_NOW, False)
            frames.append(frame.bytes)
            more = frame.more
        return frames

    def fileno(self) -> int:
        """Return ZeroMQ's descriptor (edge-triggered)."""
        return self._descriptor

    def close(self) -> None:
        """Close the socket; an inbox's listening descriptor goes with it, the kernel keeps its own."""
        self.socket.close()


class ZmqChannel(_End):
    """The sending end of a binding. Implements `libexo.transport.base.Channel`."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", address: str, token: bytes) -> None:
        """Connect to *address* as *token*."""
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.ROUTING_ID, token)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, QUEUE)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_STRING)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.connect(address)
        super().__init__(socket)

    def send(self, frames: Frames) -> bool:
        """Send a message. Once the first frame is accepted, ZeroMQ takes the rest."""
        self.is_quiet = False
        try:
            if len(frames) > 1:
                for frame in frames[:-1]:
                    self._send(frame, _MORE)
            self._send(frames[-1], _NOW)
        except zmq.Again:
            return False
        return True

    def receive(self) -> list[bytes] | None:
        """Return the next answer, or None."""
        if not (self.is_ready or self.look()):
            return None
        self.is_ready = False
        try:
            return self._receive([])
        except zmq.Again:
            return None


class ZmqInbox(_End):
    """The receiving end of a thread. Implements `libexo.transport.base.Inbox`."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", address: str, listening: int) -> None:
        """Receive on the socket *listening*, which is bound to *address*."""
        socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, FLUSH_MS)
        socket.setsockopt(zmq.RCVHWM, QUEUE)
        socket.setsockopt(zmq.SNDHWM, QUEUE)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_STRING)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.USE_FD, listening)
        socket.bind(address)
        super().__init__(socket)

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """Return the token a message came under, and its frames; or None."""
        if not (self.is_ready or self.look()):
            return None
        self.is_ready = False
        try:
            token = self._recv(_NOW)
        except zmq.Again:
            return None
        return token, self._receive([])

    def send(self, token: bytes, frames: Frames) -> bool:
        """Send an answer back over the binding of *token*. Once the token is accepted, ZeroMQ takes the rest."""
        self.is_quiet = False
        try:
            self._send(token, _MORE)
            if len(frames) > 1:
                for frame in frames[:-1]:
                    self._send(frame, _MORE)
            self._send(frames[-1], _NOW)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise
        return True


class Poll:
    """Waits for sockets of ours and for plain descriptors together. As `select.poll`, but it looks into sockets."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Wait for *sources*."""
        ends = [source for source in sources if isinstance(source, _End)]
        plain = [source.fileno() for source in sources if not isinstance(source, _End)]
        self._ends = {end.socket: end for end in ends}
        self._items: list[tuple[Any, int]] = [(item, _READABLE) for item in (*self._ends, *plain)]

    def poll(self, milliseconds: int = -1) -> list[tuple[int, int]]:
        """Return the plain descriptors that have something, with their events; the ends are told themselves."""
        descriptors = []
        for item, events in _poll(self._items, milliseconds):
            end = self._ends.get(item)
            if end is None:
                descriptors.append((item, events))
            else:
                end.is_ready = True
        return descriptors


class ZmqTransport:
    """Channels and inboxes of one process. Implements `libexo.transport.base.Transport`."""

    def __init__(self, run: Path) -> None:
        """Use the sockets in *run*."""
        self._run = run
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def channel(self, number: int, token: bytes) -> ZmqChannel:
        """Open the sending end of a binding to thread *number*."""
        return ZmqChannel(self._context, self._address(number), token)

    def inbox(self, number: int, descriptor: Descriptor) -> ZmqInbox:
        """Open the receiving end of thread *number*."""
        return ZmqInbox(self._context, self._address(number), cast("int", descriptor))

    def poll(self, sources: Sequence[Source]) -> Poll:
        """Return what waits for *sources*, which are ends of this transport and others."""
        return Poll(sources)

    def close(self) -> None:
        """Close every socket and the context."""
        self._context.destroy(linger=0)

    def _address(self, number: int) -> str:
        return f"ipc://{self._run}/ipc/{number}"
