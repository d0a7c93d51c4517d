"""What threads send each other: a label, up to 63 words, and items (strings and capabilities)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kernel.abi.limits import MAX_STRING, MAX_WORDS
from kernel.abi.messages import LABEL_BITS
from kernel.abi.rights import MAP_READ

if TYPE_CHECKING:
    from libexo.exchange import Peer

_WORD_LIMIT = 1 << 64


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


Item = bytes | MapItem | GrantItem


@dataclass(slots=True)
class Message:
    """A message: *label* (48 bits), *words* (at most 63 of 64 bits), *items* (bytes are string items)."""

    label: int = 0
    words: tuple[int, ...] = ()
    items: tuple[Item, ...] = ()
    origin: "Origin | None" = field(default=None, compare=False, repr=False)
    """Where a received message came from, so that it can be answered; not part of its value."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The way back to the sender of a received message."""

    peer: "Peer | None"
    """None: a message of the kernel."""
    sender: int
    sequence: int
    answers: bool
    """The sender waits for an answer."""
    timed: bool = False
    """The sender may withdraw it: its ticket must be claimed first."""


def check(message: Message) -> None:
    """Raise ValueError when *message* is none that can be sent."""
    if not 0 <= message.label < 1 << LABEL_BITS:
        raise ValueError(f"label {message.label:#x} is not in 0..2**{LABEL_BITS}-1")
    if len(message.words) > MAX_WORDS:
        raise ValueError(f"{len(message.words)} words: a message has at most {MAX_WORDS}; send a string item")
    for word in message.words:
        if not 0 <= word < _WORD_LIMIT:
            raise ValueError(f"word {word} is not in 0..2**64-1")
    if message.items:
        check_items(message.items)


def check_items(items: Sequence[Item]) -> None:
    """Raise ValueError when one of *items* cannot be sent."""
    for item in items:
        if isinstance(item, bytes | bytearray | memoryview) and len(item) > MAX_STRING:
            raise ValueError(
                f"a string item of {len(item)} bytes: at most {MAX_STRING}; share an extent instead"
            )
