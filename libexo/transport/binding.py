"""One binding to an inbox, and what is held for it: pieces that wait for their turn, and what is under way."""

from collections import deque

from libexo.transport.framing import Assembly

PIECE = 256
"""What it costs to keep a piece, besides its bytes, here and in ZeroMQ."""


class Binding:
    """One binding to an inbox."""

    __slots__ = (
        "assembly", "end_point", "identity", "owner", "pieces", "read", "sent", "token", "told", "waiting",
    )  # fmt: skip

    def __init__(self, token: bytes, owner: int, end_point: str, limit: int) -> None:
        """Be the one of *token*, of party *owner*, at *end_point*; a message of it has *limit* bytes at most."""
        self.token = token
        self.owner = owner
        self.end_point = end_point
        self.identity: bytes | None = None
        """ZeroMQ's name for its connection, once it has said who it is."""
        self.assembly = Assembly(limit)
        self.sent = 0
        self.read = self.told = 0
        """Bytes of it that had their turn, and how many it was told of."""
        self.pieces: deque[bytes | list[bytes]] = deque()
        """What waits for its turn: pieces as they came, before them the messages cut out of one."""
        self.waiting = 0
        """What the pieces take, in bytes."""

    @property
    def held(self) -> int:
        """Bytes that are held for it: what waits, what is not complete, and what it has not read."""
        return self.waiting + self.assembly.held + self.sent - self.assembly.read
