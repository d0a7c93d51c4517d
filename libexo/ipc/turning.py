"""Calls of ours that another than their receiver is to answer: X.2 propagation turns the from-specifier."""

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from kernel.abi.ids import show_thread
from kernel.abi.messages import Packet, Phase
from libexo.errors import ExoError, IpcError, NoPartner
from libexo.ipc.wire import ENCODE, TURNED

if TYPE_CHECKING:
    from libexo.attachment import Attachment
    from libexo.ipc.exchange import Exchange, Link
    from libexo.ipc.standing import Row

TURNS = 16
"""Threads that partners turned us to and that we stay bound to, so as to hear when they are gone."""


class Sender(Protocol):
    """The sending half of a thread, as its turned calls need it."""

    row: "Row"

    def fail(self, exchange: "Exchange", error: IpcError) -> None:
        """End *exchange* with *error*."""

    def known(self, to: int) -> "Link | None":
        """Return a link to thread *to*, if there is one."""

    def link(self, to: int) -> "Link":
        """Return one, binding to it if need be. Raises ExoError."""

    def unlink_idle(self, to: int) -> None:
        """Give up the link to thread *to*, if nothing is under way on it."""


class Turning:
    """Those of one thread."""

    def __init__(self, environment: "Attachment", sending: Sender) -> None:
        """Watch over calls of *sending*."""
        self.calls: dict[Exchange, None] = {}
        self._environment = environment
        self._sending = sending
        self._heard: deque[int] = deque()
        """Threads we are bound to only because a call was turned to them, oldest first."""

    def turn(self, exchange: "Exchange", thread: int) -> bool:
        """Have *thread* answer, or the receiver after all, as it was first awaited. False: that cannot be."""
        link = exchange.link
        back = thread == link.receiver  # who is called through a redirector may answer itself
        if back != bool(exchange.turned):
            return False  # where it is now, it cannot be turned so
        if back:
            exchange.turned = 0
            self._sending.row.receives(thread)
            del self.calls[exchange]
            if exchange.timed:
                link.answer_ticket.post(exchange.sequence)
        elif self._environment.kip.thread(thread) is None:
            text = f"it is to be answered by {show_thread(thread)}"
            link.channel.send((ENCODE(Packet(TURNED, exchange.sequence)),))  # who asked goes on at once
            self._sending.fail(exchange, NoPartner(Phase.RECEIVE, text))
            return True
        else:
            exchange.turned = thread
            self._sending.row.receives(thread)
            self.calls[exchange] = None
            self._hear_of(thread)
        link.channel.send((ENCODE(Packet(TURNED, exchange.sequence)),))
        return True

    def ended(self, thread: int) -> None:
        """*thread* is gone: what it was to answer fails. Where only the way to it changed, all goes on."""
        if self._environment.kip.thread(thread) is None:
            for exchange in [exchange for exchange in self.calls if exchange.turned == thread]:
                self._sending.fail(exchange, NoPartner(Phase.RECEIVE, f"thread {show_thread(thread)} ended"))

    def _hear_of(self, thread: int) -> None:
        """Bind to *thread*, so that the kernel says when it is gone. Partners do not fill our table by it."""
        sending = self._sending
        if sending.known(thread) is not None:
            return
        with suppress(ExoError):  # we may not bind to it: then it has to answer, or our time runs out
            sending.link(thread)
            self._heard.append(thread)
        if len(self._heard) > TURNS:
            oldest = self._heard.popleft()
            if all(exchange.turned != oldest for exchange in self.calls):
                sending.unlink_idle(oldest)
