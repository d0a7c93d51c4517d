"""Messages of a gate beside traps: the status of an answer, upcalls, attaching."""

from enum import IntEnum
from typing import Annotated

import msgspec

from kernel.abi.limits import MAX_NAME

Word = Annotated[int, msgspec.Meta(ge=0)]
Small = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
MAX_SECRET = 64
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises; also for strings that are not UTF-8, and for arrays nested too deep."""


class Status(IntEnum):
    """The first byte of everything the kernel sends through a gate."""

    DONE = 0
    """The result of the trap follows."""
    REFUSED = 1
    """A `Refused` follows."""
    UPCALL = 2
    """Not an answer: an `Upcall` follows."""


class Record(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A positional record; unknown or missing fields are an error."""


class Refused(Record):
    """The reason why a trap was not done."""

    refusal: int
    detail: str


class Upcall(Record):
    """A message from a kernel thread: `sender` is its thread id, `label` one of `messages.Label`.

    `thread` is the thread it is for; 0: the environment as a whole, so its first thread.
    """

    sender: Word
    label: Word
    words: tuple[Word, ...] = ()
    text: str = ""
    thread: Word = 0


class Attach(Record):
    """The first packet of a program that was started elsewhere and connects to the gate by itself."""

    name: Name
    """The server of the topology it is to be, or a free name for a plain program."""
    secret: Annotated[bytes, msgspec.Meta(max_length=MAX_SECRET)] = b""
    """The operators' secret, if it can read that: `kernel.abi.operators` says which programs need it."""

    def __repr__(self) -> str:
        """Show all but the secret, as this may be logged."""
        return f"Attach(name={self.name!r})"
