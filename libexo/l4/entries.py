"""Entries: the words that stand for functions as instruction pointers (X.2), the same in every environment.

    @l4.entry
    def report(sp): ...

    l4.LoadMRs(1, (report, 7))    # IP and SP of a start message

A word is made from the names of the function and its module, so every environment that imports the module knows
it. A program's own file counts as the module that others import: its functions can be entries of fresh
spaces if the file keeps the program's own work under ``if __name__ == "__main__":``.
"""

import sys
from collections.abc import Callable
from functools import update_wrapper
from hashlib import blake2b
from pathlib import PurePath

Function = Callable[[int], object]
"""The start of a thread; its argument is the stack pointer, a word whose meaning is up to the starter."""

_MAIN = "__main__"
_WORD = 8


class Entry(int):
    """The word of a function: a number where a word is wanted, and still the function where that is called.

    Native messages (`libexo.Message`) take plain ints only: ``int(report)``.
    """

    function: Function

    def __call__(self, sp: int) -> object:
        """Call the function."""
        return self.function(sp)


ENTRIES: dict[int, Entry] = {}
"""Known entries, by word."""


def entry(function: Function) -> Entry:
    """Return the word that stands for *function* as an instruction pointer: never 0, the same everywhere."""
    if isinstance(function, Entry):
        return function
    name = f"{_importable(function.__module__)}:{function.__qualname__}"
    word = int.from_bytes(blake2b(name.encode(), digest_size=_WORD).digest(), "little") | 1
    made = ENTRIES[word] = Entry(word)
    update_wrapper(made, function)
    made.function = function
    return made


def entry_modules(*, own: bool) -> list[str]:
    """Return the names of the modules whose functions are entries here; with *own*, the program's file too."""
    modules = {known.__module__ for known in ENTRIES.values()}
    return sorted(_importable(module) for module in modules if own or module != _MAIN)


def _importable(module: str) -> str:
    """Return the name by which others import *module*: its file's, if it is the program itself."""
    main = sys.modules[_MAIN]
    spec, path = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if module == _MAIN and spec is not None:
        return str(spec.name)
    return PurePath(path).stem if module == _MAIN and path else module
