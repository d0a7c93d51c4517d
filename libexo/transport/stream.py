"""The sending end of a binding: a Unix stream socket, whose other end is the ZeroMQ socket of the receiver.

A STREAM socket of ZeroMQ takes whoever connects, so it takes this. A socket of ZeroMQ's here would hand every
message to a thread of its own, and every answer back: two wake-ups more in a call, for one connection.

A channel connects to the end point of its binding and begins with the token. It stops when WINDOW bytes of what it
sent were not read: why, is told in `libexo.transport.zmq_inbox`, *Turns*. What the host does not take at once waits
for its turn, and is sent in the background (`libexo.transport.outbox`).
"""

import socket
from collections import deque
from typing import TYPE_CHECKING

from libexo.errors import BrokenStream
from libexo.transport.base import HELD, Frames
from libexo.transport.binding import LONG_REPORT, REPORT
from libexo.transport.framing import HEAD, MAX_PACKET, Assembly, encode, report

if TYPE_CHECKING:
    from libexo.transport.outbox import Outbox

QUEUE = 1000
"""Messages that wait to be sent before `send` says that it is full; answers kept while it looks for room."""
WINDOW = 1 << 18
"""Bytes that a sender has on the way, or waiting for their turn, before `send` says the same."""
CHUNKS = 64
"""Pieces that are read at a time: to find room, or a message among what is none."""
WHOLE = 1 << 15
"""Bytes of which the host takes all or nothing: half of the smallest buffer that Linux gives a socket by itself."""
CHUNK, BULK = 1 << 13, 1 << 18
"""Bytes read at a time; in the middle of a message."""
_NOW = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_HEAD, _PACK, _UNPACK = HEAD.size, HEAD.pack, HEAD.unpack_from
_SOME = range(CHUNKS)


class StreamChannel:
    """The sending end of a binding. Implements `libexo.transport.base.Channel`."""

    shows_all = True
    """`libexo.transport.polling.Poll` sees whatever it holds: see `libexo.ipc`."""
    is_quiet = False
    """Its descriptor tells of messages that it has taken in already to nobody: look, before a wait."""

    def __init__(self, path: str, token: bytes, outbox: "Outbox") -> None:
        """Connect to the socket at *path*, and say there that we are *token*'s. Raises OSError."""
        self._socket = connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        self._recv, self._put, self.fileno = connection.recv, connection.send, connection.fileno
        self._outbox = outbox
        self.unsent: deque[bytes | memoryview] = deque()
        """What waits to be sent. The outbox takes away what was."""
        self.messages: deque[list[bytes]] = deque()
        """Answers that came together with earlier ones."""
        self.is_ready = False
        """There are some: an event loop does not see that."""
        self._assembly = Assembly(HELD)
        self._read = self._told = self._sent = 0
        self._wrong: BrokenStream | None = None
        try:
            connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            self._hang_up()  # it fell already, or a stranger is there: the kernel tells
        except BaseException:
            connection.close()
            raise
        self._write(token)
        self._sent = 0

    def send(self, frames: Frames) -> bool:
        """Send a message: all of it or nothing."""
        read, first = self._read, frames[0]
        plain = len(frames) == 1 and len(first) <= MAX_PACKET  # as `encode` writes it
        record = _PACK(1, len(first), read) + first if plain else encode(frames, read)
        if self._sent - self._assembly.read > WINDOW and not self._has_room():
            return False
        if not self._write(record):
            return False
        self._told = read
        return True

    def _has_room(self) -> bool:
        """Hear how far the receiver has come, some at most; say whether more may be on its way to it."""
        try:
            for _ in _SOME:
                if self._wrong or len(self.messages) >= QUEUE or (chunk := self._next()) is None:
                    break
                self._take(chunk)
        except BrokenStream as error:
            self._wrong = error
        return self._wrong is None and self._sent - self._assembly.read <= WINDOW

    def _write(self, record: bytes) -> bool:
        """Send *record*, or have it sent; False: neither.

        That a receiver ended is the kernel's to say, with what that means for a message under way. It counts as
        sent first, and what is sent in parts waits first: a signal's handler may receive or send in between.
        """
        size, sent = len(record), 0
        self._sent += size
        if not self.unsent and size <= WHOLE:
            try:
                sent = self._put(record, _NOW)
            except BlockingIOError:
                sent = 0
            except OSError:
                return True  # nobody is there any more: as if he had it, and ended
            if sent == size:
                return True
        if len(self.unsent) < QUEUE and self._outbox.add(self, record, sent):
            return True
        self._sent -= size
        return False

    def flush(self) -> bool:
        """Send what waits, as far as the host takes it; say whether all is. Of the outbox, under its lock."""
        try:
            while self.unsent:
                record = self.unsent[0]
                sent = self._put(record, _NOW)
                if sent < len(record):
                    self.unsent[0] = memoryview(record)[sent:]
                else:
                    self.unsent.popleft()
        except BlockingIOError:
            return False
        except OSError:
            self.unsent.clear()  # nobody is there any more to read it
        return True

    def receive(self) -> list[bytes] | None:
        """Return the next answer. None: there is none, or what came first was none. Raises BrokenStream."""
        self.is_ready = False
        for _ in _SOME:
            if self.messages:
                break
            if self._wrong is not None:
                raise self._wrong
            chunk = self._next()
            if chunk is None:
                return None
            size, assembly = len(chunk), self._assembly
            if size > _HEAD and not assembly.held and self._read + size - self._told <= REPORT:
                count, first, read = _UNPACK(chunk)
                if count == 1 and size == _HEAD + first and assembly.read <= read <= self._sent:
                    self._read += size
                    assembly.read = read
                    return [chunk[_HEAD:]]  # one message that came in one piece: nearly always
            self._take(chunk)
        if not self.messages:
            return None
        message = self.messages.popleft()
        self.is_ready = bool(self.messages)
        return message

    def _next(self) -> bytes | None:
        """Return the next bytes that came, or None."""
        try:
            chunk = self._recv(BULK if self._assembly.held else CHUNK)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return self._next()  # the host says first that not all was read, and then what had come before
        except OSError:
            return None  # it was hung up
        if not chunk:
            self._hang_up()
            return None
        return chunk

    def _take(self, chunk: bytes) -> None:
        """Take *chunk* apart, and say how much was read, if that is much. Raises BrokenStream."""
        self._read += len(chunk)
        messages = self._assembly.feed(chunk)
        if self._assembly.read > self._sent:
            raise BrokenStream(f"it says it has read {self._assembly.read} bytes of {self._sent}")
        self.messages.extend(messages)
        self.is_ready = bool(self.messages)
        most = REPORT if messages else LONG_REPORT
        if self._read - self._told > most and self._write(report(self._read)):
            self._told = self._read

    def look(self) -> bool:
        """Say whether there is an answer of which its descriptor does not tell."""
        return bool(self.messages)

    def _hang_up(self) -> None:
        """Be silent: the descriptor of a connection that ended would tell of that for ever."""
        self._outbox.silence(self.fileno())

    def forked(self) -> None:
        """Give up a copy of what is the parent's, which does not notice."""
        self._socket.close()

    def close(self) -> None:
        """Close the connection; what the host has is still delivered."""
        self._outbox.forget(self)
        self._socket.close()
