"""The ordinary call: one word and a short string there, one word and a short string back, and nothing else.

It gets no exchange and no operation until something else than its answer happens: then it becomes a call as any,
with the same number, so nothing is sent twice. Over a ring it takes as long as to write a record, to see
the answer and to read it (`libexo.transport.ring.layout`); over a socket it is the same packet as any call's. Its
receiver cannot tell the difference.
"""

from threading import get_ident
from typing import TYPE_CHECKING

from kernel.abi.ids import NIL_THREAD, show_thread
from kernel.abi.kip import Head
from kernel.abi.limits import SHORT_STRING
from kernel.abi.messages import Packet, Phase, ShortPart
from libexo.errors import BrokenRing, BrokenStream, NoPartner
from libexo.ipc.message import Message
from libexo.ipc.packing import CALL, ENCODE, REPLY, TIMED, WITHDRAWABLE, read_plain
from libexo.transport.ring.duplex import ONCE
from libexo.transport.ring.ends import RingChannel
from libexo.transport.ring.layout import short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libexo.ipc.exchange import Link, Outgoing
    from libexo.ipc.thread import Thread
    from libexo.transport.ring.duplex import Duplex, Short

_EPOCH = int(Head.BINDING_EPOCH)
_WELL = short(REPLY, 0)


class Packets:
    """A link that carries packets, written and read as a ring's line is."""

    __slots__ = ("_link", "other")

    def __init__(self, link: "Link") -> None:
        """Write to the channel of *link*, whichever it is by then, and read what comes back there."""
        self._link = link
        self.other: list[bytes] | None = None
        """The frames of what came last, and is no plain answer."""

    def put(self, mark: int, sequence: int, label: int, string: bytes) -> bool:
        """Write a plain message of *mark*, as from `layout.short`. False: there is no room."""
        packet = Packet(mark >> 48, sequence, label, (mark >> 16 & 0xFFFF,), (ShortPart(string),))
        return self._link.channel.send((ENCODE(packet),))

    def get(self, spins: "Sequence[None]" = ONCE) -> "Short | None":
        """Read a plain message. None: there is nothing, or something else, which is in `other`."""
        frames = self._link.channel.receive()
        if frames is None:
            return None
        found = read_plain(frames)
        if found is None or found[0] >= WITHDRAWABLE:
            self.other = frames
            return None
        return found

    def ready(self) -> bool:
        """Say whether something came that is no plain message."""
        return self.other is not None


class Plain:
    """Ordinary calls of one strand over one link."""

    __slots__ = (
        "_core", "_get", "_line", "_link", "_put", "_spinning", "_strand", "_thread", "_timeout", "_wait", "_words",
    )  # fmt: skip

    def __init__(self, thread: "Thread", link: "Link", timeout: float | None = None) -> None:
        """Call over *link* of *thread*, *timeout* seconds each, or for ever."""
        self._thread = thread
        self._timeout = timeout
        self._strand = get_ident()
        self._core = core = thread.core
        self._link = link
        channel = link.channel
        self._line: Duplex | Packets = channel.line if isinstance(channel, RingChannel) else Packets(link)
        self._spinning = channel.spinning if isinstance(channel, RingChannel) else None
        self._put, self._get, self._wait = self._line.put, self._line.get, core.sleep
        self._words = thread.environment.kip.words

    def _is_ordinary(self, string: bytes) -> bool:
        """Say whether nothing else is under way, no other strand calls, no binding fell, and *string* is short."""
        link = self._link
        return not (
            link.exchanges
            or link.taken
            or link.fallen
            or get_ident() != self._strand
            or self._words[_EPOCH] != self._core.links.epoch
            or len(string) > SHORT_STRING
        )

    def call(self, label: int, mark: int, string: bytes) -> bytes | Message | None:
        """Call with *string* and *mark* (`layout.short`); return the string of an answer whose word is 0.

        A message: any other answer. None: this is no ordinary call.
        """
        link = self._link
        if (  # as `_is_ordinary`, which it would cost more to call than to do
            get_ident() != self._strand
            or len(string) > SHORT_STRING
            or self._words[_EPOCH] != self._core.links.epoch
            or link.exchanges
            or link.taken
            or link.fallen
        ):
            return None
        # Here no handler of a signal comes in between: Python calls them after a call.
        changes, sequence, link.taken = self._core.changes, 0, True
        try:
            timeout = self._timeout
            until = None if timeout is None else self._thread.within(timeout)[0]
            sequence = next(link.sequence)
            if timeout is None:
                sent = self._put(mark, sequence, label, string)
            else:
                sent = self._post(mark, sequence, label, string)
            answer = self._answer(sequence, label, until, changes) if sent else None
        except (BrokenRing, BrokenStream):
            call = self._expect(sequence)
            link.taken = False
            self._core.break_link(link)
            return self._thread.answer_to(call)
        except BaseException:
            if sequence:
                self._expect(sequence)  # nobody waits for it, but its tickets may be up
            link.taken = False
            raise
        if sent and answer is None:
            return self._go_on(sequence, until)
        link.taken = False
        if link.standing is not None:
            link.standing.doubted = False
        return answer

    def _post(self, mark: int, sequence: int, label: int, string: bytes) -> bool:
        """Write a message that may be withdrawn: it has its ticket (`libexo.ipc.tickets`), and says so."""
        link = self._link
        packet = Packet(mark >> 48, sequence, label, (mark >> 16 & 0xFFFF,), (ShortPart(string),), TIMED)
        link.tickets.post(sequence)
        sent = link.channel.send((ENCODE(packet),))
        if not sent:
            link.tickets.clear()
        return sent

    def _answer(self, sequence: int, label: int, until: int | None, changes: int) -> bytes | Message | None:
        """Wait for the plain answer to *sequence*, and return it, as `call`; None: something else has happened.

        *changes*: of the core, when it began.
        """
        get, spinning, woken = self._get, self._spinning, False
        if spinning is None:  # to wait is to look into sockets
            self._sleep(until, changes)
            answer, woken = get(ONCE), True
        else:
            answer = get(spinning.spins)
        while True:
            if answer is not None:
                kind, answers, _, result = answer
                if answers == sequence:
                    if kind == _WELL:
                        return result
                    if kind >> 48 == REPLY:
                        return Message(label, (kind >> 16 & 0xFFFF,), (result,))
                self._core.statistics["unexpected_answer"] += 1
                return None  # there may be no end of them, and here nobody looks at the time
            if woken or self._line.ready():
                return None
            if spinning is not None:
                self._link.channel.looked = True  # type: ignore[attr-defined]
            self._sleep(until, changes)
            answer, woken = get(ONCE), True

    def _sleep(self, until: int | None, changes: int) -> None:
        """Wait for news, and let others see whose answer it is for."""
        link, row = self._link, self._core.row
        row.awaits(link.partner)
        try:
            self._wait((link.channel, *self._core.outside), until, changes)
        finally:
            row.awaits(NIL_THREAD)

    def _expect(self, sequence: int) -> "Outgoing":
        """Return call *sequence* as one that is kept account of from now on."""
        return self._core.expect(self._link, CALL, sequence, timed=self._timeout is not None)

    def _go_on(self, sequence: int, until: int | None) -> Message:
        """Wait for the answer to call *sequence* as to any; until it is kept account of, its link is taken."""
        try:
            call, line = self._expect(sequence), self._line
            if isinstance(line, Packets) and line.other is not None:
                frames, line.other = line.other, None
                self._core.take_in(self._link, frames)
        finally:
            self._link.taken = False
        return self._thread.answer_to(call, until, self._timeout)

    def tell(self, label: int, mark: int, string: bytes) -> bool:
        """Write a request nobody answers, waiting for room if need be. False: take the ordinary way."""
        while (written := self.post(label, mark, string)) is False:
            self._await_room()
        return bool(written)

    def post(self, label: int, mark: int, string: bytes) -> bool | None:
        """Write a request nobody answers. False: there is no room; None: it is not ordinary. Raises NoPartner."""
        line = self._line
        if isinstance(line, Packets) or self._timeout is not None or not self._is_ordinary(string):
            return None
        link = self._link
        link.taken = True
        try:
            return line.put(mark, next(link.sequence), label, string)
        except BrokenRing as error:
            self._core.break_link(link)
            raise self._gone() from error
        finally:
            link.taken = False

    def _await_room(self) -> None:
        """Sleep until there is room. Raises NoPartner."""
        line, changes = self._line, self._core.changes
        assert not isinstance(line, Packets)
        try:
            if line.receive() is not None:  # nobody asked for it, and with it there nobody sleeps
                self._core.statistics["unexpected_answer"] += 1
        except BrokenRing as error:
            self._core.break_link(self._link)
            raise self._gone() from error
        line.stuck = True
        self._wait((self._link.channel, *self._core.outside), None, changes)
        line.stuck = False
        self._core.pump_gate()
        if self._link.fallen:
            raise self._gone()

    def _gone(self) -> NoPartner:
        return NoPartner(
            Phase.SEND, f"thread {show_thread(self._link.partner)} ended meanwhile", *self._link.end
        )
