"""The ZeroMQ transport: a DEALER a binding, a ROUTER a thread, on Unix sockets in the run directory.

The binding's token is the DEALER's routing id, so every message says under which binding it came and cannot
say anything else. The ROUTER adopts the listening socket the kernel made (ZMQ_USE_FD): nobody can squat on a
thread's number, and while a server is restarted, connections wait in the socket's backlog.
"""

from pathlib import Path
from typing import cast

import zmq

from libexo.host.base import Descriptor
from libexo.transport.base import Frames

QUEUE = 1000
"""Messages queued on each side of a binding before `send` says that it is full."""
FLUSH_MS = 200
"""How long a closing inbox may take to get its last answers out."""
RECONNECT_MS = 10
"""How soon a lost connection is tried again: a restarted server is back within this."""


class ZmqChannel:
    """The sending end of a binding. Implements `libexo.transport.base.Channel`."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", address: str, token: bytes) -> None:
        """Connect to *address* as *token*."""
        self._socket = socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.ROUTING_ID, token)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, QUEUE)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.connect(address)
        self._descriptor = cast("int", socket.getsockopt(zmq.FD))

    def send(self, frames: Frames) -> bool:
        """Send a message."""
        return _send(self._socket, frames)

    def receive(self) -> list[bytes] | None:
        """Return the next answer, or None."""
        return _receive(self._socket)

    def fileno(self) -> int:
        """Return ZeroMQ's descriptor (edge-triggered)."""
        return self._descriptor

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class ZmqInbox:
    """The receiving end of a thread. Implements `libexo.transport.base.Inbox`."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", address: str, listening: int) -> None:
        """Receive on the socket *listening*, which is bound to *address*."""
        self._socket = socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, FLUSH_MS)
        socket.setsockopt(zmq.RCVHWM, QUEUE)
        socket.setsockopt(zmq.SNDHWM, QUEUE)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.USE_FD, listening)
        socket.bind(address)
        self._descriptor = cast("int", socket.getsockopt(zmq.FD))

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """Return the token a message came under, and its frames; or None."""
        frames = _receive(self._socket)
        return (frames[0], frames[1:]) if frames is not None else None

    def send(self, token: bytes, frames: Frames) -> bool:
        """Send an answer back over the binding of *token*."""
        try:
            return _send(self._socket, (token, *frames))
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise

    def fileno(self) -> int:
        """Return ZeroMQ's descriptor (edge-triggered)."""
        return self._descriptor

    def close(self) -> None:
        """Close the socket; the listening descriptor goes with it, the kernel keeps its own."""
        self._socket.close()


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

    def close(self) -> None:
        """Close every socket and the context."""
        self._context.destroy(linger=0)

    def _address(self, number: int) -> str:
        return f"ipc://{self._run}/ipc/{number}"


def _send(socket: "zmq.Socket[bytes]", frames: Frames) -> bool:
    """Send *frames*; once the first is accepted, ZeroMQ takes the rest."""
    last = len(frames) - 1
    try:
        for index, frame in enumerate(frames):
            socket.send(frame, zmq.SNDMORE | zmq.DONTWAIT if index < last else zmq.DONTWAIT)
    except zmq.Again:
        return False
    return True


def _receive(socket: "zmq.Socket[bytes]") -> list[bytes] | None:
    try:
        return socket.recv_multipart(zmq.DONTWAIT)
    except zmq.Again:
        return None
