"""Machine words, the stuff of every X.2 format.

A word is a plain int of 64 bits. The formats that are one word (tag, fpage, acceptor, time) are subclasses of
int, so that a program can treat them as words; where words are stored they are made plain again.
"""

from array import array
from collections.abc import Iterable
from operator import index

WORD_BITS = 64
WORD_MASK = (1 << WORD_BITS) - 1

__all__ = ["WORD_BITS", "WORD_MASK", "within", "word", "words"]


def word(value: int, what: str = "word") -> int:
    """Return *value* as a plain int. Raises ValueError, calling it *what*, when it is not in 0..2**64-1."""
    if type(value) is not int:
        value = index(value)
    if not 0 <= value <= WORD_MASK:
        raise ValueError(f"{what} {value:#x} is not in 0..2**{WORD_BITS}-1")
    return value


def words(values: Iterable[int], what: str = "word") -> list[int]:
    """Return *values* as plain ints. Raises ValueError when one is not a word."""
    several = list(values)
    try:
        return array("Q", several).tolist()
    except OverflowError:
        return [word(value, what) for value in several]  # names the wrong one


def within(value: int, low: int, high: int, what: str) -> int:
    """Return *value* as a plain int. Raises ValueError, calling it *what*, when it is not in low..high."""
    if type(value) is not int:
        value = index(value)
    if not low <= value <= high:
        raise ValueError(f"{what} {value} is not in {low}..{high}")
    return value
