"""One binding to an inbox, with what is held for it: pieces that wait for their turn, and messages under way."""

from collections import deque

from libexo.transport.framing import HEAD, MAX_PACKET, Assembly

PIECE = 256
"""Cost of keeping a piece, or an unread record, besides its bytes, here and in ZeroMQ."""
REPORT, LONG_REPORT = 1 << 14, 1 << 18
"""Bytes read that are reported when there is no message to go with; in the middle of a long one."""
_HEAD, _UNPACK = HEAD.size, HEAD.unpack_from


class Binding:
    """One binding to an inbox."""

    __slots__ = (
        "_mark", "_older", "assembly", "end_point", "identity", "newer", "owed", "owner", "pieces", "read", "sent",
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
        self._mark = self._older = self.newer = 0
        """Byte counts at which it has read so many records; and records sent since.

        The inbox adds a record to `sent`, `owed` and `newer` itself: a call would cost more than the sums.
        """

    @property
    def held(self) -> int:
        """Bytes held for it: waiting, incomplete, or not read by it."""
        return self.waiting + self.assembly.held + self.owed

    def whole(self, piece: bytes) -> bytes:
        """Return the frame that is all of *piece*, if its sender has read everything; else nothing: see `feed`."""
        assembly = self.assembly
        if assembly.held or len(piece) <= _HEAD:
            return b""
        count, first, read = _UNPACK(piece)
        size = len(piece)
        if (
            count != 1
            or size != _HEAD + first
            or first > MAX_PACKET
            or read != self.sent
            or self.read + size > self.told + REPORT
        ):
            return b""
        self.read += size
        assembly.read = self._mark = read
        self._older = self.newer = 0
        return piece[_HEAD:]

    def heard(self) -> None:
        """Note how much it has read, by its own word. A record that it has read in part counts as not read."""
        read = self.assembly.read
        if read >= self._mark:
            self._older, self.newer, self._mark = self.newer, 0, self.sent
        if read < self.sent:
            self.owed = self.sent - read + PIECE * (self._older + self.newer)
        else:
            self.owed = self._older = 0
