"""The rendezvous: the non-blocking core of IPC, under all its faces (`libexo.ipc`, `libexo.aio`, `libexo.l4`).

*Theory of operation.* A sender binds once; its link to the partner holds the channel and two tickets. A message
is posted and becomes an `Exchange`, which ends when its answer, its acknowledgement or bad news arrives. A
receiver takes messages out of its inbox one by one, as it asks for them: what it did not ask for stays there.

*Withdrawing.* Taking a message and giving up on it exclude each other by the send ticket, a counter both ends
hold; answering a call and waiting for the answer no longer, by the answer ticket. The sender of a message that
may be withdrawn posts its sequence number into the one, the receiver of a call, when it takes it, into the other;
whoever claims it decides. A receiver that claims another number than it wanted (the message in its hand was
withdrawn, the number is of a later one) puts it back; the sender, finding nothing, asks again. So a withdrawn
message is never delivered later, a taken one is never reported as not taken, and nobody answers somebody who has
gone on.

*Trust.* Whose the connection is that a message comes over the kernel says, once, when it hands the binding over; it
is asked again when the KIP's binding epoch has changed. A capability that a message names must, by the kernel's
word, be on offer by its sender. Everything else in a packet is the sender's claim: what does not decode is counted
and thrown away.
"""

from collections import Counter, deque
from typing import TYPE_CHECKING

from kernel.abi.gate import Upcall
from kernel.abi.ids import show_thread
from kernel.abi.messages import Label
from libexo.errors import Ended
from libexo.ipc.exchange import Outgoing
from libexo.ipc.holding import comes, hold
from libexo.ipc.receiving import Receiving
from libexo.ipc.sending import Sending

if TYPE_CHECKING:
    from libexo.attachment import Attachment
    from libexo.host.base import Waker
    from libexo.transport.base import Source

__all__ = ["Rendezvous"]


class Rendezvous:
    """One thread's sending and receiving, without waiting."""

    def __init__(self, environment: "Attachment", thread: int) -> None:
        """Be the core of *thread* of *environment*."""
        self.thread = thread
        self.statistics: Counter[str] = Counter()
        """What was thrown away, and why."""
        self.waker: Waker | None = None
        """By which other threads of the environment wake this one; while there are none, it has none."""
        self.outside: tuple[Source, ...] = (environment.gate,)
        """What brings news from outside IPC: the gate, and other threads of the environment."""
        self.upcalls: deque[Upcall] = deque()
        """What other threads of the environment took out of the gate for this one."""
        self.ended = False
        """The thread was deleted."""
        self._environment = environment
        self._gate = environment.gate
        self.sending = Sending(environment, thread, self.statistics, lambda: self.pump_gate(surely=True))
        self.receiving = Receiving(environment, thread, self.statistics)
        self.row = self.sending.row
        """Where it says for whom it waits."""
        self.kip = environment.kip
        # The hot ones at hand, without a call in between.
        self.now = environment.host.now
        self.wait = environment.host.wait
        self.post = self.sending.post
        self.links = self.sending.links
        self.link = self.links.link
        self.known = self.links.known
        self.withdraw = self.sending.withdraw
        self.give_up = self.sending.give_up
        self.abandon = self.sending.abandon
        self.pump_link = self.sending.pump
        self.take = self.receiving.take
        self.answers = self.receiving.answers
        self.answer = self.answers.answer
        self.must_look = self.receiving.must_look
        self.open_inbox = self.receiving.open_inbox

    def pump(self) -> None:
        """Take in whatever has arrived: answers on every link, and upcalls. Raises GateClosed."""
        for link in self.links.that_wait():
            self.sending.pump(link)
        self.pump_gate()

    def pump_gate(self, *, surely: bool = False) -> None:
        """Take in the upcalls that have arrived, *surely* all of them. Raises GateClosed, Ended."""
        if self.ended:
            raise Ended
        if self.waker is not None:
            self.waker.clear()  # first: what another thread puts there from now on wakes anew
        if arrived := self._gate.upcalls(surely=surely):
            self._environment.on_upcalls(arrived, self)
        while self.upcalls:
            self.upcall(self.upcalls.popleft())

    def upcall(self, upcall: Upcall) -> None:
        """Take in one upcall for this thread."""
        if upcall.label == Label.PARTNER_GONE:
            self.sending.partner_gone(*upcall.words)
        elif upcall.label == Label.UNBOUND:
            self.sending.unbound(*upcall.words)
        elif upcall.label == Label.BOUND:
            self.receiving.bound()
        else:
            self.receiving.hold(upcall)

    def rename(self, thread: int) -> None:
        """Be *thread* from now on."""
        self.thread = self.links.thread = self.receiving.thread = self.answers.thread = thread

    def share(self, waker: "Waker") -> None:
        """Be ready for other threads of the environment, which wake this one by *waker*."""
        self.waker = waker
        self.outside = (self._gate, waker)

    def sources(self) -> "list[Source]":
        """Return everything that may bring something: the gate, the inbox if open, links that wait."""
        sources: list[Source] = [*self.outside]
        if self.receiving.inbox is not None:
            sources.append(self.receiving.inbox)
        return sources + [link.channel for link in self.links.that_wait()]

    def hold(self, exchange: Outgoing) -> int:
        """The time of *exchange* is over; return how soon to look again whether its receiver took it, in ns.

        0: it does not wait, or has had all the time it may take.
        """
        return hold(self._environment, exchange, self.thread)

    def comes(self, sender: int, since: int) -> bool:
        """The time of a receive from *sender* is over *since* then: say whether a message is on its way even so."""
        link = self.known(sender)
        return comes(self._environment, self.thread, link, self.receiving.peers, since)

    def look_after(self, call: Outgoing) -> None:
        """Look whether *call*, whose way fell, is being answered still; if not, it has failed."""
        link = call.link
        if self.kip.thread(link.receiver) is None or not call.is_coming():
            self.sending.pump(link)  # what was answered before is taken
            if not call.done:
                text = f"the binding to thread {show_thread(link.partner)} fell"
                self.sending.fail(call, call.cut_off(text))

    def close(self) -> None:
        """Close every link and the inbox."""
        self.sending.close()
        self.receiving.close()
        if self.waker is not None:
            self.waker.close()
