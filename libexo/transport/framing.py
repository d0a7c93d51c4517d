"""Messages in a stream of bytes: how they are written, and how they are cut out of what a stranger sends.

A record is a head, the sizes of the frames after the first, and the frames. The head has the number of frames, the
size of the first, and how much of the other direction its sender has read so far; one of no frames says only that.

The other side may send anything. Every number is checked before anything is kept for it, and what is kept of a
message that is not complete is what has come of it: `Assembly.held`. What contradicts itself breaks the stream.
"""

import struct
from collections.abc import Sequence

from kernel.abi.limits import MAX_PARTS, MAX_STRING
from libexo.errors import BrokenStream

HEAD = struct.Struct("<IIQ")
"""Number of frames, bytes of the first, bytes read so far of what the other side sent."""
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
    """What has come of the next message of one stream."""

    __slots__ = ("_limit", "_pieces", "_sizes", "_wanted", "held", "read")

    def __init__(self, limit: int) -> None:
        """Take messages of at most *limit* bytes."""
        self.held = 0
        """Bytes kept of a message that is not complete."""
        self.read = 0
        """How much the other side says it has read."""
        self._limit = limit
        self._pieces: list[bytes] = []
        self._wanted = _HEAD
        """As many must be there for the next step."""
        self._sizes: tuple[int, ...] = ()

    def feed(self, data: bytes) -> "Sequence[list[bytes]]":
        """Take the next bytes; return the messages that are complete with them. Raises BrokenStream."""
        if not self.held and len(data) >= _HEAD:
            count, first, read = _UNPACK(data)
            if count == 1 and len(data) == _HEAD + first and first <= MAX_PACKET and read >= self.read:
                self.read = read
                return ([data[_HEAD:]],)  # one message that came in one piece: nearly always
        self._pieces.append(data)
        self.held += len(data)
        return self._cut() if self.held >= self._wanted else ()

    def _cut(self) -> list[list[bytes]]:
        """Cut the messages out of what is there."""
        whole, self._pieces = b"".join(self._pieces), []
        messages: list[list[bytes]] = []
        at, end = 0, len(whole)
        while True:
            self._wanted = self._measure(whole, at, end)
            if end - at < self._wanted:
                break
            following = at + self._wanted
            if self._sizes:
                messages.append(_split(whole, following - sum(self._sizes), self._sizes))
            at = following
        self.held = end - at
        if at < end:
            self._pieces.append(whole[at:])
        return messages

    def _measure(self, whole: bytes, at: int, end: int) -> int:
        """Return the bytes of the record that begins at *at*, or how many it takes to know. Raises BrokenStream."""
        self._sizes = ()
        if end - at < _HEAD:
            return _HEAD
        count, first, read = _UNPACK(whole, at)
        if read < self.read + (not count):  # who says nothing else has read something
            raise BrokenStream(f"it has read {read} bytes, and had read {self.read}")
        if count > MAX_FRAMES or first > (MAX_PACKET if count else 0):
            raise BrokenStream(f"a message of {count} frames, the first of {first} bytes")
        table: int = _HEAD + SIZE * (count - 1) if count else _HEAD
        if end - at < table:
            return table
        sizes = (first, *_TABLES[count - 1].unpack_from(whole, at + _HEAD)) if count else ()
        if sum(sizes) > self._limit or max(sizes, default=0) > MAX_STRING:
            raise BrokenStream(f"a message of {sum(sizes)} bytes, the longest string of {max(sizes)}")
        self._sizes, self.read = sizes, read
        return int(table + sum(sizes))


def _split(whole: bytes, at: int, sizes: Sequence[int]) -> list[bytes]:
    """Return the frames of those *sizes* that lie one after the other from *at* on."""
    frames = []
    for size in sizes:
        frames.append(whole[at : at + size])
        at += size
    return frames
