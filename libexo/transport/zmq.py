"""The ZeroMQ transport: a STREAM socket a binding, and one a thread, on Unix sockets in the run directory.

ZeroMQ moves bytes, and we cut messages out of them (`libexo.transport.framing`): its own protocol would hold as
much of a message that is not complete as a stranger sends (docs/decisions/0018-streams.md).

A channel connects to the end point of its binding and begins with the token. It stops when WINDOW bytes of what it
sent were not read: why, is told in `libexo.transport.zmq_inbox`, *Turns*.
"""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import zmq

from libexo.errors import BrokenStream
from libexo.transport.base import HELD, Broken, Frames, Source
from libexo.transport.binding import LONG_REPORT, REPORT
from libexo.transport.framing import HEAD, MAX_PACKET, Assembly, encode, report
from libexo.transport.polling import FULL, MORE, NOW, UNSENT, End, Poll, zmq_poll
from libexo.transport.zmq_inbox import ZmqInbox

QUEUE = 1000
"""Messages queued at the sender of a binding before `send` says that it is full."""
WINDOW = 1 << 18
"""Bytes that a sender has on the way, or waiting for their turn, before `send` says the same."""
CHUNKS = 64
"""Pieces that ZeroMQ reads from the connection of a channel before we do. The rest waits at the host."""
RETRY_MS, LAST_RETRY_MS = 20, 5000
"""When a connection that the host refused is tried again, first and at last.

One that was lost is tried, too, in vain: its name is gone. To forbid that would throw away answers that came and
were not read yet.
"""
_PEER = b"."
"""ZeroMQ's name for the one connection of a channel."""
_HEAD, _PACK, _UNPACK = HEAD.size, HEAD.pack, HEAD.unpack_from


class ZmqChannel(End):
    """The sending end of a binding. Implements `libexo.transport.base.Channel`."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", address: str, token: bytes) -> None:
        """Connect to *address*, and say there that we are *token*'s."""
        socket = context.socket(zmq.STREAM)
        socket.setsockopt(zmq.CONNECT_ROUTING_ID, _PEER)
        socket.setsockopt(zmq.STREAM_NOTIFY, 0)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, QUEUE)
        socket.setsockopt(zmq.RCVHWM, CHUNKS)
        socket.setsockopt(zmq.RECONNECT_IVL, RETRY_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, LAST_RETRY_MS)
        socket.connect(address)
        super().__init__(socket)
        self.messages: deque[list[bytes]] = deque()
        self._assembly = Assembly(HELD)
        self._read = self._told = self._sent = 0
        self._wrong: BrokenStream | None = None
        self._write(token)

    def send(self, frames: Frames) -> bool:
        """Send a message: one for ZeroMQ, so it takes all of it or nothing."""
        read, first = self._read, frames[0]
        plain = len(frames) == 1 and len(first) <= MAX_PACKET  # as `encode` writes it
        record = _PACK(1, len(first), read) + first if plain else encode(frames, read)
        if self._sent - self._assembly.read > WINDOW and not self._has_room():
            return False
        self.is_quiet = False
        try:  # as `_write`, which it would cost more to call than to do
            self._send(_PEER, MORE)
            self._send(record, NOW)
        except zmq.ZMQError as error:
            if error.errno in UNSENT:
                return False
            raise
        self._told = read
        self._sent += len(record)
        return True

    def _has_room(self) -> bool:
        """Hear how far the receiver has come, some at most; say whether more may be on its way to it."""
        try:
            for _ in range(CHUNKS):
                if self._wrong or len(self.messages) >= QUEUE or not zmq_poll(self.alone, 0):
                    break
                self.is_quiet = False
                self._recv(NOW)
                self._take(self._recv(NOW))
        except BrokenStream as error:
            self._wrong = error
        return self._wrong is None and self._sent - self._assembly.read <= WINDOW

    def _write(self, record: bytes) -> bool:
        self.is_quiet = False
        try:
            self._send(_PEER, MORE)
            self._send(record, NOW)
        except zmq.ZMQError as error:
            if error.errno in UNSENT:
                return False
            raise
        return True

    def receive(self) -> list[bytes] | None:
        """Return the next answer, or None. Raises BrokenStream."""
        while not self.messages:
            if self._wrong is not None:
                raise self._wrong
            if not (self.is_ready or self.look()):
                return None
            self.is_ready = self.is_quiet = False
            try:
                self._recv(NOW)
                chunk = self._recv(NOW)
            except zmq.Again:
                continue
            size, assembly = len(chunk), self._assembly
            if _HEAD < size < FULL and not assembly.held and self._read + size - self._told <= REPORT:
                count, first, read = _UNPACK(chunk)
                if count == 1 and size == _HEAD + first and read >= assembly.read:
                    self._read += size
                    assembly.read = read
                    return [chunk[_HEAD:]]  # one message that came in one piece: nearly always
            self._take(chunk)
        return self.messages.popleft()

    def _take(self, chunk: bytes) -> None:
        """Take *chunk* apart, and say how much was read, if that is much. Raises BrokenStream."""
        self.is_ready = len(chunk) == FULL
        self._read += len(chunk)
        messages = self._assembly.feed(chunk)
        self.messages.extend(messages)
        most = REPORT if messages else LONG_REPORT
        if self._read - self._told > most and self._write(record := report(self._read)):
            self._told = self._read
            self._sent += len(record)


class ZmqTransport:
    """Channels and inboxes of one process. Implements `libexo.transport.base.Transport`."""

    def __init__(self, run: Path) -> None:
        """Use the sockets in *run*."""
        self._run = run
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def channel(self, address: str, token: bytes) -> ZmqChannel:
        """Connect to the end point of a binding."""
        return ZmqChannel(self._context, f"ipc://{self._run}/ipc/{address}", token)

    def inbox(self, broken: Broken) -> ZmqInbox:
        """Open the receiving end of a thread."""
        return ZmqInbox(self._context, broken)

    def poll(self, sources: Sequence[Source]) -> Poll:
        """Return what waits for *sources*, which are ends of this transport and others."""
        return Poll(sources)

    def close(self) -> None:
        """Close every socket and the context."""
        self._context.destroy(linger=0)
