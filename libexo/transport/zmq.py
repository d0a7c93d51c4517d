"""The ZeroMQ transport: a STREAM socket a binding, and one a thread, on Unix sockets in the run directory.

ZeroMQ moves bytes, and we cut messages out of them (`libexo.transport.framing`): its own protocol would hold as
much of a message that is not complete as a stranger sends (docs/decisions/0018-streams.md).

A channel connects to the end point of its binding and begins with the token. The inbox adopts the listening socket
(ZMQ_USE_FD) when the kernel hands it over, at which one connection waits and no other ever will: ZeroMQ accepts
whoever comes, and gives up the process when there is no descriptor left to do so with. For ZeroMQ, the connection
is part of what it was accepted at; so it keeps the listening socket, and both are closed together.
"""

from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import zmq

from kernel.abi.limits import TOKEN_BYTES
from libexo.errors import BrokenStream
from libexo.host.base import Descriptor, Source
from libexo.transport.base import HELD, Broken, Frames
from libexo.transport.framing import Assembly, encode, report

QUEUE = 1000
"""Messages queued at the sender of a binding before `send` says that it is full."""
FULL = 1 << 13
"""Bytes that ZeroMQ reads at a time: after so many there are more, as a rule, and it is not asked first."""
CHUNKS, FEWEST = 64, 4
"""Pieces that ZeroMQ reads from a connection before we do; the rest waits at the host. Where there are many
connections, fewer of each; no less than so many."""
ALL_CHUNKS = 4096
"""Pieces that it reads from all connections of an inbox together, as long as that is not less than the fewest.

Each takes 8 KiB, whatever is in it. That of each falls with the number of connections and does not rise again: to
ZeroMQ, a connection that had come to rest at the lower number would rest for ever.
"""
AT_ONCE = 64
"""Pieces that complete nothing before an inbox says that there is no message: there is more to see to."""
REPORT, LONG_REPORT = 1 << 14, 1 << 18
"""Bytes read that are reported when there is no message to go with; in the middle of a long one."""
FLUSH_MS = 200
"""How long a closing inbox may take to get its last answers out."""
RETRY_MS, LAST_RETRY_MS = 20, 5000
"""When a connection that the host refused is tried again, first and at last.

One that was lost is tried, too, in vain: its name is gone. To forbid that would throw away answers that came and
were not read yet.
"""
_PEER = b"."
"""ZeroMQ's name for the one connection of a channel."""
_ANYWHERE = "ipc://adopted"
"""ZeroMQ wants a name to bind to; that of the socket it is given is used instead."""
_NONE: Sequence[list[bytes]] = ()
_UNSENT = (zmq.EAGAIN, zmq.EHOSTUNREACH)
"""The queue is full; there is no connection any more."""

T = TypeVar("T")
# Plain numbers: combining the flags of an enum costs more than sending a frame does.
_NOW = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
_READABLE = int(zmq.POLLIN)
_poll = zmq.zmq_poll


class _End(Generic[T]):
    """What both ends have in common: a socket, with its calls at hand, and *T*, what is received from it."""

    shows_all = True
    """`Poll` sees whatever it holds: see `libexo.ipc`."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        """Use *socket*, which is connected or bound."""
        self.socket = socket
        self.messages: deque[T] = deque()
        """Those that were taken out of the socket together with one before."""
        self.is_ready = False
        """A wait found a message, or there may be more than was looked at."""
        self.is_quiet = False
        """It was asked, had nothing, and was not used since: its descriptor will tell of news."""
        # Without the wrapper in Python, which serves socket types that have groups and routing ids.
        self._send = super(zmq.Socket, socket).send
        self._recv: Any = socket.recv
        self._alone: list[tuple[Any, int]] = [(socket, _READABLE)]
        self._descriptor = cast("int", socket.getsockopt(zmq.FD))

    def look(self) -> bool:
        """Ask whether there is a message. To receive in vain would raise an exception, at three times the cost."""
        found = bool(self.messages or _poll(self._alone, 0))
        self.is_quiet = not found
        return found

    def fileno(self) -> int:
        """Return ZeroMQ's descriptor (edge-triggered)."""
        return self._descriptor

    def close(self) -> None:
        """Close the socket, and with it all connections."""
        self.socket.close()


class ZmqChannel(_End[list[bytes]]):
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
        self._assembly = Assembly(HELD)
        self._read = self._told = 0
        self._write(token)

    def send(self, frames: Frames) -> bool:
        """Send a message: one for ZeroMQ, so it takes all of it or nothing."""
        if not self._write(encode(frames, self._read)):
            return False
        self._told = self._read
        return True

    def _write(self, record: bytes) -> bool:
        self.is_quiet = False
        try:
            self._send(_PEER, _MORE)
            self._send(record, _NOW)
        except zmq.ZMQError as error:
            if error.errno in _UNSENT:
                return False
            raise
        return True

    def receive(self) -> list[bytes] | None:
        """Return the next answer, or None. Raises BrokenStream."""
        while not self.messages:
            if not (self.is_ready or self.look()):
                return None
            self.is_ready = self.is_quiet = False
            try:
                self._recv(_NOW)
                chunk = self._recv(_NOW)
            except zmq.Again:
                return None
            self.is_ready = len(chunk) == FULL
            self._read += len(chunk)
            messages = self._assembly.feed(chunk)
            most = REPORT if messages else LONG_REPORT
            if self._read - self._told > most and self._write(report(self._read)):
                self._told = self._read
            if len(messages) == 1:
                return messages[0]
            self.messages.extend(messages)
        return self.messages.popleft()


class _Peer:
    """One binding to an inbox."""

    __slots__ = ("assembly", "end_point", "identity", "owner", "sent", "token")

    def __init__(self, token: bytes, owner: int, end_point: str, limit: int) -> None:
        self.token = token
        self.owner = owner
        self.end_point = end_point
        self.identity: bytes | None = None
        """ZeroMQ's name for its connection, once it has said who it is."""
        self.assembly = Assembly(limit)
        self.sent = 0

    @property
    def held(self) -> int:
        """Bytes that are held for it: what is not complete, and what it has not read."""
        return self.assembly.held + self.sent - self.assembly.read


class ZmqInbox(_End[tuple[bytes, list[bytes]]]):
    """The receiving end of a thread. Implements `libexo.transport.base.Inbox`."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", broken: Broken) -> None:
        """Receive from nobody yet; *broken* is told who does not keep to the rules."""
        socket = context.socket(zmq.STREAM)
        socket.setsockopt(zmq.LINGER, FLUSH_MS)
        socket.setsockopt(zmq.RCVHWM, CHUNKS)
        socket.setsockopt(zmq.SNDHWM, 0)  # bounded here, in bytes
        super().__init__(socket)
        self.limit = HELD
        self._chunks = CHUNKS
        self._broken = broken
        self._held = 0
        """The sum of what is held for all."""
        self._peers: dict[bytes, _Peer] = {}
        """By token."""
        self._connected: dict[bytes, _Peer] = {}
        """By ZeroMQ's name for the connection."""
        self._strangers: dict[bytes, bytes] = {}
        """What those have sent so far who have not said who they are, by the same."""

    def admit(self, token: bytes, descriptor: Descriptor, owner: int) -> None:
        """Have ZeroMQ accept the one connection at the listening socket *descriptor*."""
        self.is_quiet = False
        self.socket.setsockopt(zmq.USE_FD, cast("int", descriptor))
        self.socket.bind(_ANYWHERE)
        end_point = cast("bytes", self.socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
        self._peers[token] = _Peer(token, owner, end_point, self.limit)
        if len(self._peers) * self._chunks > ALL_CHUNKS and self._chunks > FEWEST:
            self._chunks //= 2
            self.socket.setsockopt(zmq.RCVHWM, self._chunks)  # of those that are there, too

    def close_peer(self, token: bytes) -> None:
        """Close its connection and its listening socket, which ZeroMQ closes together."""
        peer = self._peers.pop(token, None)
        if peer is None:
            return
        self._held -= peer.held
        if peer.identity is not None:
            self._connected.pop(peer.identity, None)
        if self.messages:
            self.messages = deque(message for message in self.messages if message[0] != token)
        self.is_quiet = False
        with suppress(zmq.ZMQError):  # we were closed meanwhile
            self.socket.unbind(peer.end_point)

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """Return the token a message came under, and its frames; or None."""
        for _ in range(AT_ONCE):
            if self.messages:
                return self.messages.popleft()
            if not (self.is_ready or self.look()):
                return None
            self.is_ready = self.is_quiet = False
            try:
                identity = self._recv(_NOW)
                chunk = self._recv(_NOW)
            except zmq.Again:
                return None
            self.is_ready = len(chunk) == FULL
            peer = self._connected.get(identity)
            if peer is None:
                self._meet(identity, chunk)
                continue
            messages = self._take(peer, chunk)
            if len(messages) == 1:
                return peer.token, messages[0]
            self.messages.extend([(peer.token, message) for message in messages])
        self.is_ready = True
        return self.messages.popleft() if self.messages else None

    def _take(self, peer: _Peer, chunk: bytes) -> Sequence[list[bytes]]:
        """Return the messages that are complete with *chunk*; whose fault it is that none can be is closed."""
        assembly = peer.assembly
        before = assembly.held - assembly.read
        why, messages = "", _NONE
        try:
            messages = assembly.feed(chunk)
        except BrokenStream as error:
            why = str(error)
        if why or assembly.read > peer.sent:
            self._held += assembly.held - assembly.read - before
            self._end(peer, why or f"it says it has read {assembly.read} bytes of {peer.sent}")
            return ()
        if not chunk:  # ZeroMQ says so that the connection is closed
            self._connected.pop(cast("bytes", peer.identity), None)
            self._held -= peer.held
            peer.identity, peer.assembly, peer.sent = None, Assembly(self.limit), 0
            return ()
        if (change := assembly.held - assembly.read - before) != 0:
            self._held += change
            if self._held > self.limit:
                self._shed()
        return messages

    def _meet(self, identity: bytes, chunk: bytes) -> None:
        """Somebody sent *chunk* who has not said yet who he is: his token comes first."""
        said = self._strangers.pop(identity, None)
        if said is None:
            if (
                not chunk
            ):  # ZeroMQ says so that there is a connection; else it is what was left of one we closed
                self._strangers[identity] = b""
                if len(self._strangers) > len(self._peers):
                    del self._strangers[next(iter(self._strangers))]  # ZeroMQ says the same of one we closed
            return
        if not chunk:
            return  # he has left
        said += chunk
        if len(said) < TOKEN_BYTES:
            self._strangers[identity] = said
            return
        peer = self._peers.get(said[:TOKEN_BYTES])
        if peer is None or peer.identity is not None:
            self._hang_up(identity)
            self._broken(b"", "no token, or one in use")
            return
        peer.identity = identity
        self._connected[identity] = peer
        if len(said) > TOKEN_BYTES:
            self.messages.extend([(peer.token, message) for message in self._take(peer, said[TOKEN_BYTES:])])

    def _hang_up(self, identity: bytes) -> None:
        with suppress(zmq.ZMQError):  # he was quicker
            self._send(identity, _MORE)
            self._send(b"", _NOW)

    def _end(self, peer: _Peer, why: str) -> None:
        self.close_peer(peer.token)
        self._broken(peer.token, why)

    def _shed(self) -> None:
        """End bindings of whoever holds the most until there is room."""
        while self._held > self.limit and self._peers:
            by_owner: Counter[int] = Counter()
            for peer in self._peers.values():
                by_owner[peer.owner] += peer.held
            guilty = max(by_owner, key=by_owner.__getitem__)
            worst = max((p for p in self._peers.values() if p.owner == guilty), key=lambda p: p.held)
            self._end(
                worst, f"{by_owner[guilty]} bytes of messages that were not complete, or answers not read"
            )

    def send(self, token: bytes, frames: Frames) -> bool:
        """Send an answer back over the binding of *token*; it counts as held until it was read."""
        peer = self._peers.get(token)
        if peer is None or peer.identity is None:
            return False
        self.is_quiet = False
        record = encode(frames)
        try:
            self._send(peer.identity, _MORE)
            self._send(record, _NOW)
        except zmq.ZMQError as error:
            if error.errno in _UNSENT:
                return False
            raise
        peer.sent += len(record)
        self._held += len(record)
        if self._held > self.limit:
            self._shed()
            return token in self._peers
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
        for end in self._ends.values():
            if end.messages:
                end.is_ready = True
                milliseconds = 0
        for item, events in _poll(self._items, milliseconds):
            found = self._ends.get(item)
            if found is None:
                descriptors.append((item, events))
            else:
                found.is_ready = True
        return descriptors


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
