"""Acceptor and receive buffers: what a thread will receive besides untyped words.

The acceptor is BR0: bit 0 (s) string items, bit 1 (c) control registers, bits 63..4 the receive window for map
and grant items, an fpage without its rights; no window, no mappings. BR1 to BR32 hold the buffers for strings:
string items, chained by C. The n-th string item of a message goes to the n-th of them.
"""

from collections.abc import Sequence
from typing import Self

from libexo.l4.format.fpage import Fpage
from libexo.l4.format.registers import NUM_BRS, LoadBR, LoadBRs, StoreBR
from libexo.l4.format.strings import StringItem, decode_strings, simple, string_end
from libexo.l4.format.words import word

__all__ = [
    "Accept",
    "AcceptStrings",
    "Accepted",
    "Acceptor",
    "AddAcceptor",
    "AddAcceptorTo",
    "CtrlXferAcceptor",
    "HasMapGrantItems",
    "HasStringItems",
    "MapGrantItems",
    "MsgBuffer",
    "MsgBufferAppendRcvString",
    "MsgBufferAppendSimpleRcvString",
    "MsgBufferClear",
    "RcvWindow",
    "RemoveAcceptor",
    "RemoveAcceptorFrom",
    "StringItemsAcceptor",
    "UntypedWordsAcceptor",
]

_S = 1 << 0
_C = 1 << 1
_LOW = 0xF


class Acceptor(int):
    """An acceptor: `Acceptor(word)`. ``a + b`` and ``a - b`` are AddAcceptor and RemoveAcceptor, as in C++."""

    __slots__ = ()

    def __new__(cls, raw: int) -> Self:
        """Take word *raw*. Raises ValueError when it is not a word."""
        return super().__new__(cls, word(raw, "acceptor"))

    @property
    def s(self) -> bool:
        """String items are accepted."""
        return bool(self & _S)

    @property
    def c(self) -> bool:
        """Control registers are accepted."""
        return bool(self & _C)

    @property
    def window(self) -> Fpage:
        """The receive window; nil accepts no map or grant item."""
        return Fpage.of(self & ~_LOW)

    def __add__(self, other: int) -> "Acceptor":
        """Return the acceptor of all that either accepts."""
        return AddAcceptor(self, Acceptor(other))

    def __sub__(self, other: int) -> "Acceptor":
        """Return the acceptor of all that this one accepts and *other* does not."""
        return RemoveAcceptor(self, Acceptor(other))

    def __repr__(self) -> str:
        """Show what is accepted."""
        return f"<Acceptor s={self.s:d} c={self.c:d} window={self.window!r}>"


UntypedWordsAcceptor = Acceptor(0)
StringItemsAcceptor = Acceptor(_S)
CtrlXferAcceptor = Acceptor(_C)


def MapGrantItems(RcvWindow: Fpage) -> Acceptor:
    """Return the acceptor of map and grant items into *RcvWindow*, whose rights do not count.

    The headers of L4Ka::Pistachio keep bit 1, so that a window with the right to write accepts control
    registers.
    """
    return Acceptor(RcvWindow & ~_LOW)


def AddAcceptor(left: Acceptor, right: Acceptor) -> Acceptor:
    """Return the acceptor of all that either accepts; of two windows, the right one's.

    The headers of L4Ka::Pistachio lose the bit of control registers here.
    """
    window = right & ~_LOW or left & ~_LOW
    return Acceptor(window | (left | right) & (_S | _C))


def AddAcceptorTo(left: Acceptor, right: Acceptor) -> Acceptor:
    """Return `AddAcceptor` of both: assign it, acceptors do not change."""
    return AddAcceptor(left, right)


def RemoveAcceptor(left: Acceptor, right: Acceptor) -> Acceptor:
    """Return *left* without the kinds that *right* accepts; any window in *right* takes the window away."""
    kept = left & (_S | _C) & ~right
    return Acceptor(kept if right & ~_LOW else kept | left & ~_LOW)


def RemoveAcceptorFrom(left: Acceptor, right: Acceptor) -> Acceptor:
    """Return `RemoveAcceptor` of both: assign it, acceptors do not change."""
    return RemoveAcceptor(left, right)


def HasStringItems(a: Acceptor) -> bool:
    """Say whether *a* accepts string items."""
    return a.s


def HasMapGrantItems(a: Acceptor) -> bool:
    """Say whether *a* accepts map and grant items."""
    return bool(a & ~_LOW)


def RcvWindow(a: Acceptor) -> Fpage:
    """Return the receive window of *a*, without rights."""
    return a.window


# ------------------------------------------------------------------------------------------------ receive buffers


class MsgBuffer:
    """Buffers for the strings of a message, as BR1 to BR32 will hold them."""

    __slots__ = ("strings",)

    def __init__(self) -> None:
        """Be empty."""
        self.strings: list[StringItem] = []

    @property
    def words(self) -> tuple[int, ...]:
        """The chain: C is set in all but the last. No buffers are one of no length, which any string overflows."""
        strings = self.strings or [StringItem(0, 0)]
        last = len(strings) - 1
        return tuple(w for at, s in enumerate(strings) for w in s.with_more(more=at < last).words)

    def append(self, s: StringItem) -> None:
        """Add a buffer. Raises ValueError, and adds none, when it is malformed or does not fit."""
        if string_end(s.words, 0) != len(s.words):
            raise ValueError(f"{s!r} has words beyond its descriptors")
        used = sum(len(one.words) for one in self.strings)
        if used + len(s.words) > NUM_BRS - 1:
            raise ValueError(f"{len(s.words)} words, and {used} of {NUM_BRS - 1} buffer registers are used")
        self.strings.append(s)


def MsgBufferClear(b: MsgBuffer) -> None:
    """Remove all buffers."""
    b.strings.clear()


def MsgBufferAppendSimpleRcvString(b: MsgBuffer, s: StringItem) -> None:
    """Add the first substring of *s* as a buffer. Raises ValueError when it does not fit."""
    b.append(simple(s))


def MsgBufferAppendRcvString(b: MsgBuffer, s: StringItem) -> None:
    """Add *s*, compound or not, as a buffer. Raises ValueError when it does not fit."""
    b.append(s)


def Accept(a: Acceptor) -> None:
    """Make *a* the calling thread's acceptor."""
    LoadBR(0, a)


def AcceptStrings(a: Acceptor, b: MsgBuffer) -> None:
    """Make *a* the calling thread's acceptor and *b* its receive buffers."""
    LoadBR(0, a)
    LoadBRs(1, b.words)


def Accepted() -> Acceptor:
    """Return the calling thread's acceptor."""
    return Acceptor(StoreBR(0))


def buffers(registers: Sequence[int]) -> tuple[StringItem, ...]:
    """Return the string buffers that 33 buffer registers describe; none when the acceptor takes no strings.

    Raises ValueError, naming the word counted from BR1, when the chain leaves the registers or holds another item.
    """
    if not Acceptor(registers[0]).s:
        return ()
    try:
        return tuple(decode_strings(registers[1:]))
    except ValueError as error:
        raise ValueError(f"buffer registers from BR1 on: {error}") from None
