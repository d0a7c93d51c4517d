"""Families: a program that an operator started, or one that attached, with all its descendants.

The kernel shows them in the KIP, also of environments whose parents have ended. So nothing has to be learned from
others, or remembered over a restart. The rows of a family are looked up again only when an
environment has come or gone since.
"""

from typing import TYPE_CHECKING

from kernel.abi.kip import Counter, Head

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.kip import EnvironmentRow

_CHANGES = (Counter.ENVIRONMENTS_CREATED, Counter.ENVIRONMENTS_ENDED)


class Families:
    """The families of the system."""

    def __init__(self, environment: "Environment") -> None:
        """Look nothing up yet."""
        self._kip = environment.kip
        self._numbers: dict[int, list[int]] = {}
        """The rows of each."""
        self._seen: tuple[int, ...] = ()
        """How many environments had come and gone at the last look."""

    def members(self, row: "EnvironmentRow") -> "list[EnvironmentRow]":
        """Return the members of the family of *row*, itself first; a server, which is of none, is alone."""
        if not row.family:
            return [row]
        seen = tuple(self._kip.word((Head.COUNTERS + counter) * 8) for counter in _CHANGES)
        if seen != self._seen:
            self._numbers = {}
            for each in self._kip.environments():
                self._numbers.setdefault(each.family, []).append(each.number)
            self._seen = seen
        numbers = self._numbers.get(row.family, [])
        found = [self._kip.environment(number) for number in numbers if number != row.number]
        return [row, *(each for each in found if each is not None and each.family == row.family)]
