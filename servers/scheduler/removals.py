"""Processors that are taken out: where their members go, and that they come back with it.

The members of one that is out go, one by one, where the fewest are. When it is back, those that are still where
they were put return. What this server does not move within a second the kernel moves, and that stays there.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from kernel.abi.kip import EnvironmentState
from libexo.errors import ExoError, TrapRefused
from libexo.kip import Kip

Homes = Mapping[int, tuple[int, int]]
"""Of threads whose processor is out: that one, and where they were put."""


def moves(
    where: Mapping[int, int], cpus: Collection[int], off: Collection[int], homes: Homes
) -> tuple[list[tuple[int, int]], dict[int, tuple[int, int]]]:
    """Return which threads go to which processor, and whose processors are out then.

    *where* says under which of *cpus* each thread is, oldest first, and *off* which of them are out.
    """
    on = sorted(set(cpus) - set(off))
    counts, found = Counter(where.values()), []
    left = {thread: home for thread, home in homes.items() if where.get(thread) == home[1]}
    for thread, cpu in where.items():
        home = left.get(thread, (cpu, cpu))[0]
        if home in on:
            to = home
            left.pop(thread, None)
        elif cpu in off and on:
            to = min(on, key=counts.__getitem__)
            left[thread] = home, to
        else:
            continue
        if to != cpu:
            found.append((thread, to))
            counts.subtract([cpu])
            counts.update([to])
    return found, left


class Removals:
    """Moves members, for the scheduler server."""

    def __init__(
        self,
        kip: Kip,
        cpus: Collection[int],
        migrate: Callable[[int, int], None],
        homes: Homes,
        keep: Callable[[Homes], None],
        log: Callable[[str], None],
    ) -> None:
        """Move by *migrate* those under *cpus*; *keep* stores whose processors are out, as *homes* were.

        What goes wrong is *logged*.
        """
        self._kip, self._cpus, self._migrate = kip, cpus, migrate
        self._homes, self._keep, self._log = homes, keep, log

    def settle(self) -> None:
        """Move whom the processors that are out, or back, leave no other choice."""
        rows = sorted(self._kip.environments(), key=lambda row: row.started)
        where = {
            row.thread: row.cpu
            for row in rows
            if row.cpu in self._cpus and row.state != EnvironmentState.DEAD
        }
        found, homes = moves(where, self._cpus, self._kip.processors_off(), self._homes)
        if homes != self._homes:
            self._remember(homes)
        self._move(found)

    def _remember(self, homes: Homes) -> None:
        try:
            self._keep(homes)
        except ExoError as why:  # that nobody starves matters more
            self._log(f"members that are moved now will not come back by themselves: {why}")
        self._homes = homes

    def _move(self, found: Sequence[tuple[int, int]]) -> None:
        for thread, cpu in found:
            try:
                self._migrate(thread, cpu)
            except TrapRefused as refused:  # it ended, perhaps; otherwise the kernel moves it
                row = self._kip.environment_of(thread)
                if row is not None and row.state != EnvironmentState.DEAD:
                    self._log(f"{row.name} is not moved to processor {cpu}: {refused}")
