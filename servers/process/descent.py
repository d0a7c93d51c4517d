"""Descent of programs, by which one can be ended with all its descendants.

A child's parent is the program that started it, or, once that has ended for good, that one's parent. So every
descendant of a living program is found from it. If the first of a family has ended, its name finds the family.
"""

from collections.abc import Container, Iterable
from typing import TYPE_CHECKING, NamedTuple

from servers.process.ending import MAX_GRACE
from servers.process.policy import NoFamily, NoSuchProgram

if TYPE_CHECKING:
    from servers.process.children import Child


class Descent(NamedTuple):
    """The family and parent of a new program; empty: an operator, or a server of the topology, starts it."""

    part: int
    """The part of the processor its family has."""
    family: int = 0
    first: str = ""
    parent: int = 0
    grace: float = MAX_GRACE
    """Seconds from SIGTERM to SIGKILL that it may have: as many as its starter."""

    def give(self, child: "Child") -> None:
        """Enter it in the record of *child*."""
        child.spec.grace = min(child.spec.grace, self.grace)
        child.part, child.family = self.part, self.family or child.thread
        child.first, child.parent = self.first or child.spec.name, self.parent


def pass_on(children: "Iterable[Child]", parent: int, to: int) -> None:
    """Give the children of thread *parent* to *to*: its successor, or, when it ended, its own parent."""
    for child in children:
        if child.parent == parent:
            child.parent = to


def with_descendants(children: "Iterable[Child]", first: "Child") -> "list[Child]":
    """Return *first* and all its descendants, parents before their children."""
    below: dict[int, list[Child]] = {}
    for child in children:
        below.setdefault(child.parent, []).append(child)
    found = [first]
    for each in found:
        found += below.get(each.thread, ())
    return found


def called(children: "Iterable[Child]", name: str, servers: "Container[str]" = ()) -> "list[Child]":
    """Return the program called *name* with its descendants. Raises NoSuchProgram; NoFamily for one of *servers*.

    The name of a family's first, living or not, stands for the whole family; a living program goes first.
    """
    if name in servers:
        raise NoFamily(
            f"{name} is a server of the topology, and of no family: 'exo kill {name}' sends it a signal, "
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
        raise NoSuchProgram(f"no program started here is called {name!r}, nor is there a descendant of one")
    return found
