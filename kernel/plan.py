"""A plan, and the walk through it: round and round, past the slices of those that sleep. Pure.

Slices of members that are awake are a set of bits: to find the next one takes no longer, however many sleep.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kernel.environment import Environment
    from kernel.member import Member

    Slice = tuple[Environment, int]


class Plan:
    """The slices of one processor: environments, and microseconds."""

    def __init__(self) -> None:
        """Have no slices."""
        self.slices: Sequence[Slice] = ()
        self.begun = 0
        """How many of them have begun in this round."""
        self._places: dict[Environment, int] = {}
        """The bits of each one's slices."""
        self._awake = 0

    def replace(self, slices: "Sequence[Slice]", begun: int, members: "Mapping[Environment, Member]") -> None:
        """Walk *slices* of *members* from now on, of which so many have *begun*."""
        self.slices, self.begun = slices, min(begun, len(slices))
        self._places, self._awake = {}, 0
        for at, (environment, _) in enumerate(slices):
            self._places[environment] = self._places.get(environment, 0) | 1 << at
        for environment in self._places:
            self.mark(environment, awake=not members[environment].asleep)

    def mark(self, environment: "Environment", *, awake: bool) -> None:
        """Note whether *environment*, which may have no slice, is *awake*."""
        places = self._places.get(environment, 0)
        self._awake = self._awake | places if awake else self._awake & ~places

    def next(self) -> "tuple[Slice, int] | None":
        """Begin the next slice of one that is awake; return it, and how many were skipped. None: all sleep."""
        if not self._awake:
            return None
        ahead = self._awake >> self.begun
        skipped = _lowest(ahead) if ahead else len(self.slices) - self.begun + _lowest(self._awake)
        at = (self.begun + skipped) % len(self.slices)
        self.begun = at + 1
        return self.slices[at], skipped


def _lowest(bits: int) -> int:
    """Return the place of the lowest one."""
    return (bits & -bits).bit_length() - 1
