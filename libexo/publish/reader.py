"""The reader of a channel: new records, missed ones, and sleeping until there are more."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, Literal, Self, TypeVar, overload

import msgspec

from libexo import timeouts
from libexo.errors import ExoError, IpcTimeout, NoPartner, NotFound, RemoteError
from libexo.extent import Extent
from libexo.publish.cursor import Cursor
from libexo.publish.layout import BrokenChannel, ChannelEnded, MemoryCut
from libexo.publish.publication import Publication
from libexo.publish.window import Window

if TYPE_CHECKING:
    from libexo.environment import Environment

T = TypeVar("T")
Start = Literal["oldest", "newest"]
LOOKS = 50
"""How often `wait` looks before it sleeps."""
SHORTEST = 1_000_000
LONGEST = 10_000_000
"""Nanoseconds between two looks, at first and later, of a reader that nobody wakes."""
LONGEST_ASKED = 1_000_000_000
"""The same, of a reader that is woken: its publisher may publish without serving."""
REOPENED = 4
"""How often the channel may start over while a reader begins."""


class Reader(Generic[T]):
    """One of many readers of a channel. Each has a place of its own; none is seen by the others.

    `for record in reader` yields the records that are new now. When the publisher is further ahead than the extent
    holds, the reader goes on with the oldest record that is there, and `missed` counts those that it never got.
    """

    @overload
    def __init__(
        self: "Reader[bytes]", environment: "Environment", extent: Extent, *, start: Start = ...
    ) -> None: ...
    @overload
    def __init__(
        self, environment: "Environment", extent: Extent, of: type[T], *, start: Start = ...
    ) -> None: ...
    def __init__(
        self,
        environment: "Environment",
        extent: Extent,
        of: type[T] | None = None,
        *,
        start: Start = "newest",
    ) -> None:
        """Read the channel in *extent*, whose records are bytes or *of* a type, as the publisher's are.

        *start*: with the next record that is published, or with the oldest one kept.
        Raises BrokenChannel when there is no channel, ChannelEnded when its publisher ended; TrapRefused, OSError.
        """
        if start not in ("oldest", "newest"):
            raise ValueError(f"a reader starts at 'oldest' or 'newest', not at {start!r}")
        self._environment = environment
        self._decode = msgspec.msgpack.Decoder(of).decode if of not in (None, bytes) else None
        self._frame = extent.first
        self._server = ""
        """The name of the server that wakes it; empty: none."""
        self._owned = 0
        """Handle of the extent, if it is given up with the reader."""
        self._ahead: bytes | None = None
        """The next record, if `wait` found it."""
        self._ended: ExoError | None = None
        self._window = Window(environment, extent.handle)
        try:
            self._cursor = self._begin(oldest=start == "oldest")
        except BaseException:
            self._window.close()
            raise

    @overload
    @classmethod
    def join(
        cls, environment: "Environment", name: str = ..., *, start: Start = ..., timeout: float | None = ...
    ) -> "Reader[bytes]": ...
    @overload
    @classmethod
    def join(
        cls,
        environment: "Environment",
        name: str = ...,
        of: type[T] = ...,
        *,
        start: Start = ...,
        timeout: float | None = ...,
    ) -> "Reader[T]": ...
    @classmethod
    def join(
        cls,
        environment: "Environment",
        name: str = Publication.default_name,
        of: type[T] | None = None,
        *,
        start: Start = "newest",
        timeout: float | None = None,
    ) -> "Reader[T] | Reader[bytes]":
        """Read the channel that `PublicationServer` serves under *name*, and be woken by it.

        Raises the errors of a call, which *timeout* bounds, and those of making a reader.
        """
        extent = Publication.connect(environment, name, timeout=timeout).join()
        try:
            reader = cls(environment, extent, of, start=start)  # type: ignore[arg-type]  # None where it is bytes
        except BaseException:
            environment.sys.give_up(extent.handle)  # it may have gone with its publisher
            raise
        reader._server, reader._owned = name, extent.handle
        return reader

    @property
    def missed(self) -> int:
        """Records since the start that were overwritten before this reader came to them."""
        return self._cursor.missed

    def read(self) -> T | None:
        """Return the next record, or None when there is nothing new now.

        Raises ChannelEnded when no record will follow; BrokenChannel when the publisher breaks
        the format, and then always, or when the record is not of the reader's type: that one is skipped.
        """
        content = self._ahead if self._ahead is not None else self._take()
        self._ahead = None
        if content is None or self._decode is None:
            return content  # type: ignore[return-value]  # bytes are what T is
        try:
            return self._decode(content)
        except (ValueError, RecursionError, MemoryError) as error:
            raise BrokenChannel(f"a record is not what it should be: {error}") from error

    def __iter__(self) -> Iterator[T]:
        """Yield the records that are new now. It ends with the channel; `read` and `wait` tell why."""
        while self._is_more():
            record = self.read()
            if record is not None:
                yield record

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until there is a record, at most *timeout* seconds; return whether there is one.

        Raises ChannelEnded, BrokenChannel as `read`; IpcError when another thread cut the sleep short.
        """
        host = self._environment.host
        deadline = timeouts.after(host.now(), timeout)
        if any(self._has_record() for _ in range(LOOKS)):
            return True
        pause = LONGEST if self._server else SHORTEST
        while not self._has_record():
            now = host.now()
            if deadline is not None and now >= deadline:
                return False
            until = now + pause if deadline is None else min(now + pause, deadline)
            self._sleep(until)
            pause = min(2 * pause, LONGEST_ASKED if self._server else LONGEST)
        return True

    def close(self) -> None:
        """Stop reading: `read` and `wait` raise ChannelEnded. An extent that `join` got is given up."""
        self._ended = self._ended or ChannelEnded("the reader is closed")
        self._ahead = None
        self._window.close()
        owned, self._owned = self._owned, 0
        if owned:
            self._environment.sys.give_up(owned)  # it may have gone with its publisher

    def __enter__(self) -> Self:
        """Read within a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _begin(self, *, oldest: bool) -> Cursor:
        for _ in range(REOPENED):
            try:
                return Cursor(self._window.words, self._window.data, oldest=oldest)
            except (MemoryCut, ValueError):
                self._window.reopen()
        raise BrokenChannel("the publish channel starts over again and again")

    def _is_more(self) -> bool:
        try:
            return self._has_record()
        except ChannelEnded:
            return False

    def _has_record(self) -> bool:
        if self._ahead is None:
            self._ahead = self._take()
        return self._ahead is not None

    def _take(self) -> bytes | None:
        """Return the next record; keep an end in mind, and find memory that moved."""
        if self._ended is not None:
            raise self._ended
        try:
            return self._take_on()
        except (BrokenChannel, ChannelEnded) as error:
            self._ended = error
            raise

    def _take_on(self) -> bytes | None:
        try:
            return self._cursor.take()
        except (MemoryCut, ValueError):  # a ValueError is the simulated machine's bus error
            self._window.reopen()
        try:
            resumed = self._cursor.resume(self._window.words, self._window.data)
            return self._cursor.take() if resumed else None
        except (MemoryCut, ValueError):
            return None  # again next time

    def _sleep(self, until: int) -> None:
        """Sleep until the publisher's server answers, or until the time *until*."""
        host = self._environment.host
        if self._server:
            self._ask(max(0, until - host.now()) / 1e9)
            if self._has_record():
                return
            until = min(until, host.now() + SHORTEST)
        host.wait((), until)

    def _ask(self, timeout: float) -> None:
        """Call the server until it answers, or *timeout* has passed."""
        publication = Publication.connect(self._environment, self._server, timeout=timeout, patience=0)
        try:
            is_same = publication.after(self._frame, self._cursor.position)
        except IpcTimeout:
            return
        except (NoPartner, NotFound):
            is_same = False
        except RemoteError as error:
            self._ended = BrokenChannel(f"the server of the channel answered: {error}")
            raise self._ended from error
        if not is_same and not self._has_record():
            self._ended = ChannelEnded("the publisher ended")
            raise self._ended
