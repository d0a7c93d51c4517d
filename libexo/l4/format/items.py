"""Typed items: the parts of a message besides plain words.

An item is a run of words. Bits 3..1 of the first give its type: 0hh string (hh is the cache hint), 100 map,
101 grant, 110 control registers; bit 0, C, says that more items of the kind follow.

- Map, grant: bits 63..10 send base / 1024; then the fpage, with rights.
- Control registers: bits 11..4 the group, bits 63..12 the mask; then a value for each bit of the mask.

Strings are in `libexo.l4.format.strings`. Items are immutable, and equal when their words are. `decode` takes typed
words apart and yields well-formed items; `Item.of` takes any words, as `MsgGetMapItem` does, so a program
asks `IsMapItem` before it relies on one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from libexo.l4.format.fpage import Fpage
from libexo.l4.format.words import WORD_BITS, WORD_MASK, within, word, words

__all__ = [
    "CtrlXferItem",
    "CtrlXferItemInit",
    "GrantItem",
    "GrantItemSndBase",
    "GrantItemSndFpage",
    "IsCtrlXferItem",
    "IsGrantItem",
    "IsMapItem",
    "Item",
    "MapItem",
    "MapItemSndBase",
    "MapItemSndFpage",
]

MORE = 1
TYPE_AT = 1
_TYPE_MASK = 0b111
MAP = 0b100
GRANT = 0b101
CTRLXFER = 0b110
_BASE_MASK = WORD_MASK & ~((1 << 10) - 1)

_GROUP_AT = 4
_GROUP_MAX = 0xFF
_MASK_AT = 12
_MASK_BITS = WORD_BITS - _MASK_AT


class Item:
    """A run of words that is one typed item."""

    __slots__ = ("words",)

    words: tuple[int, ...]

    @classmethod
    def of(cls, raw: Sequence[int]) -> Self:
        """Return the item of just these words, whatever they mean. Raises ValueError."""
        if not raw:
            raise ValueError("an item has at least one word")
        item = object.__new__(cls)
        object.__setattr__(item, "words", tuple(words(raw, "word of an item")))
        return item

    @property
    def type(self) -> int:
        """Bits 3..1 of the first word."""
        return self.words[0] >> TYPE_AT & _TYPE_MASK

    @property
    def more(self) -> bool:
        """C: more items of this kind follow."""
        return bool(self.words[0] & MORE)

    def with_more(self, *, more: bool) -> Self:
        """Return the item with C set as *more* says."""
        return self.of((self.words[0] & ~MORE | more, *self.words[1:]))

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: an item may be in several messages."""
        raise AttributeError(f"items do not change: {name} cannot be set")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Item) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)

    def __reduce__(self) -> tuple[object, tuple[tuple[int, ...]]]:
        """Be copied from the words."""
        return type(self).of, (self.words,)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' '.join(map(hex, self.words))}>"


# ------------------------------------------------------------------------------------------------- map and grant


class _Transfer(Item):
    """Common part of map and grant items: a send base and an fpage."""

    __slots__ = ()

    @property
    def snd_base(self) -> int:
        """Offset in the larger of the two fpages, the sent one and the window, at which the smaller one lies."""
        return self.words[0] & _BASE_MASK

    @property
    def snd_fpage(self) -> Fpage:
        """The fpage that is sent, with the rights to give."""
        return Fpage.of(self.words[1])


class MapItem(_Transfer):
    """`MapItem(f, SndBase)`: map *f* to the receiver and keep it. The base is cut to a multiple of 1024."""

    __slots__ = ()

    def __new__(cls, f: Fpage, SndBase: int) -> Self:
        return cls.of((word(SndBase, "send base") & _BASE_MASK | MAP << TYPE_AT, f))


class GrantItem(_Transfer):
    """`GrantItem(f, SndBase)`: move *f* to the receiver. The base is cut to a multiple of 1024."""

    __slots__ = ()

    def __new__(cls, f: Fpage, SndBase: int) -> Self:
        return cls.of((word(SndBase, "send base") & _BASE_MASK | GRANT << TYPE_AT, f))


def IsMapItem(m: Item) -> bool:
    """Say whether *m* is a map item."""
    return m.type == MAP


def MapItemSndFpage(m: MapItem) -> Fpage:
    """Return the fpage *m* maps."""
    return m.snd_fpage


def MapItemSndBase(m: MapItem) -> int:
    """Return the send base of *m*."""
    return m.snd_base


def IsGrantItem(g: Item) -> bool:
    """Say whether *g* is a grant item."""
    return g.type == GRANT


def GrantItemSndFpage(g: GrantItem) -> Fpage:
    """Return the fpage *g* grants."""
    return g.snd_fpage


def GrantItemSndBase(g: GrantItem) -> int:
    """Return the send base of *g*."""
    return g.snd_base


# --------------------------------------------------------------------------------------------- control registers


class CtrlXferItem(Item):
    """Values for control registers: `CtrlXferItem(id, {register: value})`, of the group *id* (0..255)."""

    __slots__ = ()

    def __new__(cls, id: int, registers: Mapping[int, int]) -> Self:  # noqa: A002 - X.2's name
        return cls.of((ctrlxfer_head(id, registers), *(registers[r] for r in sorted(registers))))

    @property
    def id(self) -> int:
        """The register group."""
        return self.words[0] >> _GROUP_AT & _GROUP_MAX

    @property
    def mask(self) -> int:
        """One bit for each register that has a value."""
        return self.words[0] >> _MASK_AT

    @property
    def registers(self) -> dict[int, int]:
        """The values, by number of the register."""
        present = [number for number in range(_MASK_BITS) if self.mask >> number & 1]
        return dict(zip(present, self.words[1:], strict=True))


def ctrlxfer_head(group: int, registers: Iterable[int]) -> int:
    """Return the first word of a control-register item: *group* (0..255), and which *registers* (0..51) follow."""
    mask = 0
    for number in registers:
        mask |= 1 << within(number, 0, _MASK_BITS - 1, "control register")
    group = within(group, 0, _GROUP_MAX, "register group")
    return mask << _MASK_AT | group << _GROUP_AT | CTRLXFER << TYPE_AT


def ctrlxfer_length(head: int) -> int:
    """Return the length in words of the control-register item whose first word is *head*."""
    return 1 + (head >> _MASK_AT).bit_count()


def IsCtrlXferItem(c: Item) -> bool:
    """Say whether *c* holds control registers."""
    return c.type == CTRLXFER


def CtrlXferItemInit(id: int) -> CtrlXferItem:  # noqa: A002 - X.2's name
    """Return an item of group *id* without any register."""
    return CtrlXferItem(id, {})


def check_length(run: Sequence[int], at: int, length: int, what: str) -> None:
    """Raise ValueError when *run* has fewer than *length* words from word *at* on."""
    if at + length > len(run):
        raise ValueError(f"word {at}: a {what} of {length} words, but {len(run) - at} are left")
