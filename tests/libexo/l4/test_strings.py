"""String items: simple, with substrings, compound, in chains, with cache hints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libexo import l4
from libexo.l4.format.strings import decode_strings

addresses = st.integers(0, (1 << 64) - 1)
lengths = st.integers(0, (1 << 54) - 1)
parts = st.lists(st.tuples(lengths, st.lists(addresses, min_size=1, max_size=32)), min_size=1, max_size=4)
HINTS = {
    "default": (l4.UseDefaultCacheAllocation, 0b00),
    "new lines": (l4.AllocateNewCacheLines, 0b01),
    "no lines": (l4.DoNotAllocateNewCacheLines, 0b10),
    "L1 lines": (l4.AllocateOnlyNewL1CacheLines, 0b11),
}


def build(described: list[tuple[int, list[int]]]) -> l4.StringItem:
    """A string with a descriptor for each length, and the addresses of its substrings."""
    made: l4.StringItem | None = None
    for length, (first, *others) in described:
        part = l4.StringItem(length, first)
        for address in others:
            part = l4.AddSubstringAddressTo(part, address)
        made = part if made is None else l4.AddSubstringTo(made, part)
    assert made is not None
    return made


def test_the_layout_of_a_simple_string() -> None:
    """Row "StringItem": type 0xx, j 0, c 0, the length from bit 10 on, then the address."""
    item = l4.StringItem(5, 0x7000)

    assert item.words == (5 << 10, 0x7000)
    assert l4.IsStringItem(item)
    assert not l4.CompoundString(item)
    assert l4.Substrings(item) == 1


def test_the_layout_of_substrings() -> None:
    """Row "StringItem", bits 8..4: substrings minus one; every address follows, each of the one length."""
    item = l4.AddSubstringAddressTo(l4.AddSubstringAddressTo(l4.StringItem(5, 0x10), 0x20), 0x30)

    assert item.words == (5 << 10 | 2 << 4, 0x10, 0x20, 0x30)
    assert [l4.Substring(item, n) for n in range(1, l4.Substrings(item) + 1)] == [0x10, 0x20, 0x30]
    assert item.size == 15


def test_the_layout_of_a_compound_string() -> None:
    """Row "StringItem", bit 9: another descriptor of the same string follows directly."""
    item = l4.AddSubstringTo(l4.StringItem(5, 0x10), l4.StringItem(7, 0x20))

    assert item.words == (5 << 10 | 1 << 9, 0x10, 7 << 10, 0x20)
    assert l4.CompoundString(item)
    assert list(item.pieces()) == [(0x10, 5), (0x20, 7)]


@given(parts)
def test_pieces_are_in_order(described: list[tuple[int, list[int]]]) -> None:
    """Row "StringItem": the pieces are every substring of every descriptor, in order, with its length."""
    item = build(described)

    assert list(item.pieces()) == [(address, length) for length, several in described for address in several]
    assert item.size == sum(length * len(several) for length, several in described)


@given(st.lists(parts, min_size=1, max_size=3))
def test_a_chain_comes_apart_again(chain: list[list[tuple[int, list[int]]]]) -> None:
    """Bit 0, C: strings follow one another as long as it is set in the first word of one."""
    made = [build(one) for one in chain]
    linked = [item.with_more(more=item is not made[-1]) for item in made]
    run = [word for item in linked for word in item.words]

    assert list(decode_strings([*run, 0xDEAD, 0xBEEF])) == linked


def test_a_chain_without_an_end() -> None:
    """A chain whose last string says that another follows is an error that names the word."""
    with pytest.raises(ValueError, match="word 2: another string descriptor should be here"):
        list(decode_strings(l4.StringItem(1, 0).with_more(more=True).words))


def test_a_chain_holds_strings_only() -> None:
    """A map item where a string should be is an error that names the word."""
    run = [*l4.StringItem(1, 0).with_more(more=True).words, *l4.MapItem(l4.Nilpage, 0).words]

    with pytest.raises(ValueError, match=r"word 2: 0x8 continues a string, but is no string descriptor"):
        list(decode_strings(run))


def test_a_compound_string_goes_on_with_strings_only() -> None:
    """A compound string whose next descriptor is a map item is no string."""
    broken = l4.StringItem.of((1 << 9, 0, 0b1000, 0))

    with pytest.raises(ValueError, match="word 2: 0x8 continues a string"):
        list(broken.pieces())


def test_at_most_32_substrings() -> None:
    """Row "StringItem", bits 8..4: a descriptor has 32 substrings, and a further one is refused."""
    item = l4.StringItem(1, 0)
    for address in range(1, 32):
        item = l4.AddSubstringAddressTo(item, address)

    assert l4.Substrings(item) == 32
    with pytest.raises(ValueError, match="at most 32 substrings"):
        l4.AddSubstringAddressTo(item, 32)


@pytest.mark.parametrize("n", [0, 2])
def test_substrings_count_from_1(n: int) -> None:
    """Substring(s, n) is for n from 1 to Substrings(s)."""
    with pytest.raises(ValueError, match=f"substring {n} is not in"):
        l4.Substring(l4.StringItem(1, 0), n)


@pytest.mark.parametrize("length", [-1, 1 << 54])
def test_lengths_that_do_not_fit(length: int) -> None:
    """Row "StringItem", bits 63..10: a length has 54 bits."""
    with pytest.raises(ValueError, match="length of a string"):
        l4.StringItem(length, 0)


@pytest.mark.parametrize("name", HINTS)
def test_cache_hints(name: str) -> None:
    """Row "StringItem", bits 2..1: each hint is put there and read back, in place of the one before."""
    hint, bits = HINTS[name]
    item = l4.AddCacheAllocationHint(l4.StringItem(5, 0), hint)

    assert item.words[0] == 5 << 10 | bits << 1
    assert l4.CacheAlloctionHint(item) == hint
    assert l4.IsStringItem(item)
    assert l4.AddCacheAllocationHintTo(item, l4.AllocateNewCacheLines).words[0] == 5 << 10 | 0b01 << 1


def test_comparing_hints() -> None:
    """Hints are equal when they are the same."""
    assert l4.IsCacheAllocationHintEqual(l4.AllocateNewCacheLines, l4.AllocateNewCacheLines)
    assert l4.IsCacheAllocationHintNotEqual(l4.AllocateNewCacheLines, l4.UseDefaultCacheAllocation)
