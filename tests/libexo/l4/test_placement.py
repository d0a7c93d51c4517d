"""Map and grant items: what of the sent fpage lands where in the window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libexo import l4
from libexo.l4.space.landing import Placement, Span, place, span

MIB = 1 << 20
END = 1 << 64
logs = st.integers(10, 64)
words = st.integers(0, END - 1)


@pytest.mark.parametrize(
    ("fpage", "expected"),
    [
        (l4.Nilpage, (0, 0)),
        (l4.CompleteAddressSpace, (0, END)),
        (l4.Fpage(MIB, 4096), (MIB, MIB + 4096)),
        (l4.IoFpage(0, 16), (0, 0)),
    ],
)
def test_what_an_fpage_covers(fpage: l4.Fpage, expected: tuple[int, int]) -> None:
    """A nil fpage and one of ports cover no memory; the complete address space all of it."""
    assert span(fpage) == expected


@pytest.mark.parametrize(
    ("sent", "base", "window", "expected"),
    [
        # equal sizes: the send base means nothing
        (l4.Fpage(MIB, 4096), 0x5000, l4.Fpage(2 * MIB, 4096), ((MIB, 4096), 2 * MIB)),
        # smaller than the window: the send base selects the place inside the window
        (l4.Fpage(MIB, 4096), 0x3000, l4.Fpage(2 * MIB, 0x10000), ((MIB, 4096), 2 * MIB + 0x3000)),
        (l4.Fpage(MIB, 8192), 0x3000, l4.Fpage(2 * MIB, 0x10000), ((MIB, 8192), 2 * MIB + 0x2000)),
        (l4.Fpage(MIB, 4096), 0x13000, l4.Fpage(2 * MIB, 0x10000), ((MIB, 4096), 2 * MIB + 0x3000)),
        # into the complete address space: the send base is the address
        (l4.Fpage(MIB, 4096), 0x7000, l4.CompleteAddressSpace, ((MIB, 4096), 0x7000)),
        # larger than the window: the send base selects the part that is sent
        (l4.Fpage(MIB, 0x10000), 0x3000, l4.Fpage(2 * MIB, 4096), ((MIB + 0x3000, 4096), 2 * MIB)),
        (l4.Fpage(MIB, 0x10000), 0x13400, l4.Fpage(2 * MIB, 4096), ((MIB + 0x3000, 4096), 2 * MIB)),
        (l4.CompleteAddressSpace, 0x7000, l4.Fpage(2 * MIB, 4096), ((0x7000, 4096), 2 * MIB)),
        (l4.CompleteAddressSpace, 0x7000, l4.CompleteAddressSpace, ((0, END), 0)),
    ],
)
def test_where_it_lands(
    sent: l4.Fpage, base: int, window: l4.Fpage, expected: tuple[tuple[int, int], int]
) -> None:
    """The rule of X.2 2.4, row by row: the send base selects in the larger of the two."""
    (first, size), target = expected

    assert place(sent, base, window) == Placement(Span(first, first + size), target)


@given(words, logs, words, words, logs)
def test_it_never_leaves_the_fpages(from_: int, sent: int, base: int, to: int, window: int) -> None:
    """Whatever the send base, the source lies in the sent fpage and the target in the window, both aligned."""
    source, target = l4.FpageLog2(from_, sent), l4.FpageLog2(to, window)
    placed = place(source, base, target)
    size = placed.source.size

    assert size == min(l4.Size(source), l4.Size(target))
    assert span(source).first <= placed.source.first <= placed.source.end <= span(source).end
    assert span(target).first <= placed.base <= placed.base + size <= span(target).end
    assert placed.source.first % size == placed.base % size == 0
