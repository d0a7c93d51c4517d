"""What each family of programs used, and since when it sleeps: the memory of the scheduler server. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Reading(NamedTuple):
    """One program, as the kernel shows it now."""

    thread: int
    family: int
    """The thread that names its family."""
    asleep: bool
    consumed: int
    """Its CPU time, in ns."""


class _Account:
    __slots__ = ("asleep", "programs", "since", "used")

    def __init__(self, now: int) -> None:
        self.used = 0
        self.asleep, self.since = False, now
        self.programs: dict[int, int] = {}
        """CPU time of each of the living, when last read."""


class Accounts:
    """The account of each family that has a living member. What its dead used stays in it."""

    def __init__(self) -> None:
        """Know nobody."""
        self._families: dict[int, _Account] = {}
        self._left: dict[int, int] = {}

    def read(self, readings: Iterable[Reading], now: int) -> None:
        """Take in all programs there are, at *now*, in ns of the clock."""
        families: dict[int, list[Reading]] = {}
        for each in readings:
            families.setdefault(each.family, []).append(each)
        self._families = {family: self._take(family, found, now) for family, found in families.items()}

    def _take(self, family: int, found: list[Reading], now: int) -> _Account:
        account = self._families.get(family) or _Account(now)
        before, account.programs = account.programs, {}
        asleep = True
        for thread, _, sleeps, consumed in found:
            account.programs[thread] = consumed
            account.used += consumed - before.get(thread, 0)
            asleep = asleep and sleeps
        if asleep != account.asleep:
            account.asleep, account.since = asleep, now
        return account

    def charge(self, family: int, idle: int) -> None:
        """Count to *family* that it had the processor for *idle* ns, and slept: nobody else could use it."""
        if account := self._families.get(family):
            account.used += idle

    def leave(self, left: Mapping[int, int]) -> None:
        """Note how many ns each thread has *left* of the slice it is in."""
        self._left = {
            family: rest
            for family, account in self._families.items()
            if left and (rest := sum(left.get(thread, 0) for thread in account.programs))
        }

    def left(self, family: int) -> int:
        """Return what a family has left of the slices that run, in ns."""
        return self._left.get(family, 0)

    def knows(self, family: int) -> bool:
        """Say whether a member of *family* was there at the last reading."""
        return family in self._families

    def programs(self, family: int) -> Mapping[int, int]:
        """Return the CPU time of each living program of a family, in ns."""
        return self._families[family].programs if family in self._families else {}

    def used(self, family: int) -> int:
        """Return the CPU time of a family, in ns."""
        return self._families[family].used

    def since(self, family: int) -> int:
        """Return when it fell asleep, or woke, in ns of the clock."""
        return self._families[family].since
