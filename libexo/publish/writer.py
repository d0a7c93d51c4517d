"""The publisher's side of the ring: the place of a record, and the order in which its words are stored.

Before anything is overwritten, TAIL passes it; after a record is complete, HEAD passes it. Nothing else keeps the
two sides apart. It holds because x86-64 makes the stores of one processor visible in their order (TSO) and a word
of a `memoryview.cast("Q")` is one store of 8 bytes. The one exception are the streaming stores by which the C
library copies large blocks; copying in pieces avoids them.
"""

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
    largest,
    space,
)

PIECE = 1 << 16
"""Bytes copied at once: far below the size at which the C library begins to stream."""


class Writer:
    """The one writer of a ring."""

    def __init__(self) -> None:
        """Begin with record 0; `begin` gives the memory."""
        self.head = GRAIN  # a word of 0 is never taken for it
        self.number = 0
        self._tail = self.head
        self._generation = 0

    def begin(self, words: memoryview, data: memoryview) -> None:
        """Write into *words*, whose ring is *data*, from now on, and keep no earlier record."""
        self._words, self._data, self._size = words, data, len(data)
        self.largest = largest(self._size)
        if words[MAGIC_WORD] == MAGIC and not self._generation:
            self._succeed()
        self._generation += 1
        self._tail = self.head
        words[GENERATION] = 0  # a reader that looks now sees that it is not ready
        words[MAGIC_WORD] = MAGIC
        words[CLOSED] = 0
        words[TAIL] = words[HEAD] = self.head
        words[self._index(self.head)] = self.number
        words[GENERATION] = self._generation

    def _succeed(self) -> None:
        """Go on with the numbers of a predecessor."""
        self._generation = self._words[GENERATION]
        self.head = self._words[HEAD] // GRAIN * GRAIN
        self.number = self._words[self._index(self.head)]

    def put(self, content: bytes) -> bool:
        """Publish *content*, which is not longer than `largest`; False: nothing was done, as the memory is gone."""
        words, length = self._words, len(content)
        if words[GENERATION] != self._generation:
            return False
        room = self._size - self.head % self._size
        needed = space(length)
        start = self.head if needed <= room else self.head + room
        end = start + needed
        if self._tail < end + RECORD.size - self._size:
            self._drop(end + RECORD.size - self._size)
        if start != self.head:
            words[self._index(self.head) + 1] = FILLER
            words[RING] = self.number
        at = start % self._size + RECORD.size
        if length <= PIECE:
            self._data[at : at + length] = content
        else:
            self._copy(at, content)
        words[self._index(start) + 1] = length
        self.number += 1
        words[self._index(end)] = self.number
        words[HEAD] = self.head = end
        return True

    def close(self) -> None:
        """Mark that nothing follows any more."""
        self._words[CLOSED] = 1

    @property
    def intact(self) -> bool:
        """Whether the memory is still there."""
        return bool(self._words[GENERATION] == self._generation)

    def _drop(self, until: int) -> None:
        """Keep no record that begins before position *until*."""
        words, tail = self._words, self._tail
        while tail < until:
            length = words[self._index(tail) + 1]
            tail += self._size - tail % self._size if length == FILLER else space(length)
        words[TAIL] = self._tail = tail

    def _copy(self, at: int, content: bytes) -> None:
        view = memoryview(content)
        for first in range(0, len(view), PIECE):
            piece = view[first : first + PIECE]
            self._data[at + first : at + first + len(piece)] = piece

    def _index(self, position: int) -> int:
        """Return the index of the word at *position*."""
        return RING + position % self._size // 8
