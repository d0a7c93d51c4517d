"""A reader's side of the ring: copy first, then check that the copied part was not overwritten meanwhile.

The reader stores nothing there, so the publisher cannot know it, and trusts nothing: each number is loaded once
from the memory into its own, and every loop is bounded. It copies many records at once, and takes them
from its copy one by one. Loads stay in order on x86-64: when TAIL, loaded after the copy, has not passed the
copied part, no store of a later record was in it.
"""

from typing import NoReturn

from libexo.publish.layout import (
    CLOSED,
    FILLER,
    GENERATION,
    GRAIN,
    HEAD,
    MAGIC,
    MAGIC_WORD,
    RECORD,
    RING,
    TAIL,
    BrokenChannel,
    ChannelEnded,
    MemoryCut,
    space,
)

BATCH = 1 << 16
"""Bytes copied at once, unless one record is larger."""
TRIES = 16
"""How often one look at the ring begins again because the publisher was faster."""


class Cursor:
    """The position of one reader."""

    def __init__(self, words: memoryview, data: memoryview, *, oldest: bool) -> None:
        """Begin with the *oldest* record kept, or with the next one published. Raises BrokenChannel, MemoryCut."""
        self.missed = 0
        self.position = 0
        self._number = 0
        self._lapped = False
        """Records between the last one taken and `position` were overwritten."""
        self._copied, self._at = b"", 0
        """The last copy; the record at `position` is at `_at` of it."""
        self._head = 0
        self._look_at(words, data)
        if words[MAGIC_WORD] != MAGIC or not self._generation:
            raise BrokenChannel("there is no publish channel in this extent")
        if not oldest or not self._begin_oldest():
            self._begin_newest()

    def resume(self, words: memoryview, data: memoryview) -> bool:
        """Go on in *words* and *data*, which replaced the memory, once the publisher has started over there.

        After its last record it does not: a copy that it closed is whole, since the kernel copies in order.
        """
        closed, generation = words[CLOSED], words[GENERATION]
        if generation < self._generation or (generation == self._generation and not closed):
            return False
        self._look_at(words, data)
        return True

    def take(self) -> bytes | None:
        """Return the next record, or None when there is none now. Raises BrokenChannel, ChannelEnded, MemoryCut."""
        for _ in range(TRIES):
            if self._at == len(self._copied) and not self._fetch(BATCH):
                break
            number, length = RECORD.unpack_from(self._copied, self._at)
            self._count(number)
            room = self._size - self.position % self._size
            needed = room if length == FILLER else space(length)
            if needed > min(room, self._head - self.position):
                self._broken(f"record {number} has {length} bytes")
            if length == FILLER:
                self._forget(self.position + needed)
            elif needed > len(self._copied) - self._at:
                if not self._fetch(needed):
                    break
            else:
                first = self._at + RECORD.size
                self._at += needed
                self.position += needed
                self._number += 1
                return self._copied[first : first + length]
        return None

    def _look_at(self, words: memoryview, data: memoryview) -> None:
        self._words, self._data, self._size = words, data, len(data)
        self._generation = words[GENERATION]

    def _begin_oldest(self) -> bool:
        """Begin with the oldest record kept; False: there is none."""
        self.position = self._words[TAIL] // GRAIN * GRAIN
        found = self._fetch(BATCH)
        if found:
            self._number = RECORD.unpack_from(self._copied)[0]
        return found

    def _begin_newest(self) -> None:
        """Begin after the newest record, with the number stored there."""
        words = self._words
        for _ in range(TRIES):
            head = words[HEAD] // GRAIN * GRAIN
            number = words[RING + head % self._size // 8]
            if words[TAIL] <= head:
                self._check_generation()
                self.position, self._number, self._lapped = head, number, False
                return
        self._broken("it is overwritten faster than it can be read")

    def _fetch(self, wanted: int) -> bool:
        """Copy the bytes from `position`, up to *wanted*; False: there are none now."""
        words, size = self._words, self._size
        for _ in range(TRIES):
            self._pass_over(words[TAIL])
            closed = words[CLOSED]
            head = words[HEAD] // GRAIN * GRAIN
            start = self.position
            if head <= start:
                self._check_generation()
                if closed:
                    raise ChannelEnded("the publisher closed the channel")
                break
            at = start % size
            copied = bytes(self._data[at : at + min(head - start, wanted, size - at)])
            tail = words[TAIL]
            self._check_generation()
            self._pass_over(tail)
            self._head = head
            if self.position < start + len(copied):
                self._copied, self._at = copied, self.position - start
                return True
        return False

    def _pass_over(self, tail: int) -> None:
        """Skip the part before *tail*, which was overwritten."""
        if tail > self.position:
            self._lapped = True
            self._forget(tail // GRAIN * GRAIN)

    def _forget(self, position: int) -> None:
        """Go on at *position*, which is not in the copy."""
        self.position = position
        self._copied, self._at = b"", 0

    def _count(self, number: int) -> None:
        """Count the records between the last one and *number*, the next, as missed."""
        if number != self._number:
            if not self._lapped or number < self._number:
                self._broken(f"record {number} is where {self._number} should be")
            self.missed += number - self._number
            self._number = number
        self._lapped = False

    def _check_generation(self) -> None:
        if self._words[GENERATION] != self._generation:
            self._forget(self.position)
            raise MemoryCut

    def _broken(self, why: str) -> NoReturn:
        """Raise BrokenChannel for an impossible copy, unless its memory is gone."""
        self._check_generation()
        raise BrokenChannel(f"the publish channel is broken: {why}")
