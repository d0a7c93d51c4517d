"""A program's own modules, in programs that it starts: its file, and what it imported from beside it.

They come as texts, for their directory may be shut to any other uid, and the program may have come without a file.
The program's file is the module `MAIN` there, as its own work is done already: a file that imports it by its name
gets another module, as it does in the program itself.
"""

import linecache
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

import msgspec

from libexo.errors import ExoError

MAIN = "__exo_main__"
IMPORTS = "EXO_IMPORTS"
"""The environment variable that names the descriptor of the directory the program imports from."""
_MAIN = "__main__"


class Source(msgspec.Struct, array_like=True):
    """The text of a module."""

    path: str
    text: str
    is_package: bool = False


_own: dict[str, Source] = {}
"""Those that came from the starter, by name."""
_running: list[str] = []
"""Paths of those that are being run just now, for their functions."""


def name_of(module: str) -> str:
    """Return the name under which a program that is started has *module*."""
    if module != _MAIN:
        return module
    spec = getattr(sys.modules[_MAIN], "__spec__", None)
    return str(spec.name) if spec is not None else MAIN


def sources(modules: set[str], variables: Mapping[str, str]) -> dict[str, Source]:
    """Return all own modules that are loaded, if one of *modules*, by their names there, is among them; or none.

    Raises ValueError when the program's own file is one of them, and its text is not known.
    """
    held = f"/proc/self/fd/{variables[IMPORTS]}/" if IMPORTS in variables else ""
    found = dict(_own)
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        if held and path and path.startswith(held) and isinstance(loader, InspectLoader):
            text = loader.get_source(name)
            if text is not None and name != _MAIN:
                found[name] = Source(os.path.realpath(path), text, hasattr(module, "__path__"))
    if MAIN in modules and MAIN not in found:
        path = str(getattr(sys.modules[_MAIN], "__file__", ""))
        text = "".join(linecache.getlines(path))
        if not text:
            raise ValueError(
                f"the text of {path or 'the program'} is not known: start a function of a module"
            )
        found[MAIN] = Source(path, text)
    return found if found.keys() & modules else {}


def adopt(found: Mapping[str, Source]) -> None:
    """Have the modules of the starter imported from here on."""
    _own.update(found)
    if not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def check_not_running() -> None:
    """Raise ExoError in the middle of a module's first run: it would start itself again and again."""
    if _running:
        raise ExoError(
            f"{_running[0]} starts a program while it is run for its functions only: "
            'keep its own work under `if __name__ == "__main__":`'
        )


class _Finder(MetaPathFinder, Loader):
    """Finds and runs them; tracebacks show their lines."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of one of them."""
        found = _own.get(fullname)
        if found is None:
            return None
        return spec_from_loader(fullname, self, origin=found.path, is_package=found.is_package)

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        path, text = (found := _own[module.__name__]).path, found.text
        module.__file__ = path
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
        _running.append(path)
        try:
            exec(compile(text, path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - what it is for
        finally:
            _running.remove(path)
