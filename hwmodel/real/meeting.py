"""One core for those who talk by page faults: the program, its pager, and the kernel between them.

They alternate: while one runs, the others wait for it. On two cores each waits for the wake-up of the next besides,
which takes a host longer than all the rest of a fault. So while a program computes little between its faults, the
thread that waits, its pager's first thread and the kernel's run on one core: the kernel's at that moment, or where
one of them is kept. A program whose faults are rare stays where it is, and so do the other threads of each. It is
what it computes that counts: the time that goes by is mostly other people's on a busy host.

A plan comes first: who is under one is not moved, the others come to it, and two under plans of different cores are
left alone. So are those whom the host, or an operator, lets run on no core in common. When its faults have ceased
for a moment, each may run again where it could before.
"""

import os
import threading
from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

from hwmodel.real import affinity
from hwmodel.real.activity import cpu_time
from hwmodel.real.loop import Loop

CLOSE = 500_000
"""How long, in ns of CPU time, who talks computes between two faults, at most."""
ENOUGH = 16
"""Faults in a row of which that is the average, until those who talk are brought together."""
QUIET = 20_000_000
"""How long, in ns, nothing was said when they part."""


@runtime_checkable
class Party(Protocol):
    """A body that takes part."""

    pid: int
    core: int
    """The host core a plan keeps it on; -1: none does."""


class Talk:
    """The faults of one program."""

    __slots__ = ("asker", "lane", "last", "row", "thread", "used")

    def __init__(self, lane: int) -> None:
        """Start with none; *lane* is the thread of the kernel that makes calls for it."""
        self.lane = lane
        self.last, self.row = -QUIET, 0
        """When the last was, and how many came one behind another."""
        self.used = 0
        """CPU time of *asker*, when last asked."""
        self.asker: Party | None = None
        self.thread = 0
        """The thread of *asker* that waits for it."""


class Seat:
    """A thread that was brought to the meeting."""

    __slots__ = ("before", "party", "talks")

    def __init__(self, party: "Party | None", before: frozenset[int]) -> None:
        """Be one of *party*, or of the kernel, which may run on *before*."""
        self.party = party
        self.before = before
        self.talks: set[Talk] = set()
        """Those it takes part in."""


class Meeting:
    """The core on which they are, and who is there."""

    def __init__(
        self, loop: Loop, cores: affinity.Cores | None = None, cpu_time: Callable[[int], int] = cpu_time
    ) -> None:
        """Start with nobody."""
        self._loop = loop
        self._cores = cores or affinity.Cores()
        self._cpu_time = cpu_time
        self._core = -1
        self._seats: dict[int, Seat] = {}
        """By thread."""

    def told(self, talk: Talk, pager: object) -> None:
        """The last fault of *talk* goes to *pager*, a party as a rule."""
        now, asker = self._loop.now(), talk.asker
        follows, talk.last = now - talk.last < QUIET, now
        talk.row = talk.row + 1 if follows else 0
        if talk.row % ENOUGH or asker is None:
            return
        before, talk.used = talk.used, self._cpu_time(asker.pid)
        if talk.row and talk.used - before < ENOUGH * CLOSE and isinstance(pager, Party):
            self._gather(talk, (asker, talk.thread), (pager, pager.pid))

    def _gather(self, talk: Talk, *parties: tuple[Party, int]) -> None:
        """Bring *parties* together, if all of them may be, and the kernel too."""
        wanted: list[tuple[Party | None, int]] = [
            *parties,
            (None, threading.get_native_id()),
            (None, talk.lane),
        ]
        before = {thread: self._cores.of(thread) for _, thread in wanted}
        core = self._choose(before.values(), *(party for party, _ in parties))
        if core < 0:
            return
        if not self._seats:
            self._core = core
            self._loop.alarm(talk.last + QUIET, self._look)
        for party, thread in wanted:
            if thread not in self._seats:
                self._seats[thread] = Seat(party, before[thread])
                if party is None or party.core < 0:
                    self._cores.keep(thread, frozenset((core,)))
            self._seats[thread].talks.add(talk)

    def _choose(self, cores: Iterable[frozenset[int]], *parties: Party) -> int:
        """Return a core on which all of them may be, that of the meeting if there is one; -1: there is none."""
        common = frozenset.intersection(*cores)
        for kept in (self._core, *(party.core for party in parties)):
            common &= {kept} if kept >= 0 else common
        here = self._cores.here()
        return here if here in common else min(common, default=-1)

    def _look(self) -> None:
        """Let those go who have said nothing for a while, and look again if some are left."""
        now = self._loop.now()
        for thread, seat in list(self._seats.items()):
            seat.talks = {talk for talk in seat.talks if now - talk.last < QUIET}
            if not seat.talks:
                del self._seats[thread]
                self._release(seat)
        if self._seats:
            self._loop.alarm(now + QUIET, self._look)
        else:
            self._core = -1

    def _release(self, seat: Seat) -> None:
        """Let it run where it could before, and what it started meanwhile; but not whom somebody moved since."""
        party = seat.party
        if party is not None and party.core >= 0:
            return
        here = frozenset((self._core,))
        for thread in self._cores.threads(party.pid if party is not None else os.getpid()):
            if thread not in self._seats and self._cores.of(thread) == here:
                self._cores.keep(thread, seat.before)
