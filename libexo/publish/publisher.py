"""The publisher: it stores records and wakes sleeping readers, and knows no others."""

import contextlib
from typing import TYPE_CHECKING, Generic, TypeVar, overload

import msgspec

from libexo.errors import ExoError
from libexo.extent import Extent
from libexo.publish.layout import CLOSED, ChannelEnded
from libexo.publish.window import Window
from libexo.publish.writer import Writer

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.stub import Call

T = TypeVar("T")
SLEEPERS = 1024
"""Readers that may sleep at once; for one more, the first is woken to ask again."""


class Publisher(Generic[T]):
    """The one publisher of a channel. Records are bytes, or of the type it was made *of*."""

    @overload
    def __init__(self: "Publisher[bytes]", environment: "Environment", extent: Extent) -> None: ...
    @overload
    def __init__(self, environment: "Environment", extent: Extent, of: type[T]) -> None: ...
    def __init__(self, environment: "Environment", extent: Extent, of: type[T] | None = None) -> None:
        """Begin a channel in *extent*, which is one's own; or go on, in a predecessor's.

        Raises TrapRefused, OSError; ExoError when the extent is not writable.
        """
        self._extent = extent
        self._window = Window(environment, extent.handle)
        if not self._window.writable:
            self._window.close()
            raise ExoError("a publisher must be able to write to the extent")
        self._encode = msgspec.msgpack.Encoder().encode if of not in (None, bytes) else None
        self._writer = Writer()
        self._writer.begin(self._window.words, self._window.data)
        self._sleepers: dict[int, Call] = {}
        self.closed = False
        """Whether `close` was called."""

    @property
    def largest(self) -> int:
        """Bytes of the largest record: somewhat less than half of the extent."""
        return self._writer.largest

    @property
    def published(self) -> int:
        """The number of records published, by predecessors too."""
        return self._writer.number

    @property
    def extent(self) -> Extent:
        """The extent to share, without the right to write."""
        self._attend()
        return self._extent.read_only()

    def publish(self, record: T) -> None:
        """Publish *record*. Raises ExoError when it is larger than `largest`, ChannelEnded after `close`.

        No system call is made, unless a reader sleeps, or the memory was taken.
        """
        content: bytes = self._encode(record) if self._encode is not None else record  # type: ignore[assignment]
        if self.closed:
            raise ChannelEnded("the channel was closed")
        if len(content) > self._writer.largest:
            raise ExoError(f"a record has at most {self._writer.largest} bytes, not {len(content)}")
        while not self._put(content):
            self._start_over()
        if self._sleepers:
            self._wake()

    def close(self) -> None:
        """End the channel: readers learn of it once they have read the rest. The extent stays the caller's."""
        if not self.closed:
            with contextlib.suppress(ChannelEnded):  # its readers know
                self._attend()
                self._writer.close()
                while not self._closed_for_all():
                    self._start_over()
                    self._writer.close()
            self.closed = True
            self._wake()
            self._window.close()

    def is_past(self, position: int) -> bool:
        """Say whether there is a record after *position*."""
        self._attend()
        return self._writer.head > position

    def tell_next(self, call: "Call") -> None:
        """Answer *call* when the next record is published."""
        self._sleepers[call.sender] = call
        if len(self._sleepers) > SLEEPERS:
            self._sleepers.pop(next(iter(self._sleepers))).answer(True)

    def _wake(self) -> None:
        sleepers = list(self._sleepers.values())
        self._sleepers.clear()
        for call in sleepers:
            call.answer(True)

    def _attend(self) -> None:
        """Make sure that the memory is ours: nothing may be shared that holds a predecessor's state."""
        while not self.closed and not self._is_intact():
            self._start_over()

    def _put(self, content: bytes) -> bool:
        try:
            return self._writer.put(content)
        except ValueError:  # the simulated machine's bus error
            return False

    def _is_intact(self) -> bool:
        try:
            return self._writer.intact
        except ValueError:
            return False

    def _closed_for_all(self) -> bool:
        """Say whether the mark is in the memory that readers have: a move that was under way may have missed it.

        The kernel maps memory once no move of it is under way, and a later move copies the mark.
        """
        self._window.reopen()
        try:
            return bool(self._window.words[CLOSED])
        except ValueError:
            return False

    def _start_over(self) -> None:
        """Begin in the new memory, as the old moved. Raises ChannelEnded when there is none."""
        self._window.reopen()
        self._writer.begin(self._window.words, self._window.data)
