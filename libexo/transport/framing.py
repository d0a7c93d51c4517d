"""Messages in a stream of bytes: written, and cut out of a stranger's stream.

A record is a head, the sizes of the frames after the first, and the frames. The head has the number of frames, the
size of the first, and how much of the other direction its sender has read; with no frames, it says only that.

The other side may send anything, in pieces of any size. Every number is checked before memory is kept for it.
Of an incomplete message only the part that has come is kept: `Assembly.held`. It is put together as it comes, so
it takes hardly more memory than that, however small the pieces are, and each byte is copied a few times. A
contradiction breaks the stream.
"""

import struct
from collections.abc import Sequence
from io import BytesIO

from kernel.abi.limits import MAX_PARTS, MAX_STRING
from libexo.errors import BrokenStream

HEAD = struct.Struct("<IIQ")
"""Number of frames, bytes of the first, bytes read of the other side's stream."""
MAX_PACKET = 1 << 18
"""Bytes of the first frame: with room for as many short strings as there are frames."""
MAX_FRAMES = 1 + MAX_PARTS
"""Frames of a message: the packet, and a string for each of its parts."""
SIZE = 4
"""Bytes of the size of a frame."""
_HEAD: int = HEAD.size
_PACK, _UNPACK = HEAD.pack, HEAD.unpack_from
_TABLES = [struct.Struct(f"<{count}I") for count in range(MAX_FRAMES)]


def encode(frames: Sequence[bytes], read: int = 0) -> bytes:
    """Return the record of *frames*; of the other direction, *read* bytes have been read. Raises ValueError."""
    count = len(frames)
    first = frames[0]
    if count == 1 and len(first) <= MAX_PACKET:
        return _PACK(1, len(first), read) + first
    if len(first) > MAX_PACKET or count > MAX_FRAMES:
        raise ValueError(
            f"a message of {count} frames, the first of {len(first)} bytes: at most {MAX_FRAMES}, of {MAX_PACKET}"
        )
    sizes = [len(frame) for frame in frames]
    if max(sizes) > MAX_STRING:
        raise ValueError(f"a string of {max(sizes)} bytes: at most {MAX_STRING}")
    return b"".join((_PACK(count, sizes[0], read), _TABLES[count - 1].pack(*sizes[1:]), *frames))


def report(read: int) -> bytes:
    """Return the record that says only that *read* bytes have been read."""
    return _PACK(0, 0, read)


class Assembly:
    """The next message of one stream, as far as it has come: its head, its sizes, its frames, part after part."""

    __slots__ = (
        "_begun",
        "_count",
        "_first",
        "_frames",
        "_left",
        "_limit",
        "_said",
        "_sizes",
        "held",
        "read",
    )

    def __init__(self, limit: int) -> None:
        """Take messages of at most *limit* bytes."""
        self.held = 0
        """Bytes kept of an incomplete message."""
        self.read = 0
        """Bytes the other side has read, by its word."""
        self._limit = limit
        self._begun: BytesIO | None = None
        """The part that is coming, as far as it has come."""
        self._left = _HEAD
        """Bytes missing of it."""
        self._count = self._first = self._said = 0
        """The head, once it is there."""
        self._sizes: list[int] = []
        """The sizes of the coming frames, the next one last, once they are known."""
        self._frames: list[bytes] = []

    def feed(self, data: bytes) -> "Sequence[list[bytes]]":
        """Take the next bytes; return the messages that they complete. Raises BrokenStream."""
        if not self.held and len(data) >= _HEAD:
            count, first, read = _UNPACK(data)
            if count == 1 and len(data) == _HEAD + first and first <= MAX_PACKET and read >= self.read:
                self.read = read
                return ([data[_HEAD:]],)  # one message in one piece: nearly always
        self.held += len(data)
        if len(data) >= self._left:
            return self._cut(data)
        self._begin(data)
        return ()

    def _begin(self, data: bytes | memoryview) -> None:
        """Keep *data*, which is less than is missing of the part."""
        if self._begun is None:
            self._begun = BytesIO()
        self._begun.write(data)
        self._left -= len(data)

    def _cut(self, data: bytes) -> list[list[bytes]]:
        """Take the parts that *data* completes; return the messages that they complete."""
        messages: list[list[bytes]] = []
        at, end = 0, len(data)
        while (following := at + self._left) <= end:
            part = data[at:following]
            at = following
            if self._begun is not None:
                self._begun.write(part)
                part, self._begun = self._begun.getvalue(), None  # getvalue hands its buffer over, uncopied
            frames = self._take(part)
            if frames is None:
                continue
            self.held = end - at
            if frames:
                messages.append(frames)
        if at < end:
            self._begin(memoryview(data)[at:])
        return messages

    def _take(self, part: bytes) -> list[bytes] | None:
        """Take the next part, and determine the one after; return the frames when the record is complete."""
        if self._sizes:
            self._frames.append(part)
            self._sizes.pop()
        elif not self._count:
            self._count, self._first, self._said = self._measured(part)
            if self._count > 1:
                self._left = SIZE * (self._count - 1)
                return None
            self._know((self._first,) if self._count else ())
        else:
            self._know((self._first, *_TABLES[self._count - 1].unpack(part)))
        if self._sizes:
            self._left = self._sizes[-1]
            return None
        frames, self._frames = self._frames, []
        self._count, self._left = 0, _HEAD
        return frames

    def _measured(self, head: bytes) -> tuple[int, int, int]:
        """Return the numbers in *head*. Raises BrokenStream."""
        count, first, read = _UNPACK(head)
        if read < self.read + (not count):  # a head without frames must report progress
            raise BrokenStream(f"it has read {read} bytes, and had read {self.read}")
        if count > MAX_FRAMES or first > (MAX_PACKET if count else 0):
            raise BrokenStream(f"a message of {count} frames, the first of {first} bytes")
        return count, first, read

    def _know(self, sizes: Sequence[int]) -> None:
        """Expect frames of these *sizes*. Raises BrokenStream."""
        if sum(sizes) > self._limit or max(sizes, default=0) > MAX_STRING:
            raise BrokenStream(f"a message of {sum(sizes)} bytes, the longest string of {max(sizes)}")
        self._sizes, self.read = [*reversed(sizes)], self._said
