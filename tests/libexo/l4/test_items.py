"""Map, grant and control-register items, and typed words taken apart."""

import copy
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libexo import l4
from libexo.l4.format.decoding import decode

words = st.integers(0, (1 << 64) - 1)
pages = words.map(l4.Fpage.of)
addresses = words


@st.composite
def strings(draw: st.DrawFn) -> l4.StringItem:
    """A string of one to three descriptors with one to four substrings each, and any hint."""
    made: l4.StringItem | None = None
    for _ in range(draw(st.integers(1, 3))):
        part = l4.StringItem(draw(st.integers(0, 1 << 22)), draw(addresses))
        for address in draw(st.lists(addresses, max_size=3)):
            part = l4.AddSubstringAddressTo(part, address)
        made = part if made is None else l4.AddSubstringTo(made, part)
    assert made is not None
    return l4.AddCacheAllocationHint(made, l4.CacheAllocationHint(draw(st.sampled_from([0, 2, 4, 6]))))


ctrlxfers = st.builds(
    l4.CtrlXferItem, st.integers(0, 255), st.dictionaries(st.integers(0, 51), words, max_size=8)
)
items = st.one_of(
    st.builds(l4.MapItem, pages, words), st.builds(l4.GrantItem, pages, words), strings(), ctrlxfers
)


def run_of(several: list[l4.Item]) -> list[int]:
    """The words of *several* items, one after another."""
    return [word for item in several for word in item.words]


def outcome(run: list[int]) -> tuple[list[l4.Item], str]:
    """The items that *run* begins with, and the error that ended it, if one did."""
    found: list[l4.Item] = []
    try:
        found.extend(decode(run))
    except ValueError as error:
        return found, str(error)
    return found, ""


def test_the_layout_of_map_and_grant_items() -> None:
    """Rows "MapItem", "GrantItem": type 100 and 101 in bits 3..1, the send base in 63..10, then the fpage."""
    page = l4.Fpage(0x8000, 4096) + l4.Readable

    assert l4.MapItem(page, 0x5000).words == (0x5000 | 0b1000, page)
    assert l4.GrantItem(page, 0x5000).words == (0x5000 | 0b1010, page)


@given(pages, words)
def test_map_items_come_apart_again(page: l4.Fpage, base: int) -> None:
    """Row "MapItem": the fpage with its rights and the send base, in units of 1024, are read back."""
    item = l4.MapItem(page, base)

    assert l4.MapItemSndFpage(item) == page
    assert l4.MapItemSndBase(item) == base - base % 1024
    assert l4.IsMapItem(item)
    assert not l4.IsGrantItem(item)
    assert not l4.IsStringItem(item)


@given(pages, words)
def test_grant_items_come_apart_again(page: l4.Fpage, base: int) -> None:
    """Row "GrantItem": as a map item, of its own type."""
    item = l4.GrantItem(page, base)

    assert l4.GrantItemSndFpage(item) == page
    assert l4.GrantItemSndBase(item) == base - base % 1024
    assert l4.IsGrantItem(item)
    assert not l4.IsMapItem(item)


def test_the_layout_of_a_ctrlxfer_item() -> None:
    """Row "CtrlXferItem": type 110, group in bits 11..4, mask from bit 12 on, values in order of the mask."""
    item = l4.CtrlXferItem(3, {5: 0x55, 0: 0x11})

    assert item.words == (0b10_0001 << 12 | 3 << 4 | 0b1100, 0x11, 0x55)
    assert l4.IsCtrlXferItem(item)
    assert l4.CtrlXferItemInit(3).words == (3 << 4 | 0b1100,)


@given(st.integers(0, 255), st.dictionaries(st.integers(0, 51), words))
def test_ctrlxfer_items_come_apart_again(group: int, registers: dict[int, int]) -> None:
    """Row "CtrlXferItem": group and values are read back by the number of the register."""
    item = l4.CtrlXferItem(group, registers)

    assert (item.id, item.registers) == (group, registers)


@pytest.mark.parametrize(("group", "register"), [(256, 0), (-1, 0), (0, 52), (0, -1)])
def test_registers_that_do_not_exist(group: int, register: int) -> None:
    """Row "CtrlXferItem": a group has 8 bits and the mask 52."""
    with pytest.raises(ValueError, match="register"):
        l4.CtrlXferItem(group, {register: 1})


@given(items, st.booleans())
def test_c_is_bit_0_and_nothing_else(item: l4.Item, more: bool) -> None:  # noqa: FBT001 - drawn
    """Bit 0, C: setting it changes neither the type nor any other bit."""
    changed = item.with_more(more=more)

    assert changed.more == more
    assert changed.words == (item.words[0] & ~1 | more, *item.words[1:])


@given(st.lists(items, max_size=6))
def test_typed_words_come_apart_again(several: list[l4.Item]) -> None:
    """Any sequence of items is decoded from its words: the same items, of the same kinds, in order."""
    found = list(decode(run_of(several)))

    assert found == several
    assert [type(item) for item in found] == [type(item) for item in several]


@given(st.lists(items, max_size=3), st.data())
def test_what_was_cut_is_refused(several: list[l4.Item], data: st.DataObject) -> None:
    """With words missing from the last item, the items before it are found, and the error names the word."""
    last = data.draw(items.filter(lambda item: len(item.words) > 1))
    kept = data.draw(st.integers(1, len(last.words) - 1))
    run = [*run_of(several), *last.words[:kept]]

    found, error = outcome(run)

    assert found == several
    assert re.match(r"word \d+: .* left", error)


@given(st.lists(items, max_size=3), words)
def test_an_unknown_type_is_refused(several: list[l4.Item], raw: int) -> None:
    """Type 111 is none: the items before it are found, and the error names the word."""
    run = [*run_of(several), raw | 0b1110]

    found, error = outcome(run)

    assert found == several
    assert re.match(f"word {len(run) - 1}: .* has item type 111, which X.2 has not", error)


@given(st.lists(words, max_size=63))
def test_hostile_words_are_items_or_refused(run: list[int]) -> None:
    """Any words at all decode to items that are those very words, or raise ValueError; nothing else happens."""
    found, error = outcome(run)
    whole = run_of(found)

    assert whole == run[: len(whole)]
    assert (len(whole) == len(run)) == (not error)


def test_items_do_not_change() -> None:
    """An item may be in several messages, so nothing of it can be set; equal words are equal items."""
    item = l4.MapItem(l4.Fpage(0, 4096), 0)

    with pytest.raises(AttributeError, match="do not change"):
        item.words = (0, 0)
    assert item == l4.MapItem(l4.Fpage(0, 4096), 0) != l4.GrantItem(l4.Fpage(0, 4096), 0)
    assert len({item, copy.deepcopy(item)}) == 1


def test_an_item_of_no_words_is_none() -> None:
    """An item has at least its first word."""
    with pytest.raises(ValueError, match="at least one word"):
        l4.MapItem.of(())
