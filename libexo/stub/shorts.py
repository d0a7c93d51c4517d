"""The server's side of abbreviated calls over a ring: see `libexo.stub.shortcut`, which is the caller's."""

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kernel.abi.gate import UNDECODABLE
from kernel.abi.kip import Head
from kernel.abi.limits import SHORT_STRING
from libexo.errors import BadArgument, BrokenRing
from libexo.ipc.message import Message, Origin
from libexo.ipc.wire import CALL, REPLY
from libexo.stub.call import DEFERRED, DONE, Call
from libexo.stub.failure import Reports
from libexo.transport.ring.layout import short

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.ipc.peer import Peer
    from libexo.transport.ring.ends import RingInbox
    from libexo.transport.ring.line import Line, Short

AT_ONCE = 32
"""Requests served through rings before the server looks elsewhere: at its gate, sockets, what it watches."""
_DONE = short(REPLY, DONE)
_EPOCH = int(Head.BINDING_EPOCH)
_ENCODE = msgspec.msgpack.Encoder().encode


class Serving(Protocol):
    """The server, as it serves what came otherwise."""

    environment: "Environment"
    reports: Reports

    def handle(self, sender: int, message: Message) -> None:
        """Serve *message* of thread *sender*."""

    def surprised(self, call: Call, error: BaseException) -> None:
        """Tell the caller that its operation raised *error*; raise it here where it is to end the server."""


class Shorts:
    """The server's side: requests that came abbreviated."""

    def __init__(self, server: Serving, implementation: Any, inbox: "RingInbox") -> None:  # noqa: ANN401
        """Have *implementation* do what comes through the rings of *inbox*."""
        self._server = server
        self._implementation = implementation
        self.inbox = inbox
        self._thread = server.environment.thread
        self._receiving = self._thread.core.receiving
        self._peers = self._receiving.peers.known
        self._words = server.environment.kip.words
        self._label = implementation.label
        self._reports = server.reports
        self._methods = {
            operation.mark: (operation, operation.arguments.decode, getattr(implementation, operation.name))
            for operation in implementation.operations.values()
            if not operation.extents and operation.mark
        }

    def serve(self) -> int:
        """Serve what there is, AT_ONCE at most; return how many requests that were."""
        inbox, lines = self.inbox, self.inbox.lines
        looks = inbox.patience.looks
        served = 0
        while served < AT_ONCE:
            turn = lines[0] if len(lines) == 1 else inbox.next_line(looks)
            if turn is None:
                break
            token, line = turn
            try:
                short = line.get(looks)
            except BrokenRing as error:
                inbox.broken(token, error)
                continue
            if short is None:
                break
            self._serve(token, line, short)
            served += 1
        inbox.looked = served < AT_ONCE
        return served

    def _serve(self, token: bytes, line: "Line", short: "Short") -> None:
        """Do what *short* asks for, which came from *line* under *token*."""
        mark, sequence, label, string = short
        peer = self._peers[token]
        if peer.epoch != self._words[_EPOCH] and not self._is_there(peer):
            return
        if sequence <= peer.last:
            self._thread.core.statistics["duplicate"] += 1
            return
        peer.last = sequence
        method = self._methods.get(mark) if label == self._label else None
        if method is None:
            origin = Origin(peer, peer.thread, sequence, mark >> 48 == CALL)
            self._server.handle(peer.thread, Message(label, (mark >> 16 & 0xFFFF,), (string,), origin))
            return
        operation, decode, do = method
        implementation = self._implementation
        implementation.asking = self._thread, operation, peer, sequence, label, self._reports
        try:
            arguments = decode(string)
        except UNDECODABLE as error:
            implementation.call.fail(BadArgument(f"{operation.name}: {error}"))
            return
        try:
            result = do(*arguments)
            if operation.oneway or result is DEFERRED:
                return
            data = _ENCODE(result)
            if (
                operation.gives_extent
                or len(data) > SHORT_STRING
                or not line.put(_DONE, sequence, label, data)
            ):
                implementation.call.answer(result)
        except BaseException as error:  # noqa: BLE001 - whatever an implementation raises
            self._server.surprised(implementation.call, error)

    def _is_there(self, peer: "Peer") -> bool:
        """Ask the kernel whether the binding of *peer* still stands; if not, it is forgotten."""
        return self._receiving.peers.identify(peer.token, self._thread.id) is not None
