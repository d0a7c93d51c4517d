"""Earliest deadline first (Liu and Layland, 1973), with constant-bandwidth servers (Abeni and Buttazzo, 1998)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from libexo.sched import (
    MAX_SLICE_US,
    MAX_SLICES,
    MIN_SLICE_US,
    QUANTUM,
    Member,
    Parameter,
    Plan,
    microseconds,
)
from servers.scheduler.policies.bandwidth import Bandwidth
from servers.scheduler.policies.saying import time
from servers.scheduler.policies.stride import Stride

MS = 1_000_000
REST = 0
"""Stands for all that have no deadline, among the threads: no thread has this number."""
NEVER = 1 << 62
LOOKS = 5_000
"""Microseconds in which the kernel sees who sleeps: each plan makes it begin anew."""


class Due(NamedTuple):
    """What is to be done by a deadline."""

    deadline: int
    since: int
    """When it got that: of equal deadlines the older one is first, as nothing is won by a switch."""
    budget: int
    """Microseconds after which the deadline is another."""
    slices: Sequence[tuple[int, int]]


class Edf:
    """The earliest deadline is first. `runtime` and `period` of a member are reserved, if all that fits.

    Who uses more than its runtime has a later deadline, and hurts nobody else. A member with a `deadline` or a
    `period` and no runtime is taken at its word: its jobs begin when it wakes. What nobody reserved is a
    reservation of all others together, who divide it by weight.
    """

    name = "edf"

    def __init__(
        self, quantum: int = QUANTUM * 1000, rest: int = 100 * MS, declared: int = 0, most: int = 100
    ) -> None:
        """Divide the rest by *quantum* ns, in periods of *rest* ns.

        Programs may reserve *declared* % by their own word, and all together *most* %.
        """
        self._inside = Stride(quantum)
        self._period, self._declared, self._most = rest, declared, most
        self._servers: dict[int, Bandwidth] = {}
        self._before: dict[int, Member] = {}
        """The members, as last told."""

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return a slice for each that is awake, earliest deadline first. Raises ValueError."""
        said = {each.thread: self._said(each) for each in members}
        reserved = {each.thread: each for each in members if "runtime" in said[each.thread]}
        others = [each for each in members if not said[each.thread]]
        self._reserve(reserved, said, _rest(others, now), now)
        due = [
            self._due(each, said[each.thread]) for each in members if said[each.thread] and not each.asleep
        ]
        due += self._due_of_others(others, now)
        due.sort(key=lambda each: (each.deadline, each.since))
        if not due:
            return Plan([])
        slices = [slice_ for each in due for slice_ in each.slices]
        if len({thread for thread, _ in slices}) == 1:  # no deadline matters until another one wakes
            return Plan(slices, now=True)
        again = min(max(due[0].budget, LOOKS), MAX_SLICE_US // 2)
        return Plan(slices[:MAX_SLICES], again, now=True)

    def _said(self, member: Member) -> Mapping[str, Parameter]:
        """Return what is said of its deadlines; what it says itself counts if it asks for a reservation."""
        for said in (member.parameters, member.declared):
            if "runtime" in said or (said is member.parameters and {"period", "deadline"} & said.keys()):
                return said if said is member.parameters or self._declared else {}
        return {}

    def _reserve(
        self,
        members: Mapping[int, Member],
        said: Mapping[int, Mapping[str, Parameter]],
        rest: Member,
        now: int,
    ) -> None:
        """Bring the servers of all reservations, and of the rest, up to date. Raises ValueError."""
        wanted = {thread: _reservation(each, said[thread]) for thread, each in members.items()}
        part = {thread: runtime / period for thread, (runtime, period) in wanted.items()}
        own = [thread for thread in wanted if said[thread] is members[thread].declared]
        _admit({members[thread].name: part[thread] for thread in own}, self._declared)
        _admit({each.name: part[thread] for thread, each in members.items()}, self._most)
        runtime = int((1 - sum(part.values())) * self._period)
        if runtime >= MIN_SLICE_US * 1000:
            wanted[REST], members = (runtime, self._period), {**members, REST: rest}
        servers, self._servers = self._servers, {}
        for thread, (runtime, period) in wanted.items():
            server = self._servers[thread] = servers.get(thread) or Bandwidth(runtime, period)
            server.runtime, server.period = runtime, period
            self._count(server, self._before.get(thread), members[thread], now)
        self._before = dict(members)

    def _count(self, server: Bandwidth, before: Member | None, member: Member, now: int) -> None:
        if before is not None:
            server.spend(max(member.used - before.used, 0), now)
        if not member.asleep and (before is None or before.asleep or before.since != member.since):
            server.arrive(member.since or now)

    def _due(self, member: Member, said: Mapping[str, Parameter]) -> Due:
        server = self._servers.get(member.thread)
        if server is not None:
            budget = microseconds(server.budget)
            return Due(server.deadline, server.since, budget, [(member.thread, budget)])
        length = time(member, "deadline", said) or time(member, "period", said) or NEVER
        return Due(member.since + length, member.since, MAX_SLICE_US, [(member.thread, MAX_SLICE_US)])

    def _due_of_others(self, others: Sequence[Member], now: int) -> Iterator[Due]:
        slices = self._inside.plan(others, now).slices
        server = self._servers.get(REST)
        if slices and server is not None:
            budget = microseconds(server.budget)
            yield Due(server.deadline, server.since, budget, list(_cut(slices, budget)))
        elif slices:
            yield Due(NEVER, 0, MAX_SLICE_US, slices)


def _rest(others: Sequence[Member], now: int) -> Member:
    """Return those without a deadline as one, which is awake if one of them is; since when does not matter then."""
    awake = [each for each in others if not each.asleep]
    return Member(REST, "rest", asleep=not awake, since=0 if awake else now, used=sum(m.used for m in others))


def _reservation(member: Member, said: Mapping[str, Parameter]) -> tuple[int, int]:
    runtime, period = time(member, "runtime", said), time(member, "period", said)
    if runtime is None or period is None:
        raise ValueError(f"{member.name}: a runtime is of a period: say runtime=5ms period=20ms")
    if runtime < MIN_SLICE_US * 1000:
        raise ValueError(f"{member.name}: a runtime is at least {MIN_SLICE_US} us, not {runtime / 1000:g} us")
    return runtime, period


def _admit(parts: Mapping[str, float], most: float) -> None:
    """Raise ValueError if *parts* of the processor are more than *most* per cent of it."""
    if sum(parts.values()) * 100 > most + 1e-9:
        each = " + ".join(f"{name} {part:.1%}" for name, part in parts.items())
        raise ValueError(
            f"{each} = {sum(parts.values()):.1%} of the processor, and {most:g} % can be reserved"
        )


def _cut(slices: Sequence[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    """Yield the first of *slices*, as far as *length* goes: the last is no shorter than a slice may be."""
    for thread, whole in slices:
        if length <= 0:
            return
        yield thread, max(min(whole, length), MIN_SLICE_US)
        length -= whole
