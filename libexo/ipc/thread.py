"""IPC that waits: an L4 call blocks its thread.

    reply = thread.call(to, Message(label=0x40, words=(1, 2, 3)), timeout=1.0)
    sender, message = thread.wait()
    thread.reply(message, Message(words=(42,)))

Time-outs are in seconds: None and infinity wait for ever, 0 asks for a partner that is ready. `send` returns when
the receiver has taken the message. A failed IPC raises an `IpcError` with the X.2 code and phase. The X.2 system
call itself, with virtual registers and both phases in one, is `libexo.l4.Ipc`, over the same rendezvous.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kernel.abi.ids import ANY_THREAD, NIL_THREAD, show_thread
from kernel.abi.limits import MAX_OFFERS
from kernel.abi.messages import PacketKind, Phase
from libexo import timeouts
from libexo.errors import IpcTimeout, NoPartner
from libexo.ipc.exchange import Outgoing
from libexo.ipc.message import Message, Origin
from libexo.ipc.operation import Operation
from libexo.ipc.rendezvous import Rendezvous

if TYPE_CHECKING:
    from libexo.attachment import Attachment
    from libexo.transport.base import Source

READY = 0.002
"""What a time-out of zero gives a partner that does not say that it waits, in seconds: see `standing`."""


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
        """It is lent to one thread of the host after another (`libexo.lending`)."""
        self.local = 0
        """The address of its UTCB, as the kernel said; 0: nobody asked."""
        self.callers: dict[int, Origin] = {}
        """The ways back to callers that wait for an answer of this thread."""
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
        return self._answer_to(self.post(to, message, PacketKind.CALL, timeout, accepts))

    def answer_to(self, call: Outgoing, until: int | None = None, seconds: float | None = None) -> Message:
        """Wait until *until*, *seconds* in all, for the answer to *call*, which is under way, and return it."""
        return self._answer_to(
            Operation(self.core, call, until=until, why=f"within {seconds} s", accepts=call.accepts)
        )

    def _answer_to(self, operation: Operation) -> Message:
        reply: Message
        call = operation.exchange
        self.core.row.awaits(call.to if call is not None else NIL_THREAD)
        try:
            _, reply = operation.run()
        finally:
            self.core.row.awaits(NIL_THREAD)
            if call is not None and call.forwarded_to:
                self.core.row.rests()
        return reply

    def send(self, to: int, message: Message, timeout: float | None = None) -> None:
        """Send *message* to *to*; return when it was taken. To a thread that waits for an answer: answer it.

        With a *timeout*, however long, NoPartner means that it was not taken; without one, that is unknown.
        """
        origin = self.callers.pop(to, None)
        if origin is not None:
            self.core.answer(origin, message)
            return
        if to == self.id:
            raise self._is_caller()
        operation = self.post(to, message, PacketKind.SEND, timeout)
        self.core.row.awaits(to)
        try:
            operation.run()
        finally:
            self.core.row.awaits(NIL_THREAD)

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
        operation, row = self.listen(sender, timeout), self.core.row
        operation.watch = tuple(watch)
        row.receives(sender)
        try:
            received: tuple[int, Message] | None = operation.run()
        finally:
            row.rests()
        if received is not None:
            self.remember(received[1].origin)
        return received

    def reply(self, to: "int | Message", message: Message) -> None:
        """Answer the call of thread *to*, or the received message *to*.

        Raises NoPartner when none waits, IpcTimeout when it waits no longer.
        """
        origin = to.origin if isinstance(to, Message) else self.callers.get(to)
        if origin is None:
            who = "that message" if isinstance(to, Message) else f"thread {show_thread(to)}"
            raise NoPartner(Phase.SEND, f"{who} waits for no answer")
        if origin.actual:
            self.send(origin.sender, message, timeout=0)  # its propagator had it wait for us
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
        self.id = thread
        self.core.rename(thread)

    def wake(self) -> None:
        """Have it look at upcalls that other threads left for it."""
        if self.core.waker is not None:
            self.core.waker.wake()

    def close(self) -> None:
        """Close its links and its inbox."""
        self.core.close()

    def _is_caller(self) -> NoPartner:
        """Return the error of a call to this very thread, which would wait for itself for ever."""
        return NoPartner(Phase.SEND, f"thread {show_thread(self.id)} is the caller itself")

    def remember(self, origin: Origin | None) -> None:
        """Keep the way back to a caller that waits for an answer."""
        if origin is not None and origin.answers:
            self.callers[origin.actual or origin.sender] = origin

    def post(
        self, to: int, message: Message, kind: PacketKind, timeout: float | None, accepts: int = MAX_OFFERS
    ) -> Operation:
        """Send *message* on its way; return the operation that waits for its end.

        A time-out of next to nothing is stretched for a receiver that says that it waits, until it has the message.
        """
        until, seconds = self.within(timeout)
        holds = seconds is not None and seconds < READY
        tells = holds and kind is PacketKind.CALL
        exchange = self.core.post(to, message, kind, timed=until is not None, tells=tells, accepts=accepts)
        operation = Operation(self.core, exchange, until=until, why=f"within {seconds} s", accepts=accepts)
        operation.holds, operation.told = holds, tells
        return operation

    def listen(self, sender: int, timeout: float | None) -> Operation:
        """Return the operation that waits for a message from *sender*."""
        until, seconds = self.within(timeout)
        return Operation(self.core, None, sender, until, f"within {seconds} s")

    def within(self, timeout: float | None) -> tuple[int | None, float | None]:
        """Return when *timeout* is over, and its length in seconds; None twice if it is for ever."""
        number = None if timeout is None else timeouts.seconds(timeout)
        if number is None:
            return None, None
        return self._host.now() + int(max(number, READY) * timeouts.SECOND), number
