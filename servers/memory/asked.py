"""Frames by the family that asked for them, until they are free again: they count also when passed on to others.

Otherwise a family could give its memory to another, which is over its quota then and may not care, and ask again.
The KIP tells who has an extent; only this server knows who asked for it. After a restart of this server, memory
that was passed on before counts to its holder alone.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.kip import EnvironmentRow

_SWEEP = 1024
"""Known extents at which those that are free are searched for."""


class _Asked(NamedTuple):
    first: int
    length: int
    family: int


class Asked:
    """The extents that were carved, by the family that asked for them."""

    def __init__(self, environment: "Environment") -> None:
        """Start with none."""
        self._kip = environment.kip
        self._users = environment.kip.frame_users()
        self._own = environment.number
        self._extents: list[_Asked] = []
        """In order of their frames; extents that became free may still be among them."""
        self._of: dict[int, set[_Asked]] = {}
        self._sweep_at = _SWEEP

    def __len__(self) -> int:
        """The number of known extents."""
        return len(self._extents)

    def add(self, family: int, first: int, length: int) -> None:
        """Note *length* frames from *first*, carved for *family*; earlier extents there are free by now."""
        start = bisect_left(self._extents, (first,))
        if start and self._extents[start - 1].first + self._extents[start - 1].length > first:
            start -= 1
        end = bisect_left(self._extents, (first + length,), start)
        for stale in self._extents[start:end]:
            self._forget(stale)
        del self._extents[start:end]
        if family:
            asked = _Asked(first, length, family)
            insort(self._extents, asked)
            self._of.setdefault(family, set()).add(asked)
        if len(self._extents) > self._sweep_at:
            self._sweep()

    def elsewhere(self, members: "Iterable[EnvironmentRow]") -> int:
        """Return how many frames the family of *members* asked for that others have now, servers included."""
        family, ours = 0, {0, self._own + 1}  # free, or not taken yet
        for row in members:
            family = row.family
            ours.add(row.number + 1)
        found = self._of.get(family, ())
        return sum(asked.length for asked in found if self._users[asked.first] not in ours)

    def in_use(self, members: "Iterable[EnvironmentRow]") -> int:
        """Return how many frames the family of *members* asked for that are not free, whoever holds them."""
        found = self._of.get(next((row.family for row in members), 0), ())
        return sum(asked.length for asked in found if self._users[asked.first])

    def _sweep(self) -> None:
        """Forget free extents, and those of families that have ended."""
        living = {row.family for row in self._kip.environments()}
        kept = [asked for asked in self._extents if self._users[asked.first] and asked.family in living]
        self._extents, self._of = kept, {}
        for asked in kept:
            self._of.setdefault(asked.family, set()).add(asked)
        self._sweep_at = max(_SWEEP, 2 * len(kept))

    def _forget(self, asked: _Asked) -> None:
        of = self._of[asked.family]
        of.discard(asked)
        if not of:
            del self._of[asked.family]
