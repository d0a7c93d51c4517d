"""Publishing: store a record, wake who sleeps, and know of nobody else."""

import contextlib
from typing import TYPE_CHECKING, Generic, TypeVar, overload

import msgspec

from libexo.errors import ExoError
from libexo.extent import Extent
from libexo.publish.layout import ChannelEnded
from libexo.publish.window import Window
from libexo.publish.writing import Writer

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.stub import Call

T = TypeVar("T")
SLEEPERS = 1024
"""Readers that may sleep at once; one more, and the first is woken to ask again."""


class Publisher(Generic[T]):
    """The one publisher of a channel. Records are bytes, or of the type it was made *of*."""

    @overload
    def __init__(self: "Publisher[bytes]", environment: "Environment", extent: Extent) -> None: ...
    @overload
    def __init__(self, environment: "Environment", extent: Extent, of: type[T]) -> None: ...
    def __init__(self, environment: "Environment", extent: Extent, of: type[T] | None = None) -> None:
        """Begin a channel in *extent*, which is one's own; or go on, in one that a predecessor left.

        Raises TrapRefused, OSError; ExoError when the extent cannot be written.
        """
        self._extent = extent
        self._window = Window(environment, extent.handle)
        if not self._window.writable:
            self._window.close()
            raise ExoError("one who publishes must be able to write to the extent")
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
        """How many records were published, by predecessors too."""
        return self._writer.number

    @property
    def extent(self) -> Extent:
        """The extent to share: it cannot be written by who gets it."""
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
        """End the channel: readers hear of it once they have read what there is. The extent stays the caller's."""
        if not self.closed:
            with contextlib.suppress(ChannelEnded):  # its readers know
                self._attend()
                self._writer.close()
            self.closed = True
            self._wake()
            self._window.close()

    def is_past(self, position: int) -> bool:
        """Say whether there is something to hear of for a reader that is at *position*."""
        self._attend()
        return self.closed or self._writer.head > position

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
        """See to it that there is memory: nothing may be shared that has a predecessor's state in it."""
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

    def _start_over(self) -> None:
        """The memory moved: begin in the new one. Raises ChannelEnded when there is none."""
        self._window.reopen()
        self._writer.begin(self._window.words, self._window.data)
