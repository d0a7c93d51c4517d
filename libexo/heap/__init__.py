"""A heap in one's own memory: blocks of any size that can be shared, without a trap while there is room.

    heap = Heap(env)
    block = heap.allocate(1000)
    block.view[:5] = b"hello"
    heap.free(block)

It carves *chunks* from a capability to RAM, from the memory server or the caller, and cuts blocks from
them; a block larger than a quarter of a chunk is an extent of its own. An unused chunk is given
back when there is another one; `trim` gives back all. Blocks are not cleared.

A block names its place, `extent` and `offset`, for those it is shared with. Sharing it shares its extent,
and so its neighbours; blocks to be kept apart need a heap of their own. A heap dies with its environment.
A successor inherits its memory, in which it can find nothing, and gives it up by `drop_inherited`.

Any thread of the host may use a heap; a forked process may not, because the blocks are its parent's. Memory that
was taken by force is not given out again: a block in it is lost, and freeing it is not an error.

The lender of the memory may ask for it first (`vm.revoke` with a grace; the kernel says REVOKE). A heap then gives
back its unused chunks when its program next sends, receives or traps. Used blocks are the program's to free before
the grace is over: it is told by `env.on(Label.REVOKE, ...)`, and calls `trim` after that.
"""

import threading
from typing import TYPE_CHECKING, NamedTuple, Self

from kernel.abi.kip import Page
from kernel.abi.limits import FRAME_SIZE, MAX_EXTENT_FRAMES
from libexo import vm
from libexo.errors import NoMemory
from libexo.heap.chunk import PLACES, Chunk, Span, pages_of, rounded
from libexo.heap.source import Source, drop_inherited

if TYPE_CHECKING:
    from libexo.attachment import Attachment
    from libexo.extent import Extent, Ram

__all__ = ["Block", "Heap", "Usage", "drop_inherited"]

CHUNK = 256
"""Frames of a chunk."""
_LEAST_CHUNK = 4
_REPOSSESSED, _LIST = int(Page.REPOSSESSED), int(Page.REPOSSESSED_LIST)
_LISTED = Page.SLICE_BEGAN - _LIST


class Block:
    """Bytes of a heap: `view` is their memory, until they are freed."""

    __slots__ = ("_span", "offset", "view")

    def __init__(self, span: Span, offset: int, size: int) -> None:
        """Be *size* bytes from *offset* of the chunk of *span*. Only heaps make blocks."""
        self._span: Span | None = span
        self.offset = offset
        """Its offset in its extent."""
        self.view = span.chunk.view[offset : offset + size]

    @property
    def extent(self) -> "Extent":
        """The extent it lies in, with others. Raises ValueError when it was freed."""
        if self._span is None:
            raise ValueError("the block was freed")
        return self._span.chunk.extent

    def __repr__(self) -> str:
        """Show its place."""
        return (
            f"<Block {len(self.view)} bytes at {self.offset} of {self.extent!r}>"
            if self._span
            else "<Block, freed>"
        )


class Usage(NamedTuple):
    """The memory of a heap."""

    chunks: int
    frames: int
    blocks: int
    """Bytes in use."""


class Heap:
    """Blocks of memory of one environment."""

    def __init__(self, environment: "Attachment", ram: "Ram | None" = None, chunk: int = CHUNK) -> None:
        """Carve from *ram*, or from what the memory server promises; *chunk* frames at a time, a power of two.

        Nothing is carved yet. Raises ValueError for a bad *chunk*.
        """
        if not _LEAST_CHUNK <= chunk <= MAX_EXTENT_FRAMES or chunk & (chunk - 1):
            raise ValueError(f"chunk = {chunk}: a power of two, {_LEAST_CHUNK} to {MAX_EXTENT_FRAMES} frames")
        self._environment = environment
        self._page = environment.page
        self._source = Source(environment, ram, None if ram is not None else environment.services.memory())
        self._chunk = chunk
        self._largest = chunk // 4 * FRAME_SIZE
        self._lock = threading.RLock()
        self._chunks: dict[int, Chunk] = {}
        """By handle."""
        self._spans: dict[int, list[Span]] = {}
        """Spans with room, by the size of their blocks."""
        self._spare: Chunk | None = None
        """The chunk that became unused last, and is kept."""
        environment.heaps.add(self)
        self._seen = self._page[_REPOSSESSED]
        """Handles of ours that were taken by force, at the last look."""

    def __enter__(self) -> Self:
        """Close it at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # -------------------------------------------------------------------------------------------- requests

    def allocate(self, size: int) -> Block:
        """Return a block of *size* bytes. Raises NoMemory, ValueError."""
        if size < 1:
            raise ValueError(f"size = {size}: a block has at least one byte")
        size_of = rounded(size)
        if size_of > self._largest:
            return self._allocate_apart(size)
        if self._page[_REPOSSESSED] != self._seen:
            self._look_for_taken()
        with self._lock:
            spans = self._spans.get(size_of)
            if spans:
                span = spans[-1]
                free = span.free
                offset = free.pop()
                if not free:
                    spans.pop()
                span.chunk.live += 1
                return Block(span, offset, size)
        return self._allocate_anew(size_of, size)

    def free(self, block: Block) -> None:
        """Take *block* back; its view raises from now on, and slices of it must not be used.

        Raises ValueError when it is free already, or another heap's; BufferError while an array refers to its view.
        """
        with self._lock:
            span = block._span  # noqa: SLF001 - blocks are ours
            if span is None:
                raise ValueError("the block was freed already")
            chunk = span.chunk
            if self._chunks.get(chunk.extent.handle) is not chunk and not chunk.is_lost:
                raise ValueError("the block is another heap's, or its heap was closed")
            block.view.release()
            block._span = None  # noqa: SLF001 - as above
            if chunk.is_lost:
                return
            free = span.free
            free.append(block.offset)
            chunk.live -= 1
            if len(free) == 1 and span.size <= self._largest:
                self._spans[span.size].append(span)
            if chunk.live or chunk is self._spare:
                return
            given = self._rest(chunk)
        if given is not None:
            self._give_back(given)

    def trim(self) -> int:
        """Give back every unused chunk; return the frames given back."""
        with self._lock:
            empty = [chunk for chunk in self._chunks.values() if not chunk.live]
            for chunk in empty:
                self._remove(chunk)
        for chunk in empty:
            self._give_back(chunk)
        return sum(chunk.pages for chunk in empty)

    def asked_back(self, handle: int) -> None:
        """Give back unused memory of *handle*, which its owner asks for, if it is of this heap."""
        if handle == self._source.ram or handle in self._chunks:
            self.trim()

    def usage(self) -> Usage:
        """Return its memory and its use."""
        self._look_for_taken()
        with self._lock:
            chunks = list(self._chunks.values())
            return Usage(len(chunks), sum(c.pages for c in chunks), sum(c.live for c in chunks))

    def close(self) -> None:
        """Give all of it back, used or not. Closing twice is harmless."""
        with self._lock:
            chunks = list(self._chunks.values())
            for chunk in chunks:
                self._remove(chunk)
        for chunk in chunks:
            self._give_back(chunk)

    # -------------------------------------------------------------------------------------------------- growing

    def _allocate_anew(self, size_of: int, size: int) -> Block:
        """Return a block of *size* bytes from a new span of blocks of *size_of*."""
        while True:
            with self._lock:
                span = self._new_span(size_of)
                if span is not None:
                    offset = span.free.pop()
                    span.chunk.live += 1
                    if span.free:
                        self._spans.setdefault(size_of, []).append(span)
                    else:
                        self._spans.setdefault(size_of, [])
                    return Block(span, offset, size)
            self._add(Chunk(*self._carve(pages_of(size_of))))

    def _new_span(self, size_of: int) -> Span | None:
        """Return a span of free pages; if there are too few, of those of unused spans."""
        wanted = max(pages_of(size_of), min(pages_of(PLACES * size_of), self._chunk // 4))
        for _ in range(2):
            for chunk in self._chunks.values():
                span = chunk.take(size_of, wanted)
                if span is not None:
                    return span
            self._gather()
        return None

    def _gather(self) -> None:
        """Give the pages of unused spans back to their chunks."""
        for size_of, spans in self._spans.items():
            for span in [span for span in spans if len(span.free) == span.count]:
                span.chunk.give(span)
            self._spans[size_of] = [span for span in spans if span in span.chunk.spans]

    def _carve(self, least: int) -> "tuple[Extent, memoryview]":
        """Return a chunk's extent, smaller than usual if memory is short; *least* frames. Raises NoMemory."""
        pages = self._chunk
        while True:
            try:
                return self._source.carve(pages)
            except NoMemory:
                if pages == least:
                    raise
                pages = max(least, pages // 4)

    def _add(self, chunk: Chunk) -> None:
        with self._lock:
            self._chunks[chunk.extent.handle] = chunk

    def _allocate_apart(self, size: int) -> Block:
        """Return a block that is an extent of its own."""
        pages = -(-size // FRAME_SIZE)
        if pages > MAX_EXTENT_FRAMES:
            raise NoMemory(f"a block of {size} bytes: an extent has {MAX_EXTENT_FRAMES * FRAME_SIZE} at most")
        chunk = Chunk(*self._source.carve(pages), apart=True)
        self._add(chunk)
        span = Span(chunk, chunk.pages * FRAME_SIZE, 0, chunk.pages)
        return Block(span, span.free.pop(), size)

    # ------------------------------------------------------------------------------------------------ shrinking

    def _rest(self, chunk: Chunk) -> Chunk | None:
        """Return *chunk*, of which nothing is in use any more, if it is to be given back."""
        if chunk.pages == self._chunk and (self._spare is None or self._spare.live):
            self._spare = chunk
            return None
        self._remove(chunk)
        return chunk

    def _remove(self, chunk: Chunk) -> None:
        """Take *chunk* off the lists."""
        self._chunks.pop(chunk.extent.handle, None)
        for span in chunk.spans:
            spans = self._spans.get(span.size, [])
            if span in spans:
                spans.remove(span)
        if self._spare is chunk:
            self._spare = None

    def _give_back(self, chunk: Chunk) -> None:
        """Unmap and free *chunk*, which is on no list any more."""
        vm.unmap(self._environment, chunk.view)
        self._source.free(chunk.extent)

    def _look_for_taken(self) -> None:
        """Forget the chunks that were taken by force."""
        seen, count = self._seen, self._page[_REPOSSESSED]
        known = list(self._chunks)
        if count - seen > _LISTED:
            taken = set(known).difference(self._environment.sys.inventory())
        else:
            taken = {self._page[_LIST + at % _LISTED] for at in range(seen, count)}
        with self._lock:
            self._seen = max(self._seen, count)
            for chunk in [self._chunks[handle] for handle in taken if handle in self._chunks]:
                chunk.is_lost = True
                self._source.frames -= chunk.pages
                self._remove(chunk)
