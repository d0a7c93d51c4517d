"""Entries: words that stand for functions, and functions still."""

import sys
from types import ModuleType

import pytest

from libexo import l4
from libexo.l4.entries import ENTRIES, Entry, entry_modules
from libexo.l4.format.words import word


@l4.entry
def double(sp: int) -> object:
    """Return twice *sp*."""
    return 2 * sp


def test_a_decorator() -> None:
    """A decorated function is a word, goes where words go, and can be called as before."""
    assert isinstance(double, Entry)
    assert (double(21), vars(double)["__name__"], double.__doc__) == (42, "double", "Return twice *sp*.")
    assert type(word(double)) is int
    assert ENTRIES[double] is double
    assert double & 1


def test_the_same_word_again() -> None:
    """Every entry made of the function, of its entry, or of another function of its name, is the same word."""
    assert l4.entry(double) is double
    assert l4.entry(double.function) == double


def test_a_programs_own_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of a program's file has the word it has where the file is imported, and its module is told of."""
    main = ModuleType("__main__")
    main.__file__ = "/somewhere/my_root.py"
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr("libexo.l4.entries.ENTRIES", {})

    def inside(sp: int) -> None: ...

    def outside(sp: int) -> None: ...

    inside.__module__, inside.__qualname__ = "__main__", "begin"
    outside.__module__, outside.__qualname__ = "my_root", "begin"

    assert l4.entry(inside) == l4.entry(outside)
    l4.entry(inside)
    assert entry_modules(own=True) == ["my_root"]
    assert entry_modules(own=False) == []
