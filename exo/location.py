"""The place of a server of one's own: module:Class, found from this directory, or FILE.py:Class."""

import ast
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from exo.arguments import is_text
from exo.system import Trouble

PYTHON = ".py"


class Place(NamedTuple):
    """A class, and the place of its module."""

    folder: str
    server: str
    """As ``module:Class``."""


def locate(text: str) -> Place:
    """Return the place that *text*, ``module:Class`` or ``FILE.py:Class``, names. Raises Trouble."""
    if not is_text(text):
        raise Trouble(f"{os.fsencode(text)!r} is not UTF-8: name a module and its class")
    place, _, attribute = text.rpartition(":")
    if not (place and attribute.isidentifier()):
        raise Trouble(f"{text!r} names no class: write module:Class, or FILE.py:Class")
    if "/" not in place and not place.endswith(PYTHON):
        return Place(".", text)
    file = Path(place)
    if file.suffix != PYTHON or not file.is_file():
        raise Trouble(
            f"cannot serve {text}: there is no Python file {place}; write module:Class, or FILE.py:Class"
        )
    if "." in file.stem:
        raise Trouble(f"cannot serve {text}: a module has no dot in its name: call {file.name} otherwise")
    return Place(str(file.parent), f"{file.stem}:{attribute}")


def hint(text: str) -> str:
    """Return a correction of *text* that names a file or module, and no class of it; otherwise empty."""
    file = Path(text if text.endswith(PYTHON) else f"{text.replace('.', '/')}{PYTHON}")
    if not file.is_file():
        return ""
    names = []
    with suppress(OSError, SyntaxError, ValueError):
        tree = ast.parse(file.read_bytes())
        names = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    known = f"; its classes are {', '.join(names)}" if names else ""
    wanted = names[-1] if names else "Class"
    return f"{text} is a module: name the class that serves, 'exo serve {text}:{wanted}'{known}"
