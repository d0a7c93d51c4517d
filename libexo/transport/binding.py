"""One binding to an inbox, and what is held for it: pieces that wait for their turn, and what is under way."""

from collections import deque

from libexo.transport.framing import Assembly

PIECE = 256
"""What it costs to keep a piece, or a record that was not read, besides its bytes, here and in ZeroMQ."""


class Binding:
    """One binding to an inbox."""

    __slots__ = (
        "_mark", "_newer", "_older", "assembly", "end_point", "identity", "owed", "owner", "pieces", "read", "sent",
        "token", "told", "waiting",
    )  # fmt: skip

    def __init__(self, token: bytes, owner: int, end_point: str, limit: int) -> None:
        """Be the one of *token*, of party *owner*, at *end_point*; a message of it has *limit* bytes at most."""
        self.token = token
        self.owner = owner
        self.end_point = end_point
        self.identity: bytes | None = None
        """ZeroMQ's name for its connection, once it has said who it is."""
        self.connect(limit)
        self.read = self.told = 0
        """Bytes of it that had their turn, and how many it was told of."""
        self.pieces: deque[bytes | list[bytes]] = deque()
        """What waits for its turn: pieces as they came, before them the messages cut out of one."""
        self.waiting = 0
        """What the pieces take, in bytes."""

    def connect(self, limit: int) -> None:
        """Begin both streams; a message of it has *limit* bytes at most."""
        self.assembly = Assembly(limit)
        self.sent = self.owed = 0
        """Bytes sent to it, and what it costs to keep what it has not read of them."""
        self._mark = self._older = self._newer = 0
        """When it has read so many bytes, it has read so many records; and how many were sent since."""

    @property
    def held(self) -> int:
        """Bytes that are held for it: what waits, what is not complete, and what it has not read."""
        return self.waiting + self.assembly.held + self.owed

    def wrote(self, size: int) -> int:
        """A record of *size* bytes was sent to it; return what it costs to keep that."""
        cost = PIECE + size
        self.sent += size
        self.owed += cost
        self._newer += 1
        return cost

    def heard(self) -> None:
        """It said how much it has read. Of what it has read in part, all records count as not read."""
        read = self.assembly.read
        if read >= self._mark:
            self._older, self._newer, self._mark = self._newer, 0, self.sent
        if read < self.sent:
            self.owed = self.sent - read + PIECE * (self._older + self._newer)
        else:
            self.owed = self._older = 0
