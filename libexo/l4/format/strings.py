"""String items: bytes that a message carries, and the buffers that receive them.

A string is described by words. Bits 2..1 of the first are the cache hint, bits 8..4 the number of substrings
minus one (j), bit 9 (c) means that another descriptor of the same string follows, bits 63..10 are the length of
*each* substring; then come j+1 addresses. A string of several descriptors is *compound*: its parts may be of
different lengths. Bit 0 of its first word, C, means that another string follows it.
"""

from collections.abc import Iterator, Sequence
from typing import Self

from libexo.l4.format.items import MORE, TYPE_AT, Item, check_length
from libexo.l4.format.words import WORD_BITS, within, word

__all__ = [
    "AddCacheAllocationHint",
    "AddCacheAllocationHintTo",
    "AddSubstringAddressTo",
    "AddSubstringTo",
    "AllocateNewCacheLines",
    "AllocateOnlyNewL1CacheLines",
    "CacheAllocationHint",
    "CacheAlloctionHint",
    "CompoundString",
    "DoNotAllocateNewCacheLines",
    "IsCacheAllocationHintEqual",
    "IsCacheAllocationHintNotEqual",
    "IsStringItem",
    "StringItem",
    "Substring",
    "Substrings",
    "UseDefaultCacheAllocation",
]

_STRING_BIT = 0b100
"""Clear in the type of a string."""
_J_AT = 4
_J_MASK = 0x1F
_COMPOUND = 1 << 9
_LENGTH_AT = 10
_LENGTH_MAX = (1 << WORD_BITS - _LENGTH_AT) - 1


class CacheAllocationHint(int):
    """What the processor's caches should do with a string, at its place in the item: bits 2..1."""

    __slots__ = ()


UseDefaultCacheAllocation = CacheAllocationHint(0b00 << TYPE_AT)
AllocateNewCacheLines = CacheAllocationHint(0b01 << TYPE_AT)
DoNotAllocateNewCacheLines = CacheAllocationHint(0b10 << TYPE_AT)
AllocateOnlyNewL1CacheLines = CacheAllocationHint(0b11 << TYPE_AT)
_HINT = 0b11 << TYPE_AT


class StringItem(Item):
    """A string to send, or a buffer to receive one: `StringItem(size, address)` is in one piece."""

    __slots__ = ()

    def __new__(cls, size: int, address: int) -> Self:
        length = within(size, 0, _LENGTH_MAX, "length of a string")
        return cls.of((length << _LENGTH_AT, word(address, "address")))

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Yield address and length of every substring, in order. Raises ValueError as `decode` does."""
        for at in _descriptors(self.words, 0):
            head = self.words[at]
            for address in self.words[at + 1 : at + 2 + _j(head)]:
                yield address, head >> _LENGTH_AT

    @property
    def size(self) -> int:
        """Bytes of all substrings together."""
        return sum(length for _, length in self.pieces())


def _j(head: int) -> int:
    return head >> _J_AT & _J_MASK


def _descriptors(run: Sequence[int], at: int) -> Iterator[int]:
    """Yield the place in *run* of each descriptor of the string at *at*. Raises ValueError at a malformed one."""
    compound = True
    while compound:
        if at >= len(run):
            raise ValueError(f"word {at}: another string descriptor should be here, but no words are left")
        head = run[at]
        if head >> TYPE_AT & _STRING_BIT:
            raise ValueError(f"word {at}: {head:#x} continues a string, but is no string descriptor")
        check_length(run, at, 2 + _j(head), "string descriptor")
        yield at
        at += 2 + _j(head)
        compound = bool(head & _COMPOUND)


def string_end(run: Sequence[int], at: int) -> int:
    """Return the end of the string at word *at* of *run*. Raises ValueError as `decode` does."""
    last = list(_descriptors(run, at))[-1]
    return last + 2 + _j(run[last])


def simple(s: StringItem) -> StringItem:
    """Return the first substring of *s* as a string of its own. Raises ValueError when *s* is not a string."""
    string_end(s.words, 0)
    return StringItem.of((s.words[0] & ~(_J_MASK << _J_AT | _COMPOUND), s.words[1]))


def IsStringItem(s: Item) -> bool:
    """Say whether *s* is a string item."""
    return not s.type & _STRING_BIT


def CompoundString(s: StringItem) -> bool:
    """Say whether *s* has more than one descriptor."""
    return bool(s.words[0] & _COMPOUND)


def Substrings(s: StringItem) -> int:
    """Return the number of substrings of the first descriptor of *s*."""
    return _j(s.words[0]) + 1


def Substring(s: StringItem, n: int) -> int:
    """Return the address of substring *n* of the first descriptor of *s*, counted from 1. Raises ValueError."""
    return s.words[within(n, 1, Substrings(s), "substring")]


def AddSubstringTo(dest: StringItem, substring: StringItem) -> StringItem:
    """Return *dest* with the descriptors of *substring* behind its own: assign it, items do not change.

    Raises ValueError when one of them is not a string.
    """
    last = list(_descriptors(dest.words, 0))[-1]
    head, end = dest.words[last] | _COMPOUND, string_end(substring.words, 0)
    return StringItem.of((*dest.words[:last], head, *dest.words[last + 1 :], *substring.words[:end]))


def AddSubstringAddressTo(dest: StringItem, address: int) -> StringItem:
    """Return *dest* with one more substring, as long as the others of its last descriptor: assign it.

    Raises ValueError when that descriptor has 32 already.
    """
    last = list(_descriptors(dest.words, 0))[-1]
    j = _j(dest.words[last])
    if j == _J_MASK:
        raise ValueError(f"a string descriptor has at most {_J_MASK + 1} substrings")
    head = dest.words[last] + (1 << _J_AT)
    return StringItem.of((*dest.words[:last], head, *dest.words[last + 1 :], word(address, "address")))


def CacheAlloctionHint(s: StringItem) -> CacheAllocationHint:
    """Return the cache hint of *s*. X.2's headers spell the name so, and it is kept."""
    return CacheAllocationHint(s.words[0] & _HINT)


def AddCacheAllocationHint(dest: StringItem, h: CacheAllocationHint) -> StringItem:
    """Return *dest* with hint *h* in place of its own.

    The headers of L4Ka::Pistachio have the hints of x86 as 1, 2, 3, not shifted to their place, and so add
    other hints than asked for; and there one hint added to another makes a third.
    """
    return StringItem.of((dest.words[0] & ~_HINT | h & _HINT, *dest.words[1:]))


def AddCacheAllocationHintTo(dest: StringItem, h: CacheAllocationHint) -> StringItem:
    """Return *dest* with hint *h* in place of its own: assign it, items do not change."""
    return AddCacheAllocationHint(dest, h)


def IsCacheAllocationHintEqual(left: CacheAllocationHint, right: CacheAllocationHint) -> bool:
    """Say whether two hints are the same."""
    return left == right


def IsCacheAllocationHintNotEqual(left: CacheAllocationHint, right: CacheAllocationHint) -> bool:
    """Say whether two hints differ."""
    return left != right


def decode_strings(run: Sequence[int]) -> Iterator[StringItem]:
    """Yield the strings of a chain: *run* begins with one, and C tells whether another follows.

    Buffer registers hold such a chain. Raises ValueError as `decode` does, also at an item of another type.
    """
    at, more = 0, True
    while more:
        end = string_end(run, at)
        yield StringItem.of(run[at:end])
        at, more = end, bool(run[at] & MORE)
