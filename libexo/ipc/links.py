"""The bindings of one thread to its partners, by partner: made when they are needed, one or more to each."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from kernel.abi.errors import Refusal
from kernel.abi.ids import show_thread
from kernel.abi.messages import Phase
from libexo.errors import ExoError, NoPartner, NoRedirector, TrapRefused
from libexo.ipc.exchange import Link, Outgoing
from libexo.ipc.packing import NOBODY
from libexo.ipc.tickets import Tickets
from libexo.transport.ring.line import open_line

if TYPE_CHECKING:
    from libexo.attachment import Attachment


class Links(dict[int, list[Link]]):
    """The links of one thread, by partner; the first of each is used before the others."""

    def __init__(
        self,
        environment: "Attachment",
        thread: int,
        news: Callable[[], None],
        settle: Callable[[Outgoing], None],
    ) -> None:
        """Bind *thread* of *environment*; *news* takes in what the kernel has to say.

        *settle* finds out whether a message that nobody waits for is over.
        """
        super().__init__()
        self._environment = environment
        self._sys = environment.sys
        self._news = news
        self._settle = settle
        self.thread = thread
        self._fallen: list[Link] = []
        """Links that fell; on some of them something is under way even so."""
        self.epoch = 0
        """The binding epoch in which every link was known to stand."""

    def link(self, to: int, *, timed: bool = False) -> Link:
        """Return a link to thread *to*, binding if need be; a *timed* message wants one with free tickets.

        Raises NoPartner; NoRedirector while messages of this environment wait for another redirector.
        """
        if self.epoch != self._environment.kip.epoch:
            # A binding fell, perhaps that to a server just restarted: better to know before a message is sent.
            self.epoch = self._environment.kip.epoch
            self._news()
        for link in self.get(to, ()):
            if timed and link.timed is not None and link.timed.deserted:
                self._settle(link.timed)
            if not timed or link.timed is None:
                return link
        return self.bind(to)

    def bind(self, to: int, ring: int = 0) -> Link:
        """Return a new link to thread *to*; *ring*: handle of the extent that pays for one, which is not used yet.

        Raises NoPartner, NoRedirector; TrapRefused when that extent is none for a ring.
        """
        try:
            bound, descriptors = self._sys.bind(to, self.thread, ring)
        except TrapRefused as refused:
            if ring and refused.refusal not in NOBODY:
                raise
            error = NoRedirector if refused.refusal == Refusal.NO_REDIRECTOR else NoPartner
            raise error(Phase.SEND, f"thread {show_thread(to)}: {refused}") from refused
        host = self._environment.host
        channel = host.transport.channel(bound.address, bound.token)
        tickets = Tickets(host.ticket(descriptors[0]), host.ticket(descriptors[1]))
        link = Link(to, bound.thread, bound.token, channel, tickets)
        if ring:
            link.line = open_line(host, bound.ring, descriptors[2:], receiver=False)
        self.setdefault(to, []).append(link)
        return link

    def known(self, to: int) -> Link | None:
        """Return a link to thread *to*, if there is one: one that ended has none."""
        return next(iter(self.get(to, ())), None)

    def all(self) -> list[Link]:
        """Return every link."""
        return [link for links in self.values() for link in links]

    def that_wait(self) -> list[Link]:
        """Return the links something may come back on."""
        return [link for link in self.all() + self._fallen if link.exchanges]

    def prefer(self, link: Link) -> None:
        """Have what goes to the partner of *link* go over it."""
        links = self[link.partner]
        links.insert(0, links.pop(links.index(link)))

    def take(self, receiver: int, token: bytes = b"") -> list[Link]:
        """Return the links that lead to thread *receiver*, or the one of *token* alone, and know them no more."""
        found = [link for link in self.all() if receiver in (link.partner, link.receiver)]
        found = [link for link in found if token in (b"", link.token)]
        for link in found:
            self._discard(link)
        return found

    def unlink(self, link: Link) -> None:
        """Give *link* up; it closes when nothing is under way on it."""
        self._discard(link)
        with suppress(ExoError):  # it fell meanwhile
            self._sys.unbind(link.token)
        self.let_fall(link)

    def unlink_idle(self, to: int) -> None:
        """Give up the links to thread *to* on which nothing is under way."""
        for link in [link for link in self.get(to, ()) if not link.exchanges]:
            self.unlink(link)

    def let_fall(self, link: Link) -> None:
        """*link*, which is known no more, closes when nothing is under way on it."""
        link.fallen = True
        if link.paid:
            with suppress(ExoError):  # it may have gone with us
                self._sys.drop(link.paid)
        self._fallen = [fallen for fallen in (*self._fallen, link) if fallen.exchanges]
        if not link.exchanges:
            link.settle()

    def close(self) -> None:
        """Close every link."""
        for link in self.all() + [fallen for fallen in self._fallen if fallen.exchanges]:
            link.close()
        self.clear()
        self._fallen.clear()

    def _discard(self, link: Link) -> None:
        links = self[link.partner]
        links.remove(link)
        if not links:
            del self[link.partner]
