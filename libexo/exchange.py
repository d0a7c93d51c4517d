"""What the rendezvous keeps account of: bindings of ours, bindings to us, and messages under way."""

from itertools import count
from typing import TYPE_CHECKING

from libexo.errors import IpcError
from libexo.message import Message

if TYPE_CHECKING:
    from libexo.host.base import Ticket
    from libexo.transport.base import Channel


class Link:
    """A binding of ours: the way to one partner."""

    __slots__ = (
        "channel", "exchanges", "given", "partner", "sequence", "shows_all", "ticket", "timed", "token"
    )  # fmt: skip

    def __init__(self, partner: int, token: bytes, channel: "Channel", ticket: "Ticket") -> None:
        """Send to *partner* through *channel*."""
        self.partner = partner
        self.token = token
        self.channel = channel
        self.shows_all = getattr(channel, "shows_all", False)
        self.ticket = ticket
        self.sequence = count(1)
        self.exchanges: dict[int, Exchange] = {}
        self.given: list[int] = []
        """The capabilities through which the partner holds what timed messages mapped: dropped when it is gone."""
        self.timed = False
        """The ticket is up for a message: a second one that may be withdrawn needs another link."""


class Peer:
    """Somebody's binding to us, identified."""

    __slots__ = ("epoch", "last", "thread", "ticket", "token")

    def __init__(self, thread: int, token: bytes, ticket: "Ticket") -> None:
        """The messages under *token* are from *thread*."""
        self.thread = thread
        self.token = token
        self.ticket = ticket
        self.epoch = 0
        """The binding epoch it was identified in."""
        self.last = 0
        """The highest sequence number taken: what comes at or below it is a duplicate."""


class Exchange:
    """A message of ours under way."""

    __slots__ = ("done", "error", "given", "kind", "link", "rechecked", "reply", "sequence", "timed")

    def __init__(self, link: Link, kind: int, *, timed: bool, given: tuple[int, ...]) -> None:
        """Follow a message on *link*; *given* are the capabilities derived for it."""
        self.link = link
        self.kind = int(kind)
        self.sequence = next(link.sequence)
        self.timed = timed
        self.given = given
        self.rechecked = False
        self.reply: Message | None = None
        self.error: IpcError | None = None
        self.done = False
        """It has ended, well or not."""
