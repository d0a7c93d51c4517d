"""Calls of stubs over a ring, abbreviated: the same messages, without the rendezvous around them.

Nearly every call of a stub is one word and a short string there, and one word and a short string back, has no
time-out and meets nobody else on the way. Over a ring, such a call is over in the time it takes to write a record,
to see the answer, and to read it, if nothing else is done. So it travels as a SHORT record
(`libexo.transport.ring.layout`), which is written and read here. Whatever is not as simple takes the ordinary way,
on each side for itself: who reads a record there gets the packet it stands for.
"""

from threading import get_ident
from typing import TYPE_CHECKING

import msgspec

from kernel.abi.ids import show_thread
from kernel.abi.kip import Head
from kernel.abi.limits import SHORT_STRING
from kernel.abi.messages import Phase
from libexo.errors import BrokenRing, NoPartner
from libexo.ipc.message import Message
from libexo.ipc.wire import CALL, REPLY
from libexo.stub.call import DONE
from libexo.transport.ring.ends import RingChannel
from libexo.transport.ring.layout import short
from libexo.transport.ring.line import ONCE

if TYPE_CHECKING:
    from libexo.ipc.exchange import Link
    from libexo.ipc.thread import Thread

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
            or self._words[_EPOCH] != core.links.epoch
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
        return self._thread.answer_to(self._core.sending.expect(self._link, CALL, sequence))

    def tell(self, label: int, mark: int, string: bytes) -> bool:
        """Write a request nobody answers, waiting for room if need be. False: take the ordinary way."""
        line = self._line
        if (
            self._link.exchanges
            or self._link.fallen
            or get_ident() != self._strand
            or self._words[_EPOCH] != self._core.links.epoch
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
