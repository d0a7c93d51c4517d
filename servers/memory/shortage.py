"""Frames that are short: programs that have more than their share are asked for some, and requests wait for that.

When fewer frames are free than the low mark, families that have too many (`fair`) are asked to give back, again and
again until as many are free as the high mark says. Nothing is taken for that.

A request that would be refused for want of frames waits, if its family would have no more than its share. For it a
*round* begins: those that have too many are pressed, and at the deadline they lose what is missing. The family that
has least is served first, and of each only one request is looked at, however many wait. A server of the topology
does not wait: others would wait for it, and the reserve is its own.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kernel.abi.ids import FIRST_PROGRAM, thread_number
from kernel.abi.kip import Head
from libexo.errors import ExoError, GateClosed
from servers.memory.fair import Claim, asked_back, share
from servers.memory.policy import OutOfMemory

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.kip import EnvironmentRow
    from libexo.levels import Marks
    from libexo.stub import Server
    from servers.memory.api import Pressed
    from servers.memory.policy import Party, Quotas
    from servers.memory.pressing import Pressing

PATIENCE = 1.0
"""Seconds that a request waits beside the grace of two rounds: one may be under way that knows nothing of it."""
MOST, MOST_OF_FAMILY = 256, 16
"""Requests that wait, and those of one family."""
_LOOK = 0.02
"""Seconds between two looks whether there are frames; what families have is added up as seldom."""
ASK_AGAIN = 5.0
"""Seconds until it is asked again, below the low mark."""


class Asker(Protocol):
    """Who is to be answered later (`libexo.stub.call.Call`)."""

    def answer(self, result: object) -> None:
        """Answer it."""

    def fail(self, error: BaseException) -> None:
        """Refuse it."""


class Want(NamedTuple):
    """A request that waits."""

    asker: Asker
    row: "EnvironmentRow"
    pages: int
    do: Callable[["EnvironmentRow"], object]
    """Does it, once there are frames; raises MemoryRefused."""
    why: OutOfMemory
    until: int
    before: tuple[int, int, int]
    """What was asked for, given and taken when it began to wait."""


class Shortage:
    """The round under way, and the requests that wait."""

    def __init__(
        self,
        environment: "Environment",
        marks: "Marks",
        quotas: "Quotas",
        pressing: "Pressing",
        party: "Callable[[EnvironmentRow], Party]",
        check: "Callable[[EnvironmentRow, int], object]",
    ) -> None:
        """Press by *pressing*; *party* says what a party has, *check* raises MemoryRefused for what it may not."""
        self._environment = environment
        self.marks = marks
        self._quotas = quotas
        self._pressing = pressing
        self._party = party
        self._check = check
        self.server: Server
        """Whose alarms it uses."""
        self._waiting: dict[int, deque[Want]] = {}
        """By family, or the thread of one that is of none."""
        self._is_low = False
        """The low mark was reached, and the high one not again."""
        self._presses = 0
        """How many of the round under way are not over."""
        self._looks = False
        self._ask_again = 0
        """When those that have too many are asked again."""
        self._claims: tuple[int, list[Claim], dict[int, EnvironmentRow]] = (-1, [], {})
        """When they were added up, what families have, and a member of each."""
        self._done = (0, 0, 0)
        """Frames asked for, given back and taken, in all rounds."""

    def __len__(self) -> int:
        """The number of requests that wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def free(self) -> int:
        """How many frames are free."""
        return self._environment.kip.head(Head.FREE_FRAMES)

    # ------------------------------------------------------------------------------------------- requests

    def wait(
        self,
        asker: Asker,
        row: "EnvironmentRow",
        pages: int,
        do: "Callable[[EnvironmentRow], object]",
        why: OutOfMemory,
    ) -> None:
        """Have *do* done, and *asker* told, when others have given back. Raises *why*, or what says more."""
        if not self.marks.low or (not row.family and thread_number(row.thread) < FIRST_PROGRAM):
            raise why
        party = self._party(row)
        leave = self._quotas.leaves(party, pages)
        if self.free - pages >= leave:
            raise why  # there are enough, but not in a row
        then, own = self._then(party, pages), self._share(row, leave)
        if then > own:
            raise OutOfMemory(
                f"{why}; nobody is asked for more: {then} would be above the caller's share, {own}"
            )
        key = row.family or row.thread
        if len(self) >= MOST or len(self._waiting.get(key, ())) >= MOST_OF_FAMILY:
            raise OutOfMemory(f"{why}; {len(self)} requests wait for others to give back, and no more may")
        seconds = 2 * self.marks.grace + PATIENCE
        until = self._environment.host.now() + round(seconds * 1e9)
        self._waiting.setdefault(key, deque()).append(Want(asker, row, pages, do, why, until, self._done))
        self._attend()

    def _then(self, party: "Party", pages: int) -> int:
        """Return what the family of *party*, or it alone, would have; what it passed on counts."""
        had = next((each.frames for each in self._claimed()[0] if each.family == party.family), 0)
        return max(had, party.together) + pages

    def _share(self, row: "EnvironmentRow", leave: int) -> int:
        claims, _ = self._claimed()
        if row.family and all(claim.family != row.family for claim in claims):
            claims = [*claims, Claim(row.family, 0, 0)]
        together = share(claims, self.free, leave)
        return together if row.family else together * max(1, len(claims))

    # --------------------------------------------------------------------------------------------- rounds

    def look(self) -> None:
        """Serve what can be served; ask, and begin a round, where frames are short."""
        self._serve()
        self._attend()

    def _attend(self) -> None:
        free, now = self.free, self._environment.host.now()
        self._is_low = free < self.marks.low or (self._is_low and free < self.marks.high)
        if self._is_low and now >= self._ask_again and not self._presses:
            self._ask_again = now + round(ASK_AGAIN * 1e9)
            for row, kept in self._too_many(self.marks.high - free, self.marks.high):
                self._pressing.ask(row, kept, self.marks.grace)
        if self._waiting:
            if not self._presses:
                self._begin(free)
            self._look_soon()

    def _look_soon(self) -> None:
        if not self._looks:
            self._looks = True
            self.server.after(_LOOK, self._looked)

    def _looked(self) -> None:
        self._looks = False
        self.look()

    def _begin(self, free: int) -> None:
        """Press those that have too many for the requests that are served next."""
        heads = [wants[0] for wants in self._waiting.values()]
        leave = max(self._quotas.leaves(self._party(want.row), want.pages) for want in heads)
        wanted = leave + sum(want.pages for want in heads) - free
        operators = sum(
            want.pages for want in heads if not want.row.family
        )  # what they get no family can have
        found = self._too_many(wanted, leave + operators)
        self._presses = len(found)
        for row, kept in found:
            self._pressing.begin(row, kept, self.marks.grace, self._over, whole=True)

    def _too_many(self, wanted: int, leave: int) -> "list[tuple[EnvironmentRow, int]]":
        """Return of whom *wanted* frames are to come back, so that *leave* are free; and what they may keep."""
        claims, members = self._claimed()
        waiting = {wants[0].row.family for wants in self._waiting.values()} - {0}
        absent = waiting - {claim.family for claim in claims}
        own = share([*claims, *(Claim(family, 0, 0) for family in absent)], self.free, leave)
        keeps = asked_back(claims, own, wanted)
        asked, given, taken = self._done
        asked += sum(claim.frames - keeps.get(claim.family, claim.frames) for claim in claims)
        self._done = asked, given, taken
        return [(members[family], kept) for family, kept in keeps.items()]

    def _over(self, pressed: "Pressed") -> None:
        """One press of the round is over. It may be over before this server has begun the next one."""
        asked, given, taken = self._done
        self._done = (asked, given + pressed.given, taken + pressed.taken)
        self._presses -= 1
        self._claims = (-1, [], {})
        self._look_soon()

    def _claimed(self) -> "tuple[list[Claim], dict[int, EnvironmentRow]]":
        """Return what families had a moment ago, and of each a member, the first if it lives."""
        now = self._environment.host.now()
        if self._claims[0] < 0 or now - self._claims[0] >= _LOOK * 1e9:
            have: dict[int, int] = {}
            members: dict[int, EnvironmentRow] = {}
            counting = self._pressing.counting(self._pressing.paged(self._pressing.table()))
            for row in self._environment.kip.environments():
                if row.family:
                    have[row.family] = have.get(row.family, 0) + counting(row)
                    if row.is_first or row.family not in members:
                        members[row.family] = row
            quota = self._quotas.of_family
            claims = [Claim(family, frames, quota(family)) for family, frames in have.items() if frames]
            self._claims = now, claims, members
        return self._claims[1:]

    # --------------------------------------------------------------------------------------- serving

    def _serve(self) -> None:
        """Do what waits, the first of each family, as far as there are frames; refuse what waited too long."""
        now = self._environment.host.now()
        order = sorted(self._waiting, key=lambda key: self._party(self._waiting[key][0].row).together)
        for key in order:
            wants = self._waiting[key]
            if self._is_answered(wants[0], now):
                wants.popleft()
            if not wants:
                del self._waiting[key]

    def _is_answered(self, want: Want, now: int) -> bool:
        """Say whether *want* waits no more."""
        row = self._environment.kip.environment(want.row.number)
        if row is None or row.thread != want.row.thread:
            return True  # it has ended, and nobody waits
        if self.free < want.pages:
            return self._is_refused(want, now, want.why)
        try:
            self._check(row, want.pages)
            result = want.do(row)
        except OutOfMemory as why:
            return self._is_refused(want, now, why)
        except GateClosed:
            raise
        except ExoError as why:
            want.asker.fail(why)
        else:
            want.asker.answer(result)
        return True

    def _is_refused(self, want: Want, now: int, why: OutOfMemory) -> bool:
        leave = self._quotas.leaves(self._party(want.row), want.pages)
        if now < want.until and (self._presses or self.free - want.pages < leave):
            return False
        asked, given, taken = (after - before for after, before in zip(self._done, want.before, strict=True))
        seconds = 2 * self.marks.grace + PATIENCE - (want.until - now) / 1e9
        want.asker.fail(
            OutOfMemory(
                f"{why}; in {seconds:.1f} s others were asked for {asked} frames, gave {given}, and lost {taken}"
            )
        )
        return True
