"""The landing of a mapped fpage: the arithmetic of map and grant items.

The sent fpage and the window that receives it may differ in size. The send base then selects a part of
the larger one: the part of a larger fpage that is sent, or the place of a smaller one in a larger window.
Source: L4 X.2 reference manual, rev. 7. Addresses and sizes are in bytes.
"""

from typing import NamedTuple

from libexo.l4.format.fpage import Address, Fpage, Size


class Span(NamedTuple):
    """A run of addresses."""

    first: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.first


class Placement(NamedTuple):
    """A part of an fpage, and its place."""

    source: Span
    """Addresses at the sender."""
    base: int
    """Its first address at the receiver."""


def span(fpage: Fpage) -> Span:
    """Return the addresses of *fpage*: none, if it is nil, of ports, or malformed."""
    first = Address(fpage)
    return Span(first, first + Size(fpage))


def place(sent: Fpage, base: int, window: Fpage) -> Placement:
    """Return the part of *sent* that goes into *window* by send base *base*, and where. Both cover something."""
    source, target = span(sent), span(window)
    if source.size <= target.size:
        return Placement(source, target.first + _aligned(base, source.size, target.size))
    first = source.first + _aligned(base, target.size, source.size)
    return Placement(Span(first, first + target.size), target.first)


def _aligned(base: int, smaller: int, larger: int) -> int:
    """Offset in the *larger* at which the *smaller* begins: both are powers of two."""
    return base & (larger - 1) & ~(smaller - 1)
