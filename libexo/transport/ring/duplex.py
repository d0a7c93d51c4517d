"""One end of a ring binding: it writes into one ring, and reads from the other.

*Trust.* The other side may write anything into the memory at any time. So our own positions of reading and writing
are kept here, and only told there. A word of the other side's is read once, checked, and used as it was read; a
body is copied before it is examined. A contradiction is a `BrokenRing`, and nothing of it is used.

*Order.* A record is written before its mark, and the host must keep that order (x86-64 does). It may let a later
read overtake a write: a side that announces its sleep may miss a record written at that very moment, by a side that
did not see the announcement. Hence a side about to sleep looks once more, a moment later, when both have long
become visible (`LINGER` in `libexo.host`); after that it sleeps for long. So no wake-up is lost, and no message
pays for a fence.

*Doorbells.* Ours is rung when something was written for us while we slept, or when there is room after we slept
because there was none. Each sleep has a number, and is rung for once.
"""

import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from kernel.abi.limits import SHORT_STRING
from kernel.abi.messages import Packet, ShortPart
from libexo.errors import BrokenRing
from libexo.transport.ring.layout import (
    ALIGN,
    CONTROL,
    DIRECTION,
    HEADER,
    LONGEST,
    MOST_FRAMES,
    Form,
    Word,
    aligned,
    capacity,
    mark,
)

if TYPE_CHECKING:
    from libexo.host.base import Host
    from libexo.transport.base import Bell, Descriptor, Frames

Short = tuple[int, int, int, bytes]
"""An abbreviated message: its mark without the size, sequence, label, string."""

ONCE = (None,)
"""How often to look."""
TELLS = 8
"""How often in a lap its reader reports its position; a writer waiting for room wants more than lies between."""
RECORDS = 64
"""Records that one look skips without finding a message: however fast the other side writes, there is an end."""
# Plain numbers: a member of an enum costs more to look up than a word of memory.
_FULL, _HEAD, _ASLEEP, _PROCESSOR = (int(word) for word in Word)
_WHOLE, _PART, _LAST, _SHORT, _SKIP = (int(form) for form in Form)
_UP = HEADER + ALIGN - 1
_SHORT_SIZE = 0xFFFF
"""The bits of an abbreviated message's mark that are its size."""
_ENCODE = msgspec.msgpack.Encoder().encode
_SIZE = 4
"""Bytes of a frame's size."""


class Duplex:
    """One end. Nothing here waits; every read of the other side's words may raise BrokenRing."""

    __slots__ = (
        "_asleep",
        "_at",
        "_body",
        "_coming",
        "_count",
        "_end",
        "_freed",
        "_in_at",
        "_in_base",
        "_in_end",
        "_in_lap",
        "_in_start",
        "_lap",
        "_leaving",
        "_left",
        "_limit",
        "_memory",
        "_out_base",
        "_room",
        "_rung",
        "_size",
        "_sleeps",
        "_start",
        "_tell",
        "_unmap",
        "_words",
        "_wrong",
        "bell",
        "hung_up",
        "stuck",
    )  # fmt: skip

    def __init__(
        self, memory: memoryview, bell: "Bell", unmap: Callable[[memoryview], None], *, receiver: bool
    ) -> None:
        """Be the end of the binding's *receiver*, or of its sender, in *memory*, fresh zeros."""
        self.bell = bell
        self.hung_up = False
        """The other side gave its end of the doorbell up."""
        self.stuck = False
        """Its writer waits for room."""
        self._unmap = unmap
        self._wrong = ""
        """The other side's violation, found when no caller could be told."""
        self._memory = memory
        self._words = memory.cast("Q")
        size = self._size = capacity(len(memory))
        out, in_ = (1, 0) if receiver else (0, 1)
        self._out_base, self._in_base = out * DIRECTION, in_ * DIRECTION
        self._start, self._in_start = CONTROL + out * size, CONTROL + in_ * size
        self._end, self._in_end = self._start + size, self._in_start + size
        self._asleep = self._out_base + _ASLEEP
        self._at, self._lap = self._start, 0
        """Place of the next record, and bytes ever written before the start of the ring."""
        self._limit, self._room = size - ALIGN, self._end - ALIGN
        """How much may ever be written, as far as is known: all but the place of a mark behind it; and up to where
        records may reach without more ado."""
        self._in_at, self._in_lap = self._in_start, 0
        """Place of the next record, and bytes ever read before the start of the ring."""
        self._tell = self._in_start + size // TELLS
        """Place from which on to report our reading again."""
        self._left: deque[memoryview] = deque()
        self._leaving = (0, 0)
        """The unwritten rest of a long message; its bytes and frames."""
        self._body = bytearray()
        self._coming = self._count = 0
        """The part of a long message that came; the bytes still missing, and its frames."""
        self._sleeps = self._rung = self._freed = 0
        """Our sleeps; the other side's sleep, and the room it waited for, that we last rang for."""

    def close(self) -> None:
        """Release memory and doorbell. Twice is harmless."""
        self.bell.close()
        self._left.clear()
        self._words.release()
        unmap, self._unmap = self._unmap, memoryview.release
        unmap(self._memory)

    # ------------------------------------------------------------------------------------------------ writing

    def send(self, frames: "Frames") -> bool:
        """Write a message. False: there is no room, or an earlier long one is not all written yet."""
        if self._left and not self.flush():
            return False
        alone = len(frames) == 1
        size = len(frames[0]) if alone else sum(map(len, frames)) + _SIZE * len(frames)
        need = aligned(HEADER + size)
        if need > self._size // 4:  # as much room as is waited for
            self._left.extend(memoryview(piece) for piece in (_sizes(frames), *frames) if len(piece))
            self._leaving = size + _SIZE * alone, len(frames)
            self.flush()
            return True
        if not self._has_place(need):
            return False
        pieces = frames if alone else (_sizes(frames), *frames)
        self._write(mark(size, _WHOLE, len(frames)), 0, 0, pieces, need)
        return True

    def put(self, mark: int, sequence: int, label: int, string: bytes) -> bool:
        """Write an abbreviated message: *mark* as from `layout.short`. False: as for `send`."""
        size = len(string)
        at = self._at
        next_ = at + (size + _UP & -ALIGN)
        if next_ > self._room or self._left:
            if self._left and not self.flush():
                return False
            if not self._has_place(next_ - at):
                return False
            self._write(mark | size, sequence, label, (string,), next_ - at)
            return True
        # As `_write`, which it would cost more to call than to do.
        words, place = self._words, at >> 3
        words[place + 1] = sequence
        words[place + 2] = label
        body = at + HEADER
        self._memory[body : body + size] = string
        self._at = next_
        words[next_ >> 3] = 0
        words[place] = mark | size
        asleep = words[self._asleep]
        if asleep and asleep != self._rung:
            self._rung = asleep
            self.bell.ring()
        return True

    def flush(self) -> bool:
        """Write the rest of a long message, as far as there is room. True: all of it is written."""
        left = self._left
        most = self._size // 4 - HEADER
        while left:
            size = min(sum(map(len, left)), most)
            need = aligned(HEADER + size)
            if not self._has_place(need):
                return False
            pieces = list(_cut(left, size))
            total, count = self._leaving
            self._write(mark(size, _PART if left else _LAST, count), total, 0, pieces, need)
        return True

    def _has_place(self, need: int) -> bool:
        """Say whether *need* bytes, at most half of the ring, may be written in one piece; skip to there."""
        left = self._end - self._at
        if need > left:
            if not self._has_room(left):
                return False
            self._write(mark(0, _SKIP, 0), 0, 0, (), left)
        return self._has_room(need)

    def _has_room(self, need: int) -> bool:
        tail = self._lap + self._at - self._start
        if tail + need <= self._limit:
            return True
        head, whole = self._words[self._out_base + _HEAD], self._size - ALIGN
        if not self._limit - whole <= head <= tail or head % ALIGN:
            raise BrokenRing(f"its reader says it read {head} bytes of {tail}")
        self._limit = head + whole
        self._find_room()
        return tail + need <= self._limit

    def _find_room(self) -> None:
        self._room = min(self._end - ALIGN, self._start + self._limit - self._lap)

    def _write(
        self, mark: int, sequence: int, label: int, pieces: "Frames | Sequence[memoryview]", need: int
    ) -> None:
        """Write a record of *need* bytes where there is room for it, and wake a side that sleeps for it."""
        words, at = self._words, self._at
        words[(at >> 3) + 1] = sequence
        words[(at >> 3) + 2] = label
        body = at + HEADER
        for piece in pieces:
            self._memory[body : body + len(piece)] = piece
            body += len(piece)
        self._at = at + need
        if self._at == self._end:
            self._at, self._lap = self._start, self._lap + self._size
            self._find_room()
        words[self._at >> 3] = 0
        words[at >> 3] = mark
        asleep = words[self._asleep]
        if asleep and asleep != self._rung:
            self._rung = asleep
            self.bell.ring()

    # ------------------------------------------------------------------------------------------------ reading

    def ready(self) -> bool:
        """Say whether there is something to read, or a violation to report."""
        return self._words[self._in_at >> 3] != 0 or self._wrong != ""

    def is_short(self) -> bool:
        """Say whether the next record is an abbreviated message, which `get` reads."""
        return self._words[self._in_at >> 3] >> 32 & 0xFFFF == _SHORT

    def get(self, spins: Sequence[None] = ONCE) -> Short | None:
        """Read an abbreviated message, looking as often as *spins* is long.

        None: there is nothing, or something else, which is for `receive`.
        """
        words, at = self._words, self._in_at
        place = at >> 3
        for _ in spins:
            mark = words[place]
            if mark:
                break
        else:
            return None
        if mark >> 32 & 0xFFFF != _SHORT:
            return None
        size = mark & _SHORT_SIZE
        next_ = at + (size + _UP & -ALIGN)
        if size > SHORT_STRING or next_ > self._in_end:
            raise BrokenRing(f"an abbreviated message of {size} bytes")
        body = at + HEADER
        string = self._memory[body : body + size].tobytes()
        short = mark - size, words[place + 1], words[place + 2], string
        self._in_at = next_
        if next_ >= self._tell:
            self._report()
        return short

    def receive(self) -> list[bytes] | None:
        """Read the next message. None: there is none, or not all of it."""
        if self._wrong:
            raise BrokenRing(self._wrong)
        for _ in range(RECORDS):
            mark = self._words[self._in_at >> 3]
            if not mark:
                return None
            frames = self._read(mark)
            if frames is not None:
                return frames
        return None

    def _read(self, mark: int) -> list[bytes] | None:
        """Read the record of that *mark*; return the message that it completes. Raises BrokenRing."""
        size, form, kind, at = mark & 0xFFFF_FFFF, mark >> 32 & 0xFFFF, mark >> 48, self._in_at
        if form == _SKIP:
            self._advance(self._in_end - at)
            return None
        word, size = (size >> 16, size & _SHORT_SIZE) if form == _SHORT else (0, size)
        need = aligned(HEADER + size)
        if at + need > self._in_end:
            raise BrokenRing(f"a record of {size} bytes, {self._in_end - at} before the end")
        if self._coming and form not in (_PART, _LAST):
            raise BrokenRing(f"a record of form {form} in the middle of a long message")
        sequence, label = self._words[(at >> 3) + 1], self._words[(at >> 3) + 2]
        body = self._memory[at + HEADER : at + HEADER + size]
        frames = None
        if form == _SHORT and size <= SHORT_STRING:
            frames = [_ENCODE(Packet(kind, sequence, label, (word,), (ShortPart(body.tobytes()),)))]
        elif form == _WHOLE:
            frames = [body.tobytes()] if kind == 1 else _frames(body, kind)
        elif form in (_PART, _LAST):
            frames = self._piece(body, form == _LAST, sequence, kind)
        else:
            raise BrokenRing(f"no record: form {form}, {size} bytes, {kind} frames")
        self._advance(need)
        return frames

    def _piece(self, piece: memoryview, is_last: bool, total: int, count: int) -> list[bytes] | None:  # noqa: FBT001
        """Read a piece of a long message; return its frames when it is the last."""
        if not self._coming:
            if not 0 < total <= LONGEST:
                raise BrokenRing(f"a message of {total} bytes")
            self._coming, self._count = total, count
        if not 0 < len(piece) <= self._coming or is_last != (len(piece) == self._coming):
            raise BrokenRing(f"a piece of {len(piece)} bytes where {self._coming} are missing")
        self._body += piece
        self._coming -= len(piece)
        if not is_last:
            return None
        body, self._body = self._body, bytearray()
        return _frames(memoryview(body), self._count)

    def _advance(self, need: int) -> None:
        """Go past *need* bytes."""
        self._in_at += need
        if self._in_at >= self._tell:
            self._report()

    def _report(self) -> None:
        """Report how much we have read, and wake a writer that sleeps until there is that much room."""
        if self._in_at == self._in_end:
            self._in_at, self._in_lap = self._in_start, self._in_lap + self._size
        self._tell = min(self._in_at + self._size // TELLS, self._in_end)
        words, base = self._words, self._in_base
        words[base + _HEAD] = head = self._in_lap + self._in_at - self._in_start
        full = words[base + _FULL]
        if full != self._freed and full <= head:
            self._freed = full
            self.bell.ring()

    # ----------------------------------------------------------------------------------------------- sleeping

    def prepare_to_sleep(self) -> bool:
        """Announce our sleep. True: there is something to do instead."""
        words, place = self._words, self._in_at >> 3
        if words[place]:
            return True
        if self._left or self.stuck or self._wrong:
            if self.has_news():
                return True
            tail = self._lap + self._at - self._start
            words[self._out_base + _FULL] = tail + self._size // 4 - (self._size - ALIGN)
            if self.has_news():
                return True
        self._sleeps += 1
        words[self._in_base + _ASLEEP] = self._sleeps
        return words[place] != 0

    def has_news(self) -> bool:
        """Say whether there is something to do: to read, or to write where there was no room."""
        if self.ready():
            return True
        try:
            return bool(self._left or self.stuck) and self._has_room(self._size // 4)
        except BrokenRing as error:
            self.spoil(error)
            return True

    def wake(self, processor: int) -> int:
        """Announce that we are awake, and on which *processor* (-1: not told); write what waited for room.

        Return the processor on which the other side last woke, by its word.
        """
        words, base = self._words, self._in_base
        words[base + _ASLEEP] = 0
        words[base + _PROCESSOR] = processor + 1
        if self._left:
            self.go_on()
        return words[self._out_base + _PROCESSOR] - 1

    def go_on(self) -> None:
        """Write what waited for room, as far as there is room now."""
        try:
            self.flush()
        except BrokenRing as error:
            self.spoil(error)

    def spoil(self, error: BrokenRing) -> None:
        """Have the next reader told of *error*."""
        self._wrong = str(error)


def open_duplex(host: "Host", size: int, descriptors: "Sequence[Descriptor]", *, receiver: bool) -> Duplex:
    """Return one end of a ring binding of *size* bytes; *descriptors*, as the kernel gave them, are consumed."""
    memory, wait, ring = descriptors
    return Duplex(host.map(memory, size, writable=True), host.bell(wait, ring), host.unmap, receiver=receiver)


def _sizes(frames: "Frames") -> bytes:
    return struct.pack(f"<{len(frames)}I", *map(len, frames))


def _cut(left: deque[memoryview], size: int) -> Iterator[memoryview]:
    """Take *size* bytes off the front of *left*."""
    while size:
        piece = left.popleft()
        if len(piece) > size:
            left.appendleft(piece[size:])
            piece = piece[:size]
        size -= len(piece)
        yield piece


def _frames(body: memoryview, count: int) -> list[bytes]:
    """Return the *count* frames of *body*, which the other side may be changing. Raises BrokenRing."""
    table = _SIZE * count
    if not 0 < count <= MOST_FRAMES or table > len(body):
        raise BrokenRing(f"{count} frames in {len(body)} bytes")
    sizes = struct.unpack_from(f"<{count}I", body)
    if table + sum(sizes) != len(body):
        raise BrokenRing(f"frames of {sum(sizes)} bytes in {len(body) - table}")
    frames, at = [], table
    for size in sizes:
        frames.append(body[at : at + size].tobytes())
        at += size
    return frames
