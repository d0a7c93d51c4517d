"""Calls of stubs over a ring, abbreviated: the same messages, without the rendezvous around them.

Nearly every call of a stub is one word and a short string there, and one word and a short string back, has no
time-out and meets nobody else on the way. Over a ring, such a call is over in the time it takes to write a record,
to see the answer, and to read it, if nothing else is done. So it travels as a SHORT record
(`libexo.transport.ring.layout`), which is written and read here. Whatever is not as simple takes the ordinary way,
on each side for itself: who reads a record there gets the packet it stands for.
"""

from threading import get_ident
from typing import TYPE_CHECKING, Any

import msgspec

from kernel.abi.gate import UNDECODABLE
from kernel.abi.ids import show_thread
from kernel.abi.kip import Head
from kernel.abi.limits import SHORT_STRING
from kernel.abi.messages import Phase
from libexo.errors import BadArgument, BrokenRing, NoPartner
from libexo.ipc.exchange import Exchange
from libexo.ipc.message import Message, Origin
from libexo.ipc.wire import CALL, REPLY
from libexo.stub.client import DEFERRED, DONE
from libexo.stub.server import AT_ONCE
from libexo.transport.ring.ends import RingChannel
from libexo.transport.ring.layout import short
from libexo.transport.ring.line import ONCE

if TYPE_CHECKING:
    from libexo.ipc import Thread
    from libexo.ipc.exchange import Link, Peer
    from libexo.stub.server import Server
    from libexo.transport.ring.ends import RingInbox
    from libexo.transport.ring.line import Line, Short

_DONE = short(REPLY, DONE)
_EPOCH = int(Head.BINDING_EPOCH)
_ENCODE = msgspec.msgpack.Encoder().encode


class Shortcut:
    """The caller's side: calls over one link."""

    __slots__ = ("_channel", "_core", "_line", "_link", "_patience", "_strand", "_thread", "_wait", "_words")

    def __init__(self, thread: "Thread", link: "Link") -> None:
        """Call over *link* of *thread*, which uses its ring."""
        assert isinstance(link.channel, RingChannel)
        self._thread = thread
        self._strand = get_ident()
        self._core = thread.core
        self._link = link
        self._channel = link.channel
        self._line = link.channel.line
        self._patience = link.channel.patience
        self._wait = thread.environment.host.wait
        self._words = thread.environment.kip.words

    def call(self, label: int, mark: int, string: bytes) -> bytes | Message | None:
        """Call the operation of *mark*; return its result, or an answer that is none. None: go the ordinary way."""
        link, line, core = self._link, self._line, self._core
        if (
            link.exchanges
            or link.fallen
            or get_ident() != self._strand
            or self._words[_EPOCH] != core.sending.epoch
            or len(string) > SHORT_STRING
        ):
            return None  # messages under way, another strand, bindings that fell, a long string
        sequence = next(link.sequence)
        try:
            if not line.put(mark, sequence, label, string):
                return None
            looks = self._patience.looks
            while True:
                answer = line.get(looks)
                if answer is not None:
                    kind, answers, _, result = answer
                    if answers == sequence:
                        if kind == _DONE:
                            return result
                        if kind >> 48 == REPLY:
                            return Message(label, (kind >> 16 & 0xFFFF,), (result,))
                    core.statistics["unexpected_answer"] += 1
                elif line.ready() or not self._sleep():
                    break
                else:
                    looks = ONCE
        except BrokenRing as error:
            line.spoil(error)
        return self._finish(sequence)

    def _sleep(self) -> bool:
        """Wait for news; say whether it came through the ring."""
        self._channel.looked = True
        self._wait((self._channel, *self._core.outside), None)
        return self._line.ready()

    def _finish(self, sequence: int) -> Message:
        """Wait for the answer to message *sequence* in the ordinary way."""
        link = self._link
        exchange = link.exchanges[sequence] = Exchange(link, CALL, sequence, False, False, (), 0)
        return self._thread.answer_to(exchange)

    def tell(self, label: int, mark: int, string: bytes) -> bool:
        """Write a request nobody answers, waiting for room if need be. False: take the ordinary way."""
        line = self._line
        if (
            self._link.exchanges
            or self._link.fallen
            or get_ident() != self._strand
            or self._words[_EPOCH] != self._core.sending.epoch
            or len(string) > SHORT_STRING
        ):
            return False  # as in `call`
        sequence = next(self._link.sequence)
        try:
            while not line.put(mark, sequence, label, string):
                self._await_room()
        except BrokenRing as error:
            self._core.sending.break_link(self._link)
            raise self._gone() from error
        return True

    def _await_room(self) -> None:
        """Sleep until there is room. Raises NoPartner, BrokenRing."""
        if self._line.receive() is not None:  # nobody asked for it, and with it there nobody sleeps
            self._core.statistics["unexpected_answer"] += 1
        self._line.stuck = True
        self._wait((self._channel, *self._core.outside), None)
        self._line.stuck = False
        self._core.pump_gate()
        if self._link.fallen:
            raise self._gone()

    def _gone(self) -> NoPartner:
        return NoPartner(
            Phase.SEND, f"thread {show_thread(self._link.partner)} ended meanwhile", *self._link.end
        )


class Shorts:
    """The server's side: requests that came abbreviated."""

    def __init__(self, server: "Server", implementation: Any, inbox: "RingInbox") -> None:  # noqa: ANN401
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
