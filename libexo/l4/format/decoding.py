"""Typed words, decoded into items."""

from collections.abc import Iterator, Sequence

from libexo.l4.format.items import (
    CtrlXferItem,
    GrantItem,
    IsCtrlXferItem,
    IsGrantItem,
    IsMapItem,
    Item,
    MapItem,
    check_length,
    ctrlxfer_length,
)
from libexo.l4.format.strings import IsStringItem, StringItem, string_end


def decode(typed: Sequence[int]) -> Iterator[Item]:
    """Yield the items of *typed*, the typed words of a message.

    Raises ValueError, naming the word, at the first item whose type is unknown or whose words are not all there;
    the items before it were yielded.
    """
    at = 0
    while at < len(typed):
        kind, end = _extent(typed, at)
        yield kind.of(typed[at:end])
        at = end


def _extent(typed: Sequence[int], at: int) -> tuple[type[Item], int]:
    """The kind of the item at *at*, and its end."""
    head = Item.of(typed[at : at + 1])
    if IsStringItem(head):
        return StringItem, string_end(typed, at)
    if IsMapItem(head):
        check_length(typed, at, 2, "map item")
        return MapItem, at + 2
    if IsGrantItem(head):
        check_length(typed, at, 2, "grant item")
        return GrantItem, at + 2
    if IsCtrlXferItem(head):
        length = ctrlxfer_length(head.words[0])
        check_length(typed, at, length, "control-register item")
        return CtrlXferItem, at + length
    raise ValueError(f"word {at}: {head.words[0]:#x} has item type {head.type:03b}, which X.2 has not")
