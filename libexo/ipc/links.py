"""The bindings of one thread to its partners: made when they are needed, one or more to each partner."""

from contextlib import suppress

from kernel.abi.errors import Refusal
from kernel.abi.ids import show_thread
from kernel.abi.messages import Phase
from libexo.errors import ExoError, NoPartner, NoRedirector, TrapRefused
from libexo.ipc.endpoint import Endpoint
from libexo.ipc.exchange import Link
from libexo.ipc.packing import NOBODY
from libexo.ipc.tickets import tickets
from libexo.transport.ring.duplex import open_duplex


class Links(dict[int, list[Link]]):
    """The links of one thread, by partner; the first of each is used before the others."""

    def __init__(self, own: Endpoint) -> None:
        """Bind the thread of *own*."""
        super().__init__()
        self._own = own
        self._fallen: list[Link] = []
        """Links that fell; some of them still have messages under way."""
        self.epoch = 0
        """The last binding epoch in which every link was known to stand."""

    def refresh(self) -> None:
        """Learn which bindings fell: perhaps that to a server that was just restarted."""
        self.epoch = self._own.kip.epoch
        self._own.pump_gate(surely=True)

    def bind(self, to: int, ring: int = 0) -> Link:
        """Return a new link to thread *to*; *ring*: handle of the extent that pays for one, which is not used yet.

        Raises NoPartner; NoRedirector while messages of this environment wait for another redirector; TrapRefused
        when that extent is none for a ring; OSError when the host has no connection for it.
        """
        own, host = self._own, self._own.host
        try:
            bound, descriptors = own.sys.bind(to, own.thread, ring)
        except TrapRefused as refused:
            if ring and refused.refusal not in NOBODY:
                raise
            error = NoRedirector if refused.refusal == Refusal.NO_REDIRECTOR else NoPartner
            raise error(Phase.SEND, f"thread {show_thread(to)}: {refused}") from refused
        try:
            channel = host.transport.channel(bound.address, bound.token)
        except OSError:  # as where no descriptor is left for it
            for descriptor in descriptors:
                host.close_descriptor(descriptor)
            with suppress(ExoError):
                own.sys.unbind(bound.token)
            raise
        line = open_duplex(host, bound.ring, descriptors[2:], receiver=False) if ring else None
        link = Link(to, bound.thread, bound.token, channel, tickets(host, descriptors), line)
        link.shows_all = getattr(channel, "shows_all", False)
        link.paid = ring
        self.setdefault(to, []).append(link)
        return link

    def known(self, to: int) -> Link | None:
        """Return a link to thread *to*, if there is one; a thread that ended has none."""
        return next(iter(self.get(to, ())), None)

    def all(self) -> list[Link]:
        """Return every link."""
        return [link for links in list(self.values()) for link in links]

    def that_wait(self) -> list[Link]:
        """Return the links with messages under way."""
        return [link for link in self.all() + self._fallen if link.exchanges]

    def prefer(self, link: Link) -> None:
        """Use *link* before other links to its partner."""
        links = self[link.partner]
        links.insert(0, links.pop(links.index(link)))

    def take(self, receiver: int, token: bytes = b"") -> list[Link]:
        """Remove and return the links that lead to thread *receiver*, or only the one of *token*."""
        found = [link for link in self.all() if receiver in (link.partner, link.receiver)]
        found = [link for link in found if token in (b"", link.token)]
        for link in found:
            self._discard(link)
        return found

    def unlink(self, link: Link) -> None:
        """Give *link* up; it closes when nothing is under way on it."""
        self._discard(link)
        with suppress(ExoError):  # it fell meanwhile
            self._own.sys.unbind(link.token)
        self.let_fall(link)

    def unlink_idle(self, to: int) -> None:
        """Give up the links to thread *to* on which nothing is under way."""
        for link in [link for link in self.get(to, ()) if not (link.exchanges or link.taken)]:
            self.unlink(link)

    def let_fall(self, link: Link) -> None:
        """Close *link*, which was removed, when nothing is under way on it."""
        link.fallen = True
        if link.paid:
            with suppress(ExoError):  # it may have gone with us
                self._own.sys.drop(link.paid)
        fallen, self._fallen = (*self._fallen, link), []
        for each in fallen:
            if each.exchanges or each.taken:
                self._fallen.append(each)
            else:
                each.settle()

    def close(self) -> None:
        """Close every link."""
        for link in self.all() + self._fallen:
            link.close()
        self.clear()
        self._fallen.clear()

    def _discard(self, link: Link) -> None:
        links = self[link.partner]
        links.remove(link)
        if not links:
            del self[link.partner]
