"""The real names of a program's own modules.

They are imported through a descriptor, from a directory that other uids may not walk to. A reader of a
traceback wants the file's own name instead. Programs still read files beside `__file__` through the descriptor.
"""

import os
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from types import CodeType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import PathEntryFinder


def import_from(held: str) -> None:
    """Import from *held*, the place of a descriptor, before all else; tracebacks name the real files."""
    real = os.readlink(held)

    class Loader(SourceFileLoader):
        """Has code name the file by its usual path."""

        def get_code(self, fullname: str) -> CodeType | None:
            """Return the code of a module."""
            code = super().get_code(fullname)
            return code and named(code, real + self.path.removeprefix(held))

    find = FileFinder.path_hook(
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (Loader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )

    def hook(path: str) -> "PathEntryFinder":
        if path != held and not path.startswith(f"{held}/"):
            raise ImportError(f"{path} is not below {held}")
        return find(path)

    sys.path_hooks.insert(0, hook)
    sys.path.insert(0, held)


def named(code: CodeType, name: str) -> CodeType:
    """Return *code*, and all code in it, as that of the file called *name*."""
    constants = tuple(named(each, name) if isinstance(each, CodeType) else each for each in code.co_consts)
    return code.replace(co_filename=name, co_consts=constants)
