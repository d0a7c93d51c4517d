"""Scheduling policies: what one is told, and what it answers. Pure: plain numbers, testable without processes.

A policy is a class with one method, which turns the members of a processor into a plan:

    class Fewest:
        def plan(self, members, now):
            awake = sorted((each for each in members if not each.asleep), key=lambda each: each.used)
            return Plan.once([(each.thread, 10_000) for each in awake[:1]])

`exo sched use fewest.py:Fewest` puts it in force while everything keeps running. The kernel walks the plan by
itself, round and round, and skips those that sleep; the policy is asked for another when a member comes, goes,
sleeps or wakes, when its settings change, and after the time it named.

A member is a program with all its descendants, which share what it is given (Waldspurger's *currency*). Times of
what happened are nanoseconds, those to be given are microseconds, as the kernel has both.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from kernel.abi.limits import MAX_SLICE_US, MAX_SLICES, MIN_SLICE_US
from libexo.extent import Extent

__all__ = [
    "MAX_SLICES",
    "MAX_SLICE_US",
    "MIN_SLICE_US",
    "QUANTUM",
    "STARVED",
    "Member",
    "Parameter",
    "Plan",
    "Policy",
    "Reservation",
    "microseconds",
]

STARVED = 2_000_000_000
"""Nanoseconds for which a policy may leave out who is awake, unless it says that it `starves`."""
QUANTUM = 10_000
"""Microseconds of a slice, where nobody says otherwise: X.2's default timeslice."""

Parameter = int | float | str
"""A value of `exo sched set NAME key=value`. Times, as in period=20ms, are whole nanoseconds."""


class Member(NamedTuple):
    """Who is to be planned: a program with its descendants."""

    thread: int
    """Names it in a slice."""
    name: str
    weight: int = 1
    """Its parts of the processor, as `exo run --share` and `exo sched set NAME weight=3` say."""
    asleep: bool = False
    """All of it sleeps."""
    since: int = 0
    """When it fell asleep, or woke, whichever it is now, in ns of the clock."""
    used: int = 0
    """CPU time since it came, by the host's account, and what it had and slept away in its slices, in ns."""
    parameters: Mapping[str, Parameter] = {}
    """What an operator or a server set for it."""
    declared: Mapping[str, Parameter] = {}
    """What it said itself, and an operator has not agreed to: a period, perhaps, but no priority."""
    processor: int = 0
    """The number of the processor that is planned: a policy is asked for each with the members of that one."""
    left: int = 0
    """What it has left of the slice that runs, in ns: finished first, or owed to it if the plan begins now."""
    waits_for: Sequence[int] = ()
    """The threads of the members for which its programs that sleep say that they wait, by IPC."""


class Plan(NamedTuple):
    """What the processor is to do."""

    slices: Sequence[tuple[int, int]]
    """Thread of a member, and µs of CPU time, in order: MIN_SLICE_US to MAX_SLICE_US, MAX_SLICES at most."""
    again: int = 0
    """Microseconds of the clock until the policy is asked again; 0: only when something changes."""
    now: bool = False
    """The running slice ends at once, and what is left of it is carried; otherwise it is finished first, if its
    owner has a slice in the plan."""
    at_ends: bool = False
    """The policy is asked again at the end of each slice, too: within a millisecond, while the next one runs."""

    @classmethod
    def once(cls, slices: Sequence[tuple[int, int]], *, now: bool = False) -> "Plan":
        """Return a plan for one round, at the end of which the policy is asked again."""
        return cls(slices, min(sum(length for _, length in slices), MAX_SLICE_US), now)


class Reservation(Extent, array_like=True):
    """The capability to CPU time that is reserved; it travels as extents do, and cannot be mapped."""

    @property
    def runtime(self) -> int:
        """Microseconds in each period."""
        return self.first

    @property
    def period(self) -> int:
        """Microseconds of the clock."""
        return self.pages


class Policy(Protocol):
    """Decides how a processor is divided. Parameters of `exo sched use` are arguments of its constructor.

    One that leaves out a member that is awake for STARVED ns, though it is asked again, is at fault: what was in
    force before plans until it gives that one a slice. With an attribute `starves` that is true it is none.
    """

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return the plan for *members*, oldest first, as they are at *now*, in ns of the clock.

        Raise ValueError for parameters it cannot honour: then `exo sched set` is refused with that text.
        """


def microseconds(nanoseconds: int) -> int:
    """Return a time of the clock, or a parameter, as a length of slices: as near as one can be to it."""
    return min(max(nanoseconds // 1000, MIN_SLICE_US), MAX_SLICE_US)
