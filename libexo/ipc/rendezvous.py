"""The rendezvous: the non-blocking core of IPC, under all its faces (`libexo.ipc`, `libexo.aio`, `libexo.l4`).

It is one object, in floors: `endpoint`, `receiving`, `answers`, `sending`, and here what needs all of them.

*Theory of operation.* A sender binds once; its link to the partner holds the channel and two tickets. A message
is posted and becomes an `Exchange`, which ends when its answer, its acknowledgement or bad news arrives. A
receiver takes messages out of its inbox one by one, as it asks for them: what it did not ask for stays there.

*Withdrawing.* Taking a message and giving up on it exclude each other by the send ticket, a counter both ends
hold; so do answering a call and giving up on the answer, by the answer ticket. The sender of a message that may be
withdrawn posts its sequence number into the one, the receiver of a call, when it takes it, into the other; the end
that claims it decides. A receiver that claims another number than it wanted (the message in its hand was withdrawn,
the number is of a later one) puts it back; the sender, finding nothing, asks again, also when their binding fell
meanwhile. So a withdrawn message is never delivered later, a taken one is never reported as not taken, and a call
that was given up is not answered.

*Trust.* The kernel says which thread a connection belongs to, once, when it hands the binding over; it is asked
again when the KIP's binding epoch has changed. A capability that a message names must, by the kernel's word, be on
offer by its sender. Everything else in a packet is the sender's claim. A packet that does not decode is counted and
thrown away.
"""

from kernel.abi.ids import show_thread
from libexo.ipc.exchange import Link, Outgoing
from libexo.ipc.sending import Sending
from libexo.ipc.standing import HOLD, LOOK, Standing
from libexo.transport.base import Source


class Rendezvous(Sending):
    """One thread's rendezvous. Nothing in it waits."""

    def pump(self) -> None:
        """Take in whatever has arrived: answers on every link, and upcalls. Raises GateClosed, Ended."""
        for link in self.links.that_wait():
            self.pump_link(link)
        self.pump_gate()

    def sources(self) -> list[Source]:
        """Return all sources of news: the gate, the inbox if open, links with messages under way."""
        inbox = () if self.inbox is None else (self.inbox,)
        return [*self.outside, *inbox, *(link.channel for link in self.links.that_wait())]

    # ------------------------------------------------------- when the time is over: is a partner there even so?

    def hold(self, exchange: Outgoing) -> int:
        """Return how long to wait, in ns, for the receiver of *exchange*, whose time is over, to take it.

        0: the receiver does not wait, or has had all the time it may take (`libexo.ipc.standing`).
        """
        standing, now = self._standing(exchange.link), self.now()
        patience = standing.patience(self.thread, exchange.virtual)
        exchange.held = exchange.held or now
        left = patience - (now - exchange.held)
        if patience and left <= 0:
            standing.doubted = True
        return max(min(left, LOOK), 0)

    def comes(self, sender: int, since: int) -> bool:
        """Say whether a message is on its way to a receive from *sender*, whose time is over *since* then.

        The partner of a closed receive may not have sent before: then its row is read, if it can be believed.
        """
        bound, link = list(self.peers.known.values()), self.links.known(sender)
        late = [peer for peer in bound if peer.doubted != peer.last and self.peers.posted(peer) > peer.last]
        first = None
        if link is not None and all(peer.thread != link.receiver for peer in bound):
            first = self._standing(link) if self._leads_here(link.receiver) else None
            if first is not None and (first.doubted or not first.is_sending(self.thread)):
                first = None
        if not late and first is None:
            return False
        if self.now() - since < HOLD:
            return True
        for peer in late:
            peer.doubted = peer.last
        if first is not None:
            first.doubted = True
        return False

    def _standing(self, link: Link) -> Standing:
        """Return the row of the receiver of *link*."""
        if link.standing is None:
            link.standing = Standing(self.environment, link.receiver)
        return link.standing

    def _leads_here(self, sender: int) -> bool:
        """Say whether messages of thread *sender* to us come here, by its redirector."""
        row, ours = self.kip.thread(sender), self.kip.thread(self.thread)
        if row is None or ours is None:
            return False
        if not row.redirector or row.environment == ours.environment:
            return True
        redirector = self.kip.thread(row.redirector)
        return redirector is not None and redirector.environment == ours.environment

    def look_after(self, exchange: Outgoing) -> None:
        """Find out what became of *exchange*, whose link fell. Raises IpcTimeout.

        While its receiver lives and has its ticket, it is being taken, or answered, or the ticket is put up again.
        If not, it is over.
        """
        link, text = exchange.link, f"the binding to thread {show_thread(exchange.link.partner)} fell"
        if self.kip.thread(link.receiver) is not None and exchange.is_in_hand():
            self.bear_with(exchange, f"when {text}")
            return
        self.pump_link(link)  # what was said before is heard
        if not exchange.done:
            self.fail(exchange, exchange.cut_off(text))

    def close(self) -> None:
        """Close every link and the inbox."""
        self.links.close()
        self.close_inbox()
        if self.waker is not None:
            self.waker.close()
