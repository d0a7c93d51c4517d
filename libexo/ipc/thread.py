"""IPC that waits: an L4 call blocks its thread, that is what it means.

    reply = thread.call(to, Message(label=0x40, words=(1, 2, 3)), timeout=1.0)
    sender, message = thread.wait()
    thread.reply(message, Message(words=(42,)))

Time-outs are in seconds: None and infinity wait for ever, 0 asks for a partner that is ready. `send` returns when
the receiver has taken the message. A failed IPC raises an `IpcError` with the X.2 code and phase. The X.2 system
call itself, with virtual registers and both phases in one, is `libexo.l4.Ipc`, over the same core.

A channel or inbox that *shows all* is one into which `Host.wait` itself looks: nothing it holds can be missed by
waiting for it. Any other is tried before it is waited for, because its descriptor may tell of news only.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kernel.abi.ids import ANY_LOCAL_THREAD, ANY_THREAD, USER_BASE, show_thread, thread_number
from kernel.abi.limits import MAX_OFFERS
from kernel.abi.messages import PacketKind, Phase
from libexo import timeouts
from libexo.errors import IpcTimeout, NoPartner
from libexo.ipc.exchange import Outgoing
from libexo.ipc.message import Message, Origin
from libexo.ipc.rendezvous import Rendezvous

if TYPE_CHECKING:
    from libexo.attachment import Attachment
    from libexo.transport.base import Source

READY = 0.002
"""What a time-out of zero allows a partner that does not say that it waits, in seconds (`libexo.ipc.standing`)."""
_ANY = (ANY_THREAD, ANY_LOCAL_THREAD)


class Thread:
    """One thread of an environment: an end point for IPC."""

    def __init__(self, environment: "Attachment", thread: int) -> None:
        """Be *thread* of *environment*."""
        self.id = thread
        self.environment = environment
        self.core = Rendezvous(environment, thread)
        self.engine: Any = None
        """Its X.2 state (`libexo.l4.engine.context`), made when that is first used."""
        self.is_lent = False
        """It goes from one thread of the host to another (`libexo.lending`)."""
        self.local = 0
        """Where its UTCB is, as the kernel said; 0: it was not asked for."""
        self.callers: dict[int, Origin] = {}
        """Who waits for an answer of this thread."""
        self._host = environment.host

    def __repr__(self) -> str:
        """Show the thread id."""
        return f"<Thread {show_thread(self.id)}>"

    def call(
        self, to: int, message: Message, timeout: float | None = None, *, accepts: int = MAX_OFFERS
    ) -> Message:
        """Send *message* to *to* and return its answer; *timeout* bounds both phases together.

        *accepts* is how many capabilities the answer may bring.
        """
        if to == self.id:
            raise self._is_caller()
        deadline, timeout = (None, None) if timeout is None else self._deadline(timeout)
        exchange = self.core.post(to, message, PacketKind.CALL, timed=timeout is not None, accepts=accepts)
        return self.answer_to(exchange, deadline, timeout)

    def answer_to(
        self, exchange: Outgoing, deadline: int | None = None, timeout: float | None = None
    ) -> Message:
        """Wait for the answer to a call that is under way, and return it."""
        self._finish(exchange, deadline, timeout)
        if exchange.reply is None:
            return self._await_turned(exchange, deadline, timeout)
        return exchange.reply

    def send(self, to: int, message: Message, timeout: float | None = None) -> None:
        """Send *message* to *to*; return when it was taken. To a thread that waits for an answer: answer it.

        With a *timeout*, however long, NoPartner says that nobody took it; without one, that is not known.
        """
        origin = self.callers.pop(to, None)
        if origin is not None:
            self.core.answer(origin, message)
            return
        if to == self.id:
            raise self._is_caller()
        deadline, timeout = (None, None) if timeout is None else self._deadline(timeout)
        exchange = self.core.post(to, message, PacketKind.SEND, timed=timeout is not None)
        self._finish(exchange, deadline, timeout)

    def wait(self, timeout: float | None = None) -> tuple[int, Message]:
        """Receive from anybody: return the sender's thread id and the message."""
        return self.receive(ANY_THREAD, timeout)

    def receive(self, sender: int, timeout: float | None = None) -> tuple[int, Message]:
        """Receive from *sender* only; messages of others wait."""
        received = self.receive_or_watch(sender, (), timeout)
        assert received is not None
        return received

    def receive_or_watch(
        self, sender: int, watch: Sequence["Source"], timeout: float | None = None
    ) -> tuple[int, Message] | None:
        """Receive, or return None when one of *watch* may have something. For servers that serve more than IPC."""
        row = self.core.row
        row.receives(sender)
        try:
            return self._receive(sender, watch, timeout)
        finally:
            row.rests()

    def _receive(
        self, sender: int, watch: Sequence["Source"], timeout: float | None
    ) -> tuple[int, Message] | None:
        core, woken = self.core, False
        deadline = None if timeout is None else self._deadline(timeout)[0]
        bound = sender not in _ANY and self._keep_bound(sender)
        while True:
            if woken or core.must_look():  # else waiting shows what there is, at the gate, too
                core.pump_gate()
                received = core.take(sender)
                if received is not None:
                    self.remember(received[1].origin)
                    return received
            if bound and core.known(sender) is None:
                raise NoPartner(Phase.RECEIVE, f"thread {show_thread(sender)} ended meanwhile")
            if woken and watch:
                return None
            if deadline is not None and self._host.now() >= deadline:
                raise IpcTimeout(Phase.RECEIVE, f"no message from {show_thread(sender)} within {timeout} s")
            inbox = core.receiving.inbox or core.open_inbox()
            self._host.wait((*core.outside, inbox, *watch), deadline)
            woken = True

    def reply(self, to: "int | Message", message: Message) -> None:
        """Answer the call of thread *to*, or the received message *to*.

        Raises NoPartner when none waits, IpcTimeout when it waits no longer.
        """
        origin = to.origin if isinstance(to, Message) else self.callers.get(to)
        if origin is None:
            who = "that message" if isinstance(to, Message) else f"thread {show_thread(to)}"
            raise NoPartner(Phase.SEND, f"{who} waits for no answer")
        if origin.actual:
            self.send(origin.sender, message, timeout=0)  # who spoke for it had it wait for us
            return
        if self.callers.get(origin.sender) is origin:
            del self.callers[origin.sender]
        self.core.answer(origin, message)

    def reply_wait(
        self, to: "int | Message", message: Message, timeout: float | None = None
    ) -> tuple[int, Message]:
        """Answer *to*, then receive from anybody: the loop of a server. A caller that is gone is no error."""
        try:
            self.reply(to, message)
        except (NoPartner, IpcTimeout):
            self.core.statistics["unanswered"] += 1
        return self.wait(timeout)

    def sleep(self, seconds: float) -> None:
        """Wait for *seconds*; messages wait meanwhile. Raises ValueError when that is no time-out."""
        deadline = timeouts.after(self._host.now(), seconds)
        while deadline is None or self._host.now() < deadline:
            self._host.wait((), deadline)

    def rename(self, thread: int) -> None:
        """Be *thread* from now on: the kernel gave it a new version."""
        self.id = self.core.thread = self.core.links.thread = self.core.receiving.thread = thread

    def wake(self) -> None:
        """Have it look at what other threads of its environment left for it."""
        if self.core.waker is not None:
            self.core.waker.wake()

    def close(self) -> None:
        """Close its links and its inbox."""
        self.core.close()

    def _is_caller(self) -> NoPartner:
        """Return the error of a call to this very thread, which would wait for itself for ever."""
        return NoPartner(Phase.SEND, f"thread {show_thread(self.id)} is the caller itself")

    def remember(self, origin: Origin | None) -> None:
        """Keep the way back to who waits for an answer."""
        if origin is not None and origin.answers:
            self.callers[origin.actual or origin.sender] = origin

    def _keep_bound(self, sender: int) -> bool:
        """Bind to the one partner of a closed receive, so that the kernel says when it is gone."""
        if sender == self.id or thread_number(sender) < USER_BASE:
            return False
        self.core.link(sender)
        return True

    def _finish(self, exchange: Outgoing, deadline: int | None, timeout: float | None) -> None:
        """Wait until *exchange* has ended, or is turned. Raises its error, or IpcTimeout."""
        core, link = self.core, exchange.link
        woken = False
        while True:
            if woken or not link.shows_all:
                core.pump_link(link)
            if woken and not exchange.done:
                core.pump_gate()
            if exchange.done or exchange.forwarded_to:
                break
            if deadline is not None and self._host.now() >= deadline:
                again = core.hold(exchange) if timeout is not None and timeout < READY else 0
                deadline = self._host.now() + (again or core.give_up(exchange, f"within {timeout} s"))
                continue
            self._host.wait((link.channel, *core.outside), deadline)
            woken = True
        if exchange.error is not None:
            raise exchange.error

    def _await_turned(self, exchange: Outgoing, deadline: int | None, timeout: float | None) -> Message:
        """Wait for the answer of a thread that is to answer in the receiver's place; it may be turned on."""
        core = self.core
        try:
            return self._receive_turned(exchange, deadline, timeout)
        finally:
            core.row.rests()

    def _receive_turned(self, exchange: Outgoing, deadline: int | None, timeout: float | None) -> Message:
        core = self.core
        while True:
            core.pump_link(exchange.link)
            core.pump_gate()
            if exchange.done:
                break
            received = core.take(exchange.forwarded_to, exchange.accepts) if exchange.forwarded_to else None
            if received is not None:
                core.abandon(exchange)
                return received[1]
            if deadline is not None and self._host.now() >= deadline:
                deadline = self._host.now() + core.give_up(exchange, f"within {timeout} s")
            self._host.wait((*core.outside, core.open_inbox(), exchange.link.channel), deadline)
        if exchange.error is not None:
            raise exchange.error
        assert exchange.reply is not None
        return exchange.reply

    def _deadline(self, timeout: float) -> tuple[int | None, float | None]:
        """Return when *timeout* is over, and how long it is; None twice where it is for ever."""
        number = timeouts.seconds(timeout)
        if number is None:
            return None, None
        return self._host.now() + int(max(number, READY) * timeouts.SECOND), number
