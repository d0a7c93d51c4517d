"""What threads send each other: a label, up to 63 words, and items (strings and capabilities)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from kernel.abi.limits import MAX_PARTS, MAX_STRING, MAX_WORDS, SHORT_STRING
from kernel.abi.messages import LABEL_BITS
from kernel.abi.rights import MAP_READ

if TYPE_CHECKING:
    from libexo.ipc.peer import Peer

_WORD_LIMIT = 1 << 64
_STRINGS = (bytes, bytearray, memoryview)


@dataclass(frozen=True, slots=True)
class MapItem:
    """A capability to derive for the receiver. Received: `handle` is in the receiver's own table."""

    handle: int
    rights: int = int(MAP_READ)


@dataclass(frozen=True, slots=True)
class GrantItem:
    """A capability to move to the receiver. Received: `handle` is in the receiver's own table."""

    handle: int
    rights: int = int(MAP_READ)


@dataclass(frozen=True, slots=True)
class FpageItem:
    """The extents of an X.2 map or grant item: of each, offset from the fpage's base, size, handle and rights."""

    extents: tuple[tuple[int, int, int, int], ...]
    grant: bool = False


Item = bytes | MapItem | GrantItem | FpageItem


class Message(msgspec.Struct, eq=False):
    """A message: *label* (48 bits), *words* (at most 63 of 64 bits), *items* (bytes are string items).

    An X.2 message has *typed* words besides, the descriptors of its items; the two kinds together are 63.
    """

    label: int = 0
    words: tuple[int, ...] = ()
    items: tuple[Item, ...] = ()
    origin: "Origin | None" = None
    """Where a received message came from, so that it can be answered; not part of its value."""
    typed: tuple[int, ...] = ()
    xfer: int = 0
    """How long the receiver's page faults may hold up its strings (X.2 Time; 0: Never)."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self._value() == other._value()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        label, words, items, typed, xfer = self._value()
        return f"Message({label=}, {words=}, {items=}, {typed=}, {xfer=})"

    def _value(self) -> tuple[object, ...]:
        return self.label, self.words, self.items, self.typed, self.xfer


class Origin(msgspec.Struct, eq=False):
    """The way back to the sender of a received message."""

    peer: "Peer | None"
    """None: a message of the kernel."""
    sender: int
    """The thread it is from; of a propagated message, the virtual sender."""
    sequence: int
    answers: bool
    """The sender waits for an answer."""
    timed: bool = False
    """The sender may give up: the answer ticket must be claimed first."""
    actual: int = 0
    """The thread that sent a propagated message (X.2: ActualSender)."""
    intended: int = 0
    """The addressee of a redirected message (X.2: IntendedReceiver)."""


def check(message: Message) -> None:
    """Raise ValueError when *message* is none that can be sent."""
    if not 0 <= message.label < 1 << LABEL_BITS:
        raise ValueError(f"label {message.label:#x} is not in 0..2**{LABEL_BITS}-1")
    count = len(message.words) + len(message.typed)
    if count > MAX_WORDS:
        raise ValueError(f"{count} words: a message has at most {MAX_WORDS}; send a string item")
    for word in message.words:
        if not 0 <= word < _WORD_LIMIT:
            raise ValueError(f"word {word} is not in 0..2**64-1")
    items = message.items
    if items and not (len(items) == 1 and type(items[0]) is bytes and len(items[0]) <= SHORT_STRING):
        check_items(items)


def check_items(items: Sequence[Item]) -> None:
    """Raise ValueError when *items* are too many, or one of them cannot be sent."""
    if len(items) > MAX_PARTS:
        raise ValueError(f"{len(items)} items: a message has at most {MAX_PARTS}")
    for item in items:
        if isinstance(item, _STRINGS) and len(item) > MAX_STRING:
            raise ValueError(
                f"a string item of {len(item)} bytes: at most {MAX_STRING}; share an extent instead"
            )
