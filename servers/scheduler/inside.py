"""Families that divide their part themselves: who says how, and which heads wait to hear of their members.

The first program of a family says how (`Scheduler.divide`), with a policy of its own perhaps (`libexo.inside`), and
waits until something has changed (`Scheduler.changed`). Nobody else is asked: others have what they had. A division
ends with its author. It is not kept in the estate, for the author says it again to the next server.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from kernel.abi.ids import show_thread, thread_number
from kernel.abi.kip import EnvironmentState
from kernel.abi.limits import MAX_SLICE_US, MAX_SLICES, MIN_SLICE_US
from libexo.environment import Environment
from libexo.kip import EnvironmentRow
from libexo.stub import Call
from servers.scheduler.accounts import Accounts
from servers.scheduler.division import Walk
from servers.scheduler.policy import Candidate
from servers.scheduler.settings import NotAllowed, Settings, ShareRefused

APART = 10_000_000
"""Nanoseconds between two divisions of one family that are planned, and between two answers to its head."""
Members = frozenset[tuple[int, bool]]
"""Who is there of a family, and sleeps."""


class BadDivision(ShareRefused):
    """The slices are none that can be planned."""


class Server(Protocol):
    """What is needed of the scheduler server."""

    environment: Environment

    def row_of(self, thread: int) -> EnvironmentRow | None:
        """Return the environment of a thread."""

    def settings(self, thread: int) -> Settings:
        """Return the settings of the environment of a first thread."""


class _Family:
    """One whose head divides, or waits."""

    def __init__(self, author: int, count: int) -> None:
        self.author = author
        self.slices: Sequence[tuple[int, int]] = ()
        self.walks: dict[int, Walk] = {}
        """By processor."""
        self.is_new = False
        """They are in no plan yet."""
        self.planned = 0
        """When its last division was planned, in ns."""
        self.members: Members = frozenset()
        self.count = count
        """Another number than before: something has changed."""
        self.answered = 0
        self.waits: tuple[Call, int, int] | None = None
        """A request, what it has seen, and until when it waits."""

    def due(self) -> int:
        """Return when its head is to be answered; 0: nobody waits."""
        if self.waits is None:
            return 0
        _, seen, until = self.waits
        return min(until, self.answered + APART) if seen != self.count else until

    def answer(self, now: int) -> None:
        """Answer, as is due."""
        if self.waits is not None and self.due() <= now:
            call, self.waits, self.answered = self.waits[0], None, now
            call.answer(self.count)


class Inside:
    """All families that divide their part themselves."""

    def __init__(self, server: Server) -> None:
        """Know of none."""
        self._server = server
        self._families: dict[int, _Family] = {}

    def divide(self, caller: int, slices: Sequence[tuple[int, int]]) -> None:
        """Have the family of *caller* divided by *slices* in its next plan. Raises NotAllowed, BadDivision."""
        number, author = self._head(caller)
        rows = self._server.environment.kip.environments()
        living = {row.thread for row in rows if row.cpu >= 0 and self._family_of(row) == number}
        for thread, length in slices:
            if not MIN_SLICE_US <= length <= MAX_SLICE_US:
                raise BadDivision(
                    f"{show_thread(thread)} is given {length} us, not {MIN_SLICE_US} to {MAX_SLICE_US}"
                )
            if thread not in living:
                raise BadDivision(f"{show_thread(thread)} is no program of this family: it may have ended")
        if len(slices) > MAX_SLICES:
            raise BadDivision(f"there are {len(slices)} slices, at most {MAX_SLICES} fit")
        family = self._known(number, author)
        family.slices, family.walks, family.is_new = slices, {}, True

    def changed(self, call: Call, seen: int, microseconds: int) -> None:
        """Answer *call* when something has changed since *seen*, or after so long. Raises NotAllowed."""
        number, author = self._head(call.sender)
        family, now = self._known(number, author), self._server.environment.host.now()
        if family.waits is not None:
            family.waits[0].answer(family.count)
        family.waits = call, seen, now + max(microseconds * 1000, APART)
        family.answer(now)

    def update(self, candidates: Mapping[int, Sequence[Candidate]], now: int) -> None:
        """Take in who is there now, by processor; answer heads that wait for that; forget those that are gone."""
        kip = self._server.environment.kip
        for number, family in list(self._families.items()):
            if kip.thread(family.author) is None:
                del self._families[number]
                continue
            members = frozenset(
                (each.thread, each.asleep)
                for found in candidates.values()
                for each in found
                if each.family == number and each.thread != family.author
            )
            family.count += members != family.members
            family.members = members
            family.answer(now)

    def walks(self, cpu: int, found: Sequence[Candidate], accounts: Accounts, now: int) -> dict[int, Walk]:
        """Return the walks of families under processor *cpu*, as far as their members have come."""
        walks: dict[int, Walk] = {}
        here = {each.thread for each in found if not each.asleep}
        for number, family in self._families.items():
            if family.is_new:
                family.is_new, family.planned = False, now
            if family.slices:
                if cpu not in family.walks:
                    family.walks[cpu] = Walk(family.author, family.slices)
                walks[number] = family.walks[cpu]
                walks[number].read(accounts.programs(number), here)
        return walks

    def rest(self, cpu: int, rows: Sequence[EnvironmentRow]) -> tuple[int, int]:
        """Return the family whose slice is walked under *cpu*, and how many µs of it are planned after who runs."""
        plan = self._server.environment.kip.plans()[cpu]
        families = {row.number: self._family_of(row) for row in rows}
        sleeps = {row.number for row in rows if row.state is EnvironmentState.BLOCKED}
        at = plan.begun or len(plan.slices)
        if not at:
            return 0, 0
        family, rest = families.get(plan.slices[at - 1][0], 0), 0
        for number, length in (*plan.slices[at:], *plan.slices[: at - 1]):
            if families.get(number) != family:
                break
            rest += length if number not in sleeps else 0
        return family, rest

    def charge(self, number: int, thread: int, idle: int) -> None:
        """Take what *thread* had the processor for, and slept, off its slices."""
        if number in self._families:
            for walk in self._families[number].walks.values():
                walk.spend(thread, idle)

    def due(self) -> list[int]:
        """Return when plans are to be made anew, or heads answered."""
        families = self._families.values()
        waiting = [at for family in families if (at := family.due())]
        return waiting + [family.planned + APART for family in families if family.is_new]

    def _head(self, caller: int) -> tuple[int, int]:
        """Return the family of *caller*, and its first thread. Raises NotAllowed."""
        row = self._server.row_of(caller)
        number = self._family_of(row) if row is not None else 0
        if row is None or not row.family or thread_number(row.thread) != thread_number(number):
            raise NotAllowed("the first program of a family divides its part, and hears of its members")
        return number, row.thread

    def _family_of(self, row: EnvironmentRow) -> int:
        return self._server.settings(row.thread).family or row.thread

    def _known(self, number: int, author: int) -> _Family:
        known = self._families.get(number)
        if known is None or known.author != author:
            unseen = self._server.environment.host.now()  # by anybody, also of the server before this one
            known = self._families[number] = _Family(author, unseen)
        return known
