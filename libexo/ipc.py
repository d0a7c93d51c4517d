"""IPC that waits: an L4 call blocks its thread, that is what it means.

    reply = thread.call(to, Message(label=0x40, words=(1, 2, 3)), timeout=1.0)
    sender, message = thread.wait()
    thread.reply(message, Message(words=(42,)))

Time-outs are in seconds: None waits for ever, 0 asks for a partner that is ready. `send` returns when the
receiver has taken the message. A failed IPC raises an `IpcError` with the X.2 code and phase.

A channel or inbox that *shows all* is one into which `Host.wait` itself looks: nothing it holds can be missed by
waiting for it. Any other is tried before it is waited for, because its descriptor may tell of news only.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kernel.abi.ids import ANY_THREAD, USER_BASE, show_thread, thread_number
from kernel.abi.messages import PacketKind, Phase
from libexo.errors import IpcTimeout, NoPartner
from libexo.exchange import Exchange
from libexo.message import GrantItem, Item, MapItem, Message, Origin
from libexo.rendezvous import Rendezvous

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.host.base import Source

__all__ = ["ANY_THREAD", "READY", "GrantItem", "Item", "MapItem", "Message", "Thread"]

READY = 0.002
"""What a time-out of zero means between processes: as long as a ready partner needs to wake, in seconds."""
RECHECK = 1_000_000
"""After a withdrawal found nothing, how long until it is tried again, in ns: see `rendezvous`, *Withdrawing*."""
_SECOND = 1_000_000_000


class Thread:
    """One thread of an environment: an end point for IPC."""

    def __init__(self, environment: "Environment", thread: int) -> None:
        """Be *thread* of *environment*."""
        self.id = thread
        self.core = Rendezvous(environment, thread)
        self._host = environment.host
        self._gate = environment.gate
        self._waiting_for: dict[int, Origin] = {}

    def __repr__(self) -> str:
        """Show the thread id."""
        return f"<Thread {show_thread(self.id)}>"

    def call(self, to: int, message: Message, timeout: float | None = None) -> Message:
        """Send *message* to *to* and return its answer; *timeout* bounds both phases together."""
        self._check_other(to)
        exchange = self.core.post(to, message, PacketKind.CALL, timed=timeout is not None)
        self._finish(exchange, timeout)
        assert exchange.reply is not None
        return exchange.reply

    def send(self, to: int, message: Message, timeout: float | None = None) -> None:
        """Send *message* to *to*; return when it was taken. To a thread that waits for an answer: answer it."""
        origin = self._waiting_for.pop(to, None)
        if origin is not None:
            self.core.answer(origin, message)
            return
        self._check_other(to)
        self._finish(self.core.post(to, message, PacketKind.SEND, timed=timeout is not None), timeout)

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
        core, woken = self.core, False
        deadline = None if timeout is None else self._deadline(timeout)
        bound = sender != ANY_THREAD and self._keep_bound(sender)
        while True:
            core.pump_gate()
            received = core.take(sender) if woken or core.must_look() else None
            if received is not None:
                self._remember(*received)
                return received
            if bound and not core.linked(sender):
                raise NoPartner(Phase.RECEIVE, f"thread {show_thread(sender)} ended meanwhile")
            if woken and watch:
                return None
            if deadline is not None and self._host.now() >= deadline:
                raise IpcTimeout(Phase.RECEIVE, f"no message from {show_thread(sender)} within {timeout} s")
            self._host.wait((self._gate, core.open_inbox(), *watch), deadline)
            woken = True

    def reply(self, to: "int | Message", message: Message) -> None:
        """Answer the call of thread *to*, or the received message *to*. Raises NoPartner when none waits."""
        origin = to.origin if isinstance(to, Message) else self._waiting_for.get(to)
        if origin is None:
            who = "that message" if isinstance(to, Message) else f"thread {show_thread(to)}"
            raise NoPartner(Phase.SEND, f"{who} waits for no answer")
        if self._waiting_for.get(origin.sender) is origin:
            del self._waiting_for[origin.sender]
        self.core.answer(origin, message)

    def reply_wait(
        self, to: "int | Message", message: Message, timeout: float | None = None
    ) -> tuple[int, Message]:
        """Answer *to*, then receive from anybody: the loop of a server. A caller that is gone is no error."""
        try:
            self.reply(to, message)
        except NoPartner:
            self.core.statistics["unanswered"] += 1
        return self.wait(timeout)

    def sleep(self, seconds: float) -> None:
        """Wait for *seconds*; messages wait meanwhile."""
        deadline = self._host.now() + int(seconds * _SECOND)
        while self._host.now() < deadline:
            self._host.wait((), deadline)

    def close(self) -> None:
        """Close its links and its inbox."""
        self.core.close()

    def _check_other(self, to: int) -> None:
        """Raise NoPartner when *to* is this very thread, which would wait for itself for ever."""
        if to == self.id:
            raise NoPartner(Phase.SEND, f"thread {show_thread(to)} is the caller itself")

    def _remember(self, sender: int, message: Message) -> None:
        if message.origin is not None and message.origin.answers:
            self._waiting_for[sender] = message.origin

    def _keep_bound(self, sender: int) -> bool:
        """Bind to the one partner of a closed receive, so that the kernel says when it is gone."""
        if sender == self.id or thread_number(sender) < USER_BASE:
            return False
        self.core.link(sender)
        return True

    def _finish(self, exchange: Exchange, timeout: float | None) -> None:
        """Wait until *exchange* has ended. Raises its error, or IpcTimeout."""
        core, link = self.core, exchange.link
        deadline = None if timeout is None else self._deadline(timeout)
        sources = (link.channel, self._gate)
        woken = False
        while True:
            if woken or not link.shows_all:
                core.pump_link(link)
            if woken and not exchange.done:
                core.pump_gate()
            if exchange.done:
                break
            if deadline is not None and self._host.now() >= deadline:
                deadline = self._host.now() + give_up(core, exchange, timeout)
                continue
            self._host.wait(sources, deadline)
            woken = True
        if exchange.error is not None:
            raise exchange.error

    def _deadline(self, timeout: float) -> int:
        return self._host.now() + int(max(timeout, READY) * _SECOND)


def give_up(core: Rendezvous, exchange: Exchange, timeout: float | None) -> int:
    """The time is up: withdraw the message, or find that it was taken. Returns how long to wait on, or raises."""
    who = show_thread(exchange.link.partner)
    if core.withdraw(exchange):
        raise IpcTimeout(Phase.SEND, f"thread {who} did not take the message within {timeout} s")
    if exchange.kind == PacketKind.CALL and exchange.rechecked:
        core.abandon(exchange)
        raise IpcTimeout(
            Phase.RECEIVE, f"thread {who} took the message, but did not answer within {timeout} s"
        )
    exchange.rechecked = True
    return RECHECK
