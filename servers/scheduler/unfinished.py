"""What is left of the slices that run: the kernel finishes them before it begins a new plan. Pure.

The kernel shows which slice of a plan runs, and what each program had used when it was last shown. Where a slice
ends follows from the slices of its owner that have begun since the plan was installed, and what that had used then.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from libexo.kip import EnvironmentRow, PlanView

Slices = Sequence[tuple[int, int]]


class _Running(NamedTuple):
    thread: int = 0
    """0: nobody runs, or not by the plan."""
    left: int = 0
    """Nanoseconds of its slice."""


class Unfinished:
    """The running slice of each processor."""

    def __init__(self) -> None:
        """Know of none."""
        self._idle: dict[int, int] = defaultdict(int)
        """What each slept in its slices, in ns, which counts as used."""
        self._used: dict[int, int] = {}
        self._running: dict[int, _Running] = {}
        self.installed: dict[int, Slices] = {}
        """The slices of each processor, from where they were begun."""
        self._since: dict[int, tuple[_Running, Mapping[int, int]]] = {}
        """Who ran when they were installed, and what all had used."""

    def charge(self, thread: int, idle: int) -> None:
        """Note that *thread* slept so many ns in a slice."""
        self._idle[thread] += idle

    def read(
        self, plans: Sequence[PlanView], members: Mapping[int, Sequence[EnvironmentRow]]
    ) -> dict[int, int]:
        """Take in *plans* and *members* of the processors, as shown; return what is left, in ns, by thread."""
        rows = {row.number: row for found in members.values() for row in found}
        self._used = {row.thread: row.consumed + self._idle.get(row.thread, 0) for row in rows.values()}
        self._idle = defaultdict(int, {t: idle for t, idle in self._idle.items() if t in self._used})
        for cpu in members:
            row = rows.get(plans[cpu].running)
            self._running[cpu] = (
                self._of(cpu, row.thread, plans[cpu].begun) if row is not None else _Running()
            )
        return {each.thread: each.left for each in self._running.values() if each.left}

    def _of(self, cpu: int, thread: int, begun: int) -> _Running:
        slices, (before, used) = self.installed.get(cpu, ()), self._since.get(cpu, (_Running(), {}))
        whole, length = (
            slices[begun - 1] if 0 < begun <= len(slices) else (before.thread, before.left // 1000)
        )
        if whole != thread or thread not in used:
            return _Running()
        ends = used[thread] + (before.left if before.thread == thread else 0)
        ends += 1000 * sum(length for each, length in slices[:begun] if each == thread)
        return _Running(thread, min(max(ends - self._used[thread], 0), 1000 * length))

    def install(self, cpu: int, slices: Slices) -> None:
        """Note that *slices* are the plan of *cpu* from now on: after what was left when last read."""
        self.installed[cpu], self._since[cpu] = slices, (self._running.get(cpu, _Running()), self._used)
