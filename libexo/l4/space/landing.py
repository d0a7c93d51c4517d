"""Where a mapped fpage lands: the arithmetic of map and grant items.

The fpage that is sent and the window it is received in may differ in size. The send base then says which part of
the larger one is meant: which part of a larger fpage is sent, or where in a larger window a smaller one lies.
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
    """Which part of an fpage goes where."""

    source: Span
    """At the sender."""
    base: int
    """Its first address at the receiver."""


def span(fpage: Fpage) -> Span:
    """Return the addresses *fpage* covers: none, if it is nil, of ports, or malformed."""
    first = Address(fpage)
    return Span(first, first + Size(fpage))


def place(sent: Fpage, base: int, window: Fpage) -> Placement:
    """Return what of *sent* goes where, by send base *base*, into *window*. Both cover something."""
    source, target = span(sent), span(window)
    if source.size <= target.size:
        return Placement(source, target.first + _aligned(base, source.size, target.size))
    first = source.first + _aligned(base, target.size, source.size)
    return Placement(Span(first, first + target.size), target.first)


def _aligned(base: int, smaller: int, larger: int) -> int:
    """Where in the *larger* the *smaller* begins: both are powers of two."""
    return base & (larger - 1) & ~(smaller - 1)
