"""Our packages beside a program's own of the same names.

A program may have a package `servers`, or a module `kernel`, of its own. The short name is then the program's, and
the modules of ours that it uses keep their full names, as `kernel.abi.ids` and `servers.memory.api`. Python looks
for a module under its full name first, and asks the packages above it only if that is not loaded. So all that a
program can need of ours is loaded before the name is given away. That takes some 50 ms, in such programs only.

`import libexo` comes before `from servers.memory.api import Memory` there, as in the alphabet. A folder `servers`
without an `__init__.py` is found from then on: before, Python takes ours, which has one.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

NAMES = ("kernel", "servers", "hwmodel", "exo")
"""Our packages, beside libexo itself."""
USED = ("kernel", "servers")
"""Packages of ours of which a program uses modules."""
_displaced: dict[str, dict[str, ModuleType]] = {}
"""The program's imports under these names before it imported us, by full name."""


def claim() -> None:
    """Have our packages found for now, even if the program has its own of the same names."""
    for name in USED:
        loaded = [each for each in sys.modules if each.partition(".")[0] == name]
        theirs = {each: sys.modules.pop(each) for each in loaded if not _is_ours(sys.modules[each])}
        if theirs:
            _displaced[name] = theirs
        if theirs or _own(name) is not None:
            _load(name)


def give_way() -> None:
    """Leave each name of ours under which the program has something of its own to the program."""
    for name in NAMES:
        theirs, own = _displaced.pop(name, {}), _own(name)
        ours = sys.modules.get(name)
        if (not theirs and own is None) or (ours is not None and not _is_ours(ours)):
            continue
        if ours is None and name in USED:
            _load(name)
        for each in _used(name):
            import_module(each)
        sys.modules.pop(name, None)
        if own is not None and own.loader is None:
            sys.modules[name] = module_from_spec(own)
        places = own.submodule_search_locations if own is not None else None
        for each in [each for each in sys.modules if each.startswith(f"{name}.") and each.count(".") == 1]:
            if places and PathFinder.find_spec(each, places) is not None:
                del sys.modules[each]  # a package of ours in `servers` that the program's has, too
        sys.modules.update(theirs)


def _load(name: str) -> None:
    """Load our package of that *name*, wherever Python would look for it."""
    folder = _root() / name
    spec = spec_from_file_location(
        name, str(folder / "__init__.py"), submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"libexo is not complete: there is no {folder}", name=name)
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


def _own(name: str) -> ModuleSpec | None:
    """Return what a program finds under *name* before it would find ours."""
    root = str(_root())
    for entry in sys.path:
        if entry == root:
            return None
        spec = PathFinder.find_spec(name, [entry])
        if spec is not None:
            return None if _is_in_ours(spec) else spec
    return None


def _used(name: str) -> Iterator[str]:
    """Yield the full names of all modules of ours that a program may use."""
    folder = _root() / name
    if name == "kernel":
        for package in ("kernel.abi", "kernel.abi.traps"):
            inside = folder.parent.joinpath(*package.split("."))
            yield from (f"{package}.{module.name}" for module in iter_modules([str(inside)]))
    if name == "servers":
        found = [module.name for module in iter_modules([str(folder)]) if module.ispkg]
        yield from (f"servers.{each}.api" for each in found if (folder / each / "api.py").exists())


def _root() -> Path:
    """Return the folder of our packages."""
    return Path(__file__).parents[1]


def _is_ours(module: ModuleType) -> bool:
    return module.__spec__ is not None and _is_in_ours(module.__spec__)


def _is_in_ours(spec: ModuleSpec) -> bool:
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])]
    return any(Path(place).is_relative_to(_root()) for place in places)
