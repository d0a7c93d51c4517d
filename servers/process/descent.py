"""Who started whom, so that a program can be ended with all its descendants.

A child's parent is the program that started it, or, when that has ended for good, the parent of that: so everybody
who came of a living program is found from it. Whose first has ended is found by what that was called.
"""

from collections.abc import Container, Iterable
from typing import TYPE_CHECKING, NamedTuple

from servers.process.ending import MAX_GRACE
from servers.process.policy import NoFamily, NoSuchProgram

if TYPE_CHECKING:
    from servers.process.children import Child


class Descent(NamedTuple):
    """What a new program comes of; nothing: an operator, or a server of the topology, starts it."""

    part: int
    """The part of the processor its family has."""
    family: int = 0
    first: str = ""
    parent: int = 0
    grace: float = MAX_GRACE
    """Seconds from SIGTERM to SIGKILL that it may have: as many as who starts it."""

    def give(self, child: "Child") -> None:
        """Say it of *child*."""
        child.spec.grace = min(child.spec.grace, self.grace)
        child.part, child.family = self.part, self.family or child.thread
        child.first, child.parent = self.first or child.spec.name, self.parent


def pass_on(children: "Iterable[Child]", parent: int, to: int) -> None:
    """Have the children of thread *parent* be those of *to*: its successor, or, when it ended, its own parent."""
    for child in children:
        if child.parent == parent:
            child.parent = to


def with_descendants(children: "Iterable[Child]", first: "Child") -> "list[Child]":
    """Return *first* and all who came of it, parents before their children."""
    below: dict[int, list[Child]] = {}
    for child in children:
        below.setdefault(child.parent, []).append(child)
    found = [first]
    for each in found:
        found += below.get(each.thread, ())
    return found


def called(children: "Iterable[Child]", name: str, servers: "Container[str]" = ()) -> "list[Child]":
    """Return the program called *name* with its descendants. Raises NoSuchProgram; NoFamily for one of *servers*.

    If the first of its family is or was called so, all of that; where nobody living is, all of which the first was.
    """
    if name in servers:
        raise NoFamily(
            f"{name} is a server of the topology, which is of no family: 'exo kill {name}' sends it a signal, "
            "'exo down' ends the system"
        )
    programs = [child for child in children if child.family]
    living = next((child for child in programs if child.spec.name == name), None)
    if living is not None and living.first != name:
        return with_descendants(programs, living)
    if living is not None:
        return [child for child in programs if child.family == living.family]
    found = [child for child in programs if child.first == name]
    if not found:
        raise NoSuchProgram(
            f"nobody is called {name!r} who was started here, nor is any descendant of one left"
        )
    return found
