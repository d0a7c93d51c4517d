"""The starts of an environment's programs: roles and descriptors, kept for its successors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from hwmodel.machine import Exhausted
from kernel.abi.program import Back

if TYPE_CHECKING:
    from hwmodel.machine import Descriptor

_KEPT = 3
"""The first start, the one before the last, and the last."""


class Start(NamedTuple):
    """The start of one program: its descriptors, and the role of each."""

    roles: tuple[int, ...] = ()
    descriptors: "Sequence[Descriptor]" = ()


class Starts(tuple[Start, ...]):
    """The starts that are kept, the last one last; empty: no successor follows."""

    __slots__ = ()

    @property
    def last(self) -> Start:
        """The start that a successor repeats."""
        return self[-1] if self else Start()

    @property
    def held(self) -> int:
        """How many descriptors are kept."""
        return sum(len(start.descriptors) for start in self)

    def after(self, roles: tuple[int, ...], descriptors: "Sequence[Descriptor]", back: int) -> "Starts":
        """Return the starts as they are when a successor starts with other *descriptors*, if any, or goes *back*.

        Other descriptors stay the caller's to close. Raises Exhausted, having made none.
        """
        if back == Back.BEFORE and len(self) > 1:
            return Starts(self[:-1])
        if descriptors:
            started = *self, Start(roles, duplicates(descriptors))
        elif back == Back.FIRST and len(self) > 1:
            started = *self, Start(self[0].roles, duplicates(self[0].descriptors))
        else:
            return self
        return Starts((started[0], *started[1:][-_KEPT + 1 :]))

    def close(self, but: "Starts | None" = None) -> None:
        """Close the descriptors of those that are not among *but*."""
        kept = {id(start.descriptors) for start in but or ()}
        for start in self:
            if id(start.descriptors) not in kept:
                close(start.descriptors)


def duplicates(descriptors: "Sequence[Descriptor]") -> "list[Descriptor]":
    """Return another one of each. Raises Exhausted, having made none."""
    made: list[Descriptor] = []
    try:
        made.extend(descriptor.duplicate() for descriptor in descriptors)
    except Exhausted:
        close(made)
        raise
    return made


def close(descriptors: "Sequence[Descriptor]") -> None:
    """Close every one."""
    for descriptor in descriptors:
        descriptor.close()
