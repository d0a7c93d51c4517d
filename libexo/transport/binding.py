"""One binding to an inbox, with what is held for it: pieces that wait for their turn, and messages under way."""

from collections import deque

from libexo.transport.framing import Assembly

PIECE = 256
"""Cost of keeping a piece, or an unread record, besides its bytes, here and in ZeroMQ."""
REPORT, LONG_REPORT = 1 << 14, 1 << 18
"""Bytes read that are reported when there is no message to go with; in the middle of a long one."""


class Binding:
    """One binding to an inbox."""

    __slots__ = (
        "assembly", "end_point", "identity", "mark", "newer", "older", "owed", "owner", "pieces", "read", "sent",
        "token", "told", "waiting",
    )  # fmt: skip

    def __init__(self, token: bytes, owner: int, end_point: str, limit: int) -> None:
        """Be the binding of *token*, of party *owner*, at *end_point*; its messages have *limit* bytes at most."""
        self.token = token
        self.owner = owner
        self.end_point = end_point
        self.identity: bytes | None = None
        """ZeroMQ's name for its connection, once it has identified itself."""
        self.connect(limit)
        self.read = self.told = 0
        """Bytes of it that had their turn, and how many it was told of."""
        self.pieces: deque[bytes | list[bytes]] = deque()
        """Waiting for their turn: pieces as they came, and before them the messages cut out of one."""
        self.waiting = 0
        """Bytes of the pieces."""

    def connect(self, limit: int) -> None:
        """Begin both streams; a message of it has *limit* bytes at most."""
        self.assembly = Assembly(limit)
        self.sent = self.owed = 0
        """Bytes sent to it, and the cost of keeping those it has not read."""
        self.mark = self.older = self.newer = 0
        """Byte counts at which it has read so many records; and records sent since.

        The inbox itself counts a record it sends, and forgets them once all is read: a call would cost more.
        """

    @property
    def held(self) -> int:
        """Bytes held for it: waiting, incomplete, or not read by it."""
        return self.waiting + self.assembly.held + self.owed

    def heard(self) -> None:
        """Note how much it has read, by its own word. A record that it has read in part counts as not read."""
        read = self.assembly.read
        if read >= self.mark:
            self.older, self.newer, self.mark = self.newer, 0, self.sent
        if read < self.sent:
            self.owed = self.sent - read + PIECE * (self.older + self.newer)
        else:
            self.owed = self.older = 0
