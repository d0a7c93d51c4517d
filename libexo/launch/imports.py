"""Imports for a process whose uid cannot walk to the interpreter.

An interpreter under a home of mode 700 (pyenv's place, or a virtual environment) is out of reach for any
other uid, and programs import lazily: the standard library's own modules do. So while still root the parent
opens a descriptor of each directory of the path and puts /proc/self/fd/N in its place; children inherit the
descriptors, and through them the directories stay open although the way to them is shut.

Loaded modules are told their new places too: a package looks for its modules in `__path__`, reads its
data beside `__file__`, and a traceback asks the loader for source lines. Namespace packages recompute
theirs from sys.path.

The descriptors are given to Landlock as readable places, and must survive any tidying of descriptors after
a fork. Without Landlock they would also open the directories above them, as far as file modes allow.
"""

import errno
import importlib
import os
import stat
import sys
from collections.abc import Callable, Iterable
from types import ModuleType

HELD = "/proc/self/fd/"

Move = Callable[[str], str]
"""Returns the new path of a file."""


def hold(directories: Iterable[str]) -> dict[str, int]:
    """Make *directories* the path of this process and its children, and hold them open.

    Returns the descriptor of each one opened. One that is held already stays, and one that does not exist is
    left out, as the import system does. Raises PermissionError for one that is shut to all but root.
    """
    entries = list(dict.fromkeys(map(os.path.abspath, directories)))
    places = [entry for entry in entries if not entry.startswith(HELD) and os.path.exists(entry)]
    if os.geteuid() == 0:
        _require_open_to_others(places)
    held = {place: os.open(place, os.O_PATH | os.O_CLOEXEC) for place in places}
    kept = (f"{HELD}{held[entry]}" if entry in held else entry for entry in entries)
    sys.path[:] = [entry for entry in kept if entry.startswith(HELD)]
    _relocate_modules(_mover(held))
    importlib.invalidate_caches()
    return held


def _require_open_to_others(places: Iterable[str]) -> None:
    """Refuse a directory, or an archive of modules, that no environment could read."""
    for place in places:
        mode = os.stat(place).st_mode
        needed = 0o005 if stat.S_ISDIR(mode) else 0o004
        if mode & needed != needed:
            message = "no environment could import from it: give others the right to read (chmod -R o+rX)"
            raise PermissionError(errno.EACCES, message, place)


def _mover(held: dict[str, int]) -> Move:
    """Return a function that names a file below one of the *held* directories by its descriptor."""
    places = [(f"{directory}/", f"{HELD}{number}/") for directory, number in held.items()]
    places.sort(reverse=True)  # inner before outer: site-packages lies inside the standard library

    def move(location: str) -> str:
        for old, new in places:
            if location.startswith(old):
                return new + location[len(old) :]
        return location

    return move


def _relocate_modules(move: Move) -> None:
    """Tell each loaded module, its spec and its loader their new places."""
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType):
            spec = vars(module).get("__spec__")
            _relocate(module, ("__file__", "__path__"), move)
            _relocate(spec, ("origin", "submodule_search_locations"), move)
            _relocate(getattr(spec, "loader", None), ("path",), move)


def _relocate(owner: object, names: Iterable[str], move: Move) -> None:
    """Rewrite those attributes that are set; a list in place, because others share it."""
    attributes = getattr(owner, "__dict__", {})  # not getattr: a module may compute what it lacks
    for name in names:
        location = attributes.get(name)
        if isinstance(location, str) and (moved := move(location)) != location:
            setattr(owner, name, moved)
        elif isinstance(location, list):
            location[:] = [move(place) for place in location if isinstance(place, str)]
