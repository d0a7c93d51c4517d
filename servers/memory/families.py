"""Who is of one family: a program that an operator started, or a member that attached, and all its descendants.

The kernel says it in the KIP, and goes on saying it of those whose parents have ended. So nothing is to be heard
from anybody, or to be remembered over a restart; which rows are of a family is only looked up again when an
environment has come or gone since.
"""

from typing import TYPE_CHECKING

from kernel.abi.kip import Counter, Head

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.kip import EnvironmentRow

_CHANGES = (Counter.ENVIRONMENTS_CREATED, Counter.ENVIRONMENTS_ENDED)


class Families:
    """The families there are."""

    def __init__(self, environment: "Environment") -> None:
        """Look nowhere yet."""
        self._kip = environment.kip
        self._numbers: dict[int, list[int]] = {}
        """The rows of each."""
        self._seen: tuple[int, ...] = ()
        """How many had come and gone when we looked."""

    def members(self, row: "EnvironmentRow") -> "list[EnvironmentRow]":
        """Return who is of the family of *row*, itself first; of a server, which is of none, itself alone."""
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
