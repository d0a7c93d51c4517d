"""The receiving end of a thread over ZeroMQ: one STREAM socket, and what is held for each binding to it.

The inbox adopts the listening socket (ZMQ_USE_FD) of a binding when the kernel hands it over, at which one
connection waits and no other ever will: ZeroMQ accepts whoever comes, and gives up the process when there is no
descriptor left to do so with. For ZeroMQ, the connection is part of what it was accepted at; so it keeps the
listening socket, and both are closed together.

*Turns.* ZeroMQ hands over up to 8 KiB of one connection at a time: some ninety short messages. While one piece is
worked through, an inbox reads what else there is, a piece of each connection, and keeps it by party
(`libexo.transport.turns`). So that this has an end, each side says how much it has read, and a sender stops when
WINDOW bytes of it were not: who goes on all the same soon holds more than all may (`Inbox.limit`).
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

import zmq

from kernel.abi.limits import TOKEN_BYTES
from libexo.errors import BrokenStream
from libexo.transport import heap
from libexo.transport.base import FLUSH_MS, HELD, Broken, Descriptor, Frames
from libexo.transport.binding import PIECE, REPORT, Binding
from libexo.transport.framing import HEAD, MAX_PACKET, encode, report
from libexo.transport.turns import Turns
from libexo.transport.zmq_polling import FULL, MORE, NOW, UNSENT, End, zmq_poll

FEW_CHUNKS = 5
"""Pieces that ZeroMQ reads from each connection before we do: there may be hundreds. A piece takes 8 KiB, however
short it is.

This does not change while there are connections: where it is lowered, ZeroMQ never wakes one that rests at it.
"""
AT_ONCE = 64
"""Pieces that an inbox reads before it returns a message, if it has one; and so many times, before it says that it
has none: there is more to see to."""
STRAIGHT = 8
"""Messages received as they come before it is looked for others, who may have waited longer."""
MUCH = 1 << 20
"""Bytes received over a binding that may have left holes in the heap that are worth giving back."""
_ANYWHERE = "ipc://adopted"
"""ZeroMQ wants a name to bind to; that of the socket it is given is used instead."""
_NONE: Sequence[list[bytes]] = ()
_HEAD, _PACK, _UNPACK = HEAD.size, HEAD.pack, HEAD.unpack_from


class ZmqInbox(End):
    """The receiving end of a thread. Implements `libexo.transport.base.Inbox`."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", broken: Broken) -> None:
        """Receive from nobody yet; *broken* is told who does not keep to the rules."""
        socket = context.socket(zmq.STREAM)
        socket.setsockopt(zmq.LINGER, FLUSH_MS)
        socket.setsockopt(zmq.RCVHWM, FEW_CHUNKS)
        socket.setsockopt(zmq.SNDHWM, 0)  # bounded here, in bytes
        super().__init__(socket)
        self.messages: Turns[Binding] = Turns()
        """Those of whom something waits for its turn: within a party, its bindings take turns as well."""
        self._straight = STRAIGHT
        """How many messages more may be received as they come."""
        self.limit = HELD
        self._broken = broken
        self._held = 0
        """The sum of what is held for all."""
        self._peers: dict[bytes, Binding] = {}
        """By token."""
        self._connected: dict[bytes, Binding] = {}
        """By ZeroMQ's name for the connection."""
        self._strangers: dict[bytes, bytes] = {}
        """What those have sent so far that are nobody's yet, by the same; as many as there are peers."""

    def admit(self, token: bytes, descriptor: Descriptor, owner: int) -> None:
        """Have ZeroMQ accept the one connection at the listening socket *descriptor*."""
        self.is_quiet = False
        self.socket.setsockopt(zmq.USE_FD, cast("int", descriptor))
        self.socket.bind(_ANYWHERE)
        end_point = cast("bytes", self.socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
        self._peers[token] = Binding(token, owner, end_point, self.limit)

    def close_peer(self, token: bytes) -> None:
        """Close its connection and its listening socket, which ZeroMQ closes together."""
        peer = self._peers.pop(token, None)
        if peer is None:
            return
        self._held -= peer.held
        if peer.identity is not None:
            self._connected.pop(peer.identity, None)
        self.messages.drop(peer.owner, lambda waiting: waiting is peer)
        peer.pieces.clear()
        self.is_quiet = False
        with suppress(zmq.ZMQError):  # we were closed meanwhile
            self.socket.unbind(peer.end_point)
        if peer.read > MUCH:
            heap.trim()

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """Return the token a message came under, and its frames; or None."""
        left = AT_ONCE
        if self.is_ready and self._straight and not self.messages:
            self._straight -= 1
            left -= 1
            self.is_ready = self.is_quiet = False
            try:
                identity = self._recv(NOW)
                chunk = self._recv(NOW)
            except zmq.Again:
                return None
            peer, size = self._connected.get(identity), len(chunk)
            self.is_ready = size == FULL
            if peer is None:
                self._meet(identity, chunk)
            else:
                assembly = peer.assembly
                if _HEAD < size < FULL and not assembly.held and peer.read + size - peer.told <= REPORT:
                    count, first, read = _UNPACK(chunk)
                    if count == 1 and size == _HEAD + first and read == peer.sent:
                        # One message that came in one piece, and its sender has read all: nearly always.
                        peer.read += size
                        self._held -= peer.owed
                        peer.mark = assembly.read = read
                        peer.owed = peer.older = peer.newer = 0
                        return peer.token, [chunk[_HEAD:]]
                if len(messages := self._take(peer, chunk)) == 1:
                    return peer.token, messages[0]
                if messages and peer.token in self._peers:
                    peer.pieces.extend(messages)
                    self.messages.add(peer.owner, peer)
        self._straight = STRAIGHT
        while left > 0:
            read = self._gather(left)
            if (message := self._next()) is not None:
                self.is_quiet = self.is_quiet and not self.messages
                return message
            if not read:
                return None
            left -= read
        self.is_ready = True
        return None

    def again(self, token: bytes) -> None:
        """What was received last, under *token*, had been withdrawn: it was not its party's turn yet."""
        if (peer := self._peers.get(token)) is not None:
            self.messages.again(peer.owner)

    def _gather(self, most: int = AT_ONCE) -> int:
        """Read what there is, a piece of each connection, *most* at most; return how many there were."""
        read, most = 0, min(most, len(self._connected) + len(self._strangers) + 1)
        while read < most:
            if not (self.is_ready or zmq_poll(self.alone, 0)):
                self.is_quiet = True
                break
            self.is_ready = self.is_quiet = False
            try:
                identity = self._recv(NOW)
                chunk = self._recv(NOW)
            except zmq.Again:
                break
            self.is_ready = len(chunk) == FULL
            peer = self._connected.get(identity)
            if peer is None:
                self._meet(identity, chunk)
            else:
                self._keep(peer, chunk)
            read += 1
        return read

    def _keep(self, peer: Binding, chunk: bytes) -> None:
        """Have *chunk* wait for its turn."""
        if not peer.pieces:
            self.messages.add(peer.owner, peer)
        peer.pieces.append(chunk)
        peer.waiting += PIECE + len(chunk)
        self._held += PIECE + len(chunk)
        if self._held > self.limit:
            self._shed()

    def _next(self) -> tuple[bytes, list[bytes]] | None:
        """Return the message whose turn it is."""
        while (turn := self.messages.next()) is not None:
            owner, peer = turn
            piece = peer.pieces.popleft()
            messages: Sequence[list[bytes]] = (piece,) if isinstance(piece, list) else self._cut(peer, piece)
            if peer.pieces:
                self.messages.add(owner, peer)
            if messages:
                return peer.token, messages[0]
        return None

    def _cut(self, peer: Binding, piece: bytes) -> Sequence[list[bytes]]:
        """Return the messages that are complete with *piece*, whose turn it is; all but the first wait on."""
        peer.waiting -= PIECE + len(piece)
        self._held -= PIECE + len(piece)
        messages = self._take(peer, piece)
        if peer.token in self._peers:
            peer.pieces.extendleft(reversed(messages[1:]))
        return messages

    def _take(self, peer: Binding, chunk: bytes) -> Sequence[list[bytes]]:
        """Return the messages that are complete with *chunk*; whose fault it is that none can be is closed."""
        assembly = peer.assembly
        peer.read += len(chunk)
        before, heard = assembly.held + peer.owed, assembly.read
        why, messages = "", _NONE
        try:
            messages = assembly.feed(chunk)
        except BrokenStream as error:
            why = str(error)
        if assembly.read > heard:
            peer.heard()
        if (change := assembly.held + peer.owed - before) != 0:
            self._held += change
        if why or assembly.read > peer.sent:
            self._end(peer, why or f"it says it has read {assembly.read} bytes of {peer.sent}")
            return ()
        if not chunk:  # ZeroMQ says so that the connection is closed
            self._connected.pop(cast("bytes", peer.identity), None)
            self._held -= peer.held
            peer.identity = None
            peer.connect(self.limit)
            return ()
        if change > 0 and self._held > self.limit:
            self._shed()
        if peer.read - peer.told > REPORT and peer.token in self._peers:
            peer.told = peer.read
            self._write(peer, report(peer.read))
        return messages

    def _meet(self, identity: bytes, chunk: bytes) -> None:
        """Take in *chunk*, of a connection that is no peer's yet: its token comes first.

        ZeroMQ says the same, nothing, of a new connection, of one that ended, and of one that we closed, of which
        bytes may be left, too. So a connection is a stranger's or unknown, and only a stranger's is hung up.
        """
        known = self._strangers.pop(identity, None)
        said = (known or b"") + chunk
        if len(said) < TOKEN_BYTES:
            if chunk or known is None:
                self._strangers[identity] = said
            if len(self._strangers) > len(self._peers):
                del self._strangers[next(iter(self._strangers))]
            return
        peer = self._peers.get(said[:TOKEN_BYTES])
        if peer is None or peer.identity is not None:
            if known is not None:
                self._hang_up(identity)
                self._broken((), "no token, or one in use")
            return
        peer.identity = identity
        self._connected[identity] = peer
        if len(said) > TOKEN_BYTES:
            self._keep(peer, said[TOKEN_BYTES:])

    def _hang_up(self, identity: bytes) -> None:
        with suppress(zmq.ZMQError):  # he was quicker
            self._send(identity, MORE)
            self._send(b"", NOW)

    def _end(self, peer: Binding, why: str) -> None:
        self.close_peer(peer.token)
        self._broken((peer.token,), why)

    def _shed(self) -> None:
        """End the fullest bindings of whoever holds the most, until a quarter is free.

        Each time that some end, all others are asked for again: one at a time, there would be no end to it.
        """
        while self._held > self.limit and self._peers:
            by_owner: Counter[int] = Counter()
            for peer in self._peers.values():
                by_owner[peer.owner] += peer.held
            guilty = max(by_owner, key=by_owner.__getitem__)
            theirs = [peer for peer in self._peers.values() if peer.owner == guilty]
            ended = []
            for peer in sorted(theirs, key=lambda peer: -peer.held):
                self.close_peer(peer.token)
                ended.append(peer.token)
                if self._held <= self.limit - self.limit // 4:
                    break
            self._broken(ended, f"{by_owner[guilty]} bytes that wait, are not complete, or were not read")

    def send(self, token: bytes, frames: Frames) -> bool:
        """Send an answer back over the binding of *token*; it counts as held until it was read."""
        peer = self._peers.get(token)
        if peer is None or peer.identity is None:
            return False
        read, first = peer.read, frames[0]
        plain = len(frames) == 1 and len(first) <= MAX_PACKET  # as `encode` writes it
        record = _PACK(1, len(first), read) + first if plain else encode(frames, read)
        peer.told = read
        return self._write(peer, record)

    def _write(self, peer: Binding, record: bytes) -> bool:
        self.is_quiet = False
        assert peer.identity is not None
        try:
            self._send(peer.identity, MORE)
            self._send(record, NOW)
        except zmq.ZMQError as error:
            if error.errno in UNSENT:
                return False
            raise
        cost = PIECE + len(record)
        peer.sent += cost - PIECE
        peer.owed += cost
        peer.newer += 1
        self._held += cost
        if self._held > self.limit:
            self._shed()
            return peer.token in self._peers
        return True

    def finish(self) -> None:
        """Close, and wait until the last answers are out, FLUSH_MS at most."""
        if not self.socket.closed:
            end = self.socket.get_monitor_socket(zmq.EVENT_MONITOR_STOPPED)
            self.close()
            end.poll(FLUSH_MS)
            end.close(linger=0)
