"""Calls of stubs over a ring, abbreviated: the same messages, without the rendezvous around them.

Nearly every call of a stub is one word and a short string there, and one word and a short string back, has no
time-out and meets nobody else on the way. Over a ring, such a call is over in the time it takes to write a record,
to see the answer, and to read it, if nothing else is done. So it travels as a SHORT record
(`libexo.transport.ring.layout`), which is written and read here. Whatever is not as simple takes the ordinary way,
on each side for itself: who reads a record there gets the packet it stands for.
"""

from typing import TYPE_CHECKING, Any

import msgspec

from kernel.abi.ids import show_thread
from kernel.abi.kip import Head
from kernel.abi.limits import SHORT_STRING
from kernel.abi.messages import Phase
from libexo.errors import BrokenRing, NoPartner
from libexo.exchange import Exchange
from libexo.message import Message, Origin
from libexo.remote import DEFERRED, DONE
from libexo.serving import AT_ONCE
from libexo.transport.ring.ends import RingChannel
from libexo.transport.ring.layout import short
from libexo.transport.ring.line import ONCE
from libexo.wire import CALL, REPLY, TELL

if TYPE_CHECKING:
    from libexo.exchange import Link
    from libexo.ipc import Thread
    from libexo.stub import Server
    from libexo.transport.ring.ends import RingInbox

_CALL, _REPLY, _TELL = short(CALL), short(REPLY), short(TELL)
_REQUESTS = (CALL, TELL)
_EPOCH = int(Head.BINDING_EPOCH)
_ENCODE = msgspec.msgpack.Encoder().encode


class Shortcut:
    """The caller's side: calls over one link."""

    __slots__ = ("_channel", "_core", "_line", "_link", "_thread", "_wait", "_words")

    def __init__(self, thread: "Thread", link: "Link") -> None:
        """Call over *link* of *thread*, which uses its ring."""
        assert isinstance(link.channel, RingChannel)
        self._thread = thread
        self._core = thread.core
        self._link = link
        self._channel = link.channel
        self._line = link.channel.line
        self._wait = thread.environment.host.wait
        self._words = thread.environment.kip.words

    def _is_free(self) -> bool:
        """Say whether nothing needs the ordinary way: messages under way, bindings that fell, other threads."""
        link, core = self._link, self._core
        return not (
            link.exchanges
            or link.fallen
            or self._words[_EPOCH] != core.sending.epoch
            or core.waker is not None
        )

    def call(self, label: int, number: int, string: bytes) -> bytes | Message | None:
        """Call operation *number*; return the result, or the answer if it is none; None: take the ordinary way."""
        link, line = self._link, self._line
        if len(string) > SHORT_STRING or not self._is_free():
            return None
        sequence = next(link.sequence)
        try:
            if not line.put(_CALL, sequence, label, number, string):
                return None
            looks = self._channel.patience.looks
            while True:
                answer = line.get(looks)
                if answer is None:
                    if line.ready() or not self._sleep():
                        break
                    looks = ONCE
                elif answer[1] == sequence and answer[0] == REPLY:
                    _, _, _, status, result = answer
                    return result if status == DONE else Message(label, (status,), (result,))
                else:
                    self._core.statistics["unexpected_answer"] += 1
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

    def tell(self, label: int, number: int, string: bytes) -> bool:
        """Write a request nobody answers, waiting for room if need be. False: take the ordinary way."""
        line = self._line
        if len(string) > SHORT_STRING or not self._is_free():
            return False
        sequence = next(self._link.sequence)
        try:
            while not line.put(_TELL, sequence, label, number, string):
                self._await_room()
        except BrokenRing as error:
            line.spoil(error)
            self._core.pump_link(self._link)
            raise self._gone() from error
        return True

    def _await_room(self) -> None:
        """Sleep until there is room. Raises NoPartner."""
        self._line.stuck = True
        self._wait((self._channel, *self._core.outside), None)
        self._line.stuck = False
        self._core.pump_gate()
        if self._link.fallen:
            raise self._gone()

    def _gone(self) -> NoPartner:
        return NoPartner(Phase.SEND, f"thread {show_thread(self._link.partner)} ended meanwhile")


class Shorts:
    """The server's side: requests that came abbreviated."""

    def __init__(self, server: "Server", implementation: Any, inbox: "RingInbox") -> None:  # noqa: ANN401
        """Have *implementation* do what comes through the rings of *inbox*."""
        self._server = server
        self._implementation = implementation
        self.inbox = inbox
        self._thread = server.environment.thread
        self._receiving = self._thread.core.receiving
        self._words = server.environment.kip.words
        self._label = implementation.label
        self._methods = {
            number: (operation, operation.arguments.decode, getattr(implementation, operation.name))
            for number, operation in implementation.operations.items()
            if not operation.extents
        }

    def serve(self) -> int:
        """Serve what there is, AT_ONCE at most; return how many that were."""
        next_short, peers = self.inbox.short, self._receiving.peers.known
        for served in range(AT_ONCE):
            found = next_short()
            if found is None:
                self.inbox.looked = True
                return served
            token, line, (kind, sequence, label, number, string) = found
            peer = peers[token]
            if (
                peer.epoch != self._words[_EPOCH]
                and self._receiving.peers.identify(token, self._thread.id) is None
            ):
                continue
            if sequence <= peer.last:
                self._thread.core.statistics["duplicate"] += 1
                continue
            peer.last = sequence
            method = self._methods.get(number) if label == self._label else None
            if method is None or kind not in _REQUESTS:
                origin = Origin(peer, peer.thread, sequence, kind == CALL)
                self._server.handle(peer.thread, Message(label, (number,), (string,), origin))
                continue
            operation, decode, do = method
            implementation = self._implementation
            implementation.asking = self._thread, operation, peer, sequence, label
            try:
                result = do(*decode(string))
                if kind == TELL or result is DEFERRED:
                    continue
                data = _ENCODE(result)
                if (
                    operation.gives_extent
                    or len(data) > SHORT_STRING
                    or not line.put(_REPLY, sequence, label, DONE, data)
                ):
                    implementation.call.answer(result)
            except Exception as error:  # noqa: BLE001 - whatever an implementation raises
                implementation.call.fail(error)
        return AT_ONCE
