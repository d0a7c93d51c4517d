"""Frames that programs are asked for, and what is taken from those that give too few.

A *press* is about one environment, or a family: how many frames it may keep, and until when it may choose. Each
member is told its part, by what it has. From then on it gets no more memory. When enough is back the press is over;
at the deadline what is missing is taken, of each member what is missing of its part, by its rules (`victims`).

A press that the death of this server ends is asked for again by its caller's stub, with a new deadline. It says
what they may keep, so asking twice takes nothing twice.
"""

from collections import deque
from typing import TYPE_CHECKING

from kernel.abi.traps import Revoke
from libexo.errors import TrapRefused
from libexo.pressure import NOWHERE, Named, Run
from servers.memory.api import Pressed, Taken
from servers.memory.paged import Paged, paged_by_servers, payer
from servers.memory.policy import QuotaExceeded
from servers.memory.victims import (
    Part,
    Victim,
    chosen,
    extents,
    first_of,
    shares,
    snapshot,
    spared_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from libexo.environment import Environment
    from libexo.kip import EnvironmentRow
    from libexo.stub import Server
    from servers.memory.families import Families
    from servers.memory.lent import Lent
    from servers.memory.pools import Pools
    from servers.memory.promised import Promised
    from servers.memory.shown import Shown

_LOOK = 0.02
"""Seconds between two looks whether enough is back."""
_PAUSE = 0.000_1
"""Seconds between two steps of taking: other requests are served meanwhile."""
_AT_ONCE = 16
"""Extents taken in a step."""
_ROUNDS = 4
"""How often what came to them meanwhile, from others, is taken too."""
_REMEMBERED = 64
"""Taken extents of one program that it can ask for."""


class Press:
    """One request: who is asked, and how far it is."""

    def __init__(
        self,
        row: "EnvironmentRow",
        keeps: int,
        until: int,
        done: "Callable[[Pressed], object]",
        *,
        whole: bool,
    ) -> None:
        """Have *row*'s environment, or the *whole* of its family, keep *keeps* frames, from *until* on."""
        self.row = row
        self.whole = whole
        self.keeps = keeps
        self.until = until
        self.done = done
        """Called when it is over."""
        self.parts: dict[int, Part] = {}
        """What each member was asked for, by thread."""
        self.paged: dict[int, Paged] = {}
        """What servers page for programs, by first frame."""
        self.before = 0
        """Frames they had."""
        self.taken = 0
        self.spared = 0
        self.extents: deque[Taken] = deque(maxlen=_REMEMBERED)
        self.rounds = 0

    def covers(self, row: "EnvironmentRow") -> bool:
        """Say whether *row*'s environment is asked."""
        return row.thread == self.row.thread or (self.whole and row.family == self.row.family)


class Pressing:
    """The presses under way, and what was taken."""

    def __init__(
        self,
        environment: "Environment",
        ram: int,
        families: "Families",
        pools: "Pools",
        lent: "Lent",
        promised: "Promised",
        shown: "Shown",
    ) -> None:
        """Take by the *pools* of the members, and by *ram*, which is to all of RAM, what they got from others.

        What a program had mapped and flushed is *lent* to it still, and counts; what is *promised* to it is not
        its own yet, and is withdrawn.
        """
        self._environment = environment
        self._ram = ram
        self._pools = pools
        self._families = families
        self._lent = lent
        self._promised = promised
        self._shown = shown
        self.server: Server
        """Whose alarms it uses."""
        self._presses: list[Press] = []
        self._taken: dict[int, deque[Taken]] = {}
        """By the thread that lost them."""

    def __len__(self) -> int:
        """The number of presses under way."""
        return len(self._presses)

    def taken(self, thread: int) -> list[Taken]:
        """Return what was taken from *thread*'s environment, newest last."""
        return list(self._taken.get(thread, ()))

    def check(self, row: "EnvironmentRow", frames: int) -> None:
        """Raise QuotaExceeded if *row*'s environment, which wants *frames* more, is asked to give back instead."""
        for press in self._presses:
            if press.covers(row):
                have = self._together(press, self._members(press))
                if have + frames > press.keeps:
                    raise QuotaExceeded(
                        f"{have} frames in use, {frames} more asked for: asked to have no more than {press.keeps}"
                    )

    def begin(
        self,
        row: "EnvironmentRow",
        keeps: int,
        seconds: float,
        done: "Callable[[Pressed], object]",
        *,
        whole: bool,
    ) -> None:
        """Ask *row*'s environment, or the *whole* of its family; call *done* when it is over."""
        until = self._environment.host.now() + round(seconds * 1e9)
        press = Press(row, keeps, until, done, whole=whole)
        members, table = self._members(press), self.table()
        self._pools.narrow(each.thread for each in members)
        press.paged = self.paged(table)
        press.before = self._together(press, members)
        parts = shares([(each.thread, self._frames(press, each)) for each in members], keeps)
        press.parts = {part.thread: part for part in parts}
        self._presses.append(press)
        self._tell(zip(members, parts, strict=True), table, seconds)
        self._look(press)

    def ask(self, row: "EnvironmentRow", keeps: int, seconds: float) -> None:
        """Tell the members of *row*'s family that they have more than *keeps*; nothing is taken."""
        members, table = self._families.members(row), self.table()
        counting = self.counting(self.paged(table))
        parts = shares([(each.thread, counting(each)) for each in members], keeps)
        self._tell(zip(members, parts, strict=True), table, seconds)

    def _tell(self, asked: "Iterable[tuple[EnvironmentRow, Part]]", table: str, seconds: float) -> None:
        for member, part in asked:
            first = first_of(table, member.number)
            if first >= 0 and part.frames > part.keeps:
                more = part.frames - part.keeps
                self._environment.sys.ask_back(self._ram, first, more, round(seconds * 1e6))

    def holds(self, row: "EnvironmentRow") -> int:
        """Return how many frames *row*'s environment has, or its family if it is the first of one."""
        members = self._families.members(row) if row.is_first else [row]
        return sum(map(self.counting(self.paged(self.table())), members))

    def counting(self, paged: "Mapping[int, Paged]") -> "Callable[[EnvironmentRow], int]":
        """Return what says how many frames an environment has, holds no more but may have again, or has *paged*."""
        there, of = self._environment.kip.extent_frames, dict[int, int]()
        for first, each in paged.items():
            if there(first) == each.frames:
                of[each.environment] = of.get(each.environment, 0) + each.frames
        return lambda row: row.frames + self._lent.unheld(row) + of.get(row.number, 0)

    def forget_dead(self) -> None:
        """Forget what was taken from programs that have ended."""
        living = {row.thread for row in self._environment.kip.environments()}
        self._taken = {thread: taken for thread, taken in self._taken.items() if thread in living}

    def _members(self, press: Press) -> "list[EnvironmentRow]":
        """Return the members as they are now."""
        row, kip = press.row, self._environment.kip
        found = self._families.members(row) if press.whole else [row]
        fresh = (kip.environment(each.number) for each in found)
        return [
            now
            for now, each in zip(fresh, found, strict=True)
            if now is not None and now.thread == each.thread
        ]

    def _frames(self, press: Press, member: "EnvironmentRow") -> int:
        return self.counting(press.paged)(member)

    def _together(self, press: Press, members: "Iterable[EnvironmentRow]") -> int:
        return sum(map(self.counting(press.paged), members))

    def table(self) -> str:
        """Return whose each frame is, as `victims.extents` reads it."""
        return snapshot(self._environment.kip.frame_users())

    def paged(self, table: str) -> dict[int, Paged]:
        """Return what servers page for programs."""
        return paged_by_servers(self._environment.kip, table)

    # -------------------------------------------------------------------------------------------------- the end

    def _look(self, press: Press) -> None:
        """Go on with *press*: it is over, it waits, or what is missing is taken."""
        members = self._members(press)
        missing = self._together(press, members) - press.keeps
        left = (press.until - self._environment.host.now()) / 1e9
        if missing <= 0 or press.rounds == _ROUNDS:
            self._presses.remove(press)
            have, lost = press.keeps + missing, list(press.extents)
            given = max(0, press.before - have - press.taken)
            press.done(Pressed(have, given, press.taken, press.spared, lost))
        elif left > 0:
            self.server.after(min(left, _LOOK), lambda: self._look(press))
        else:
            press.rounds += 1
            press.spared = 0
            self._promised.withdraw(members)
            self._step(press, self._take(press, members, missing))

    def _step(self, press: Press, steps: "Generator[None, None, None]") -> None:
        if next(steps, steps) is steps:
            self._look(press)
        else:
            self.server.after(_PAUSE, lambda: self._step(press, steps))

    def _take(
        self, press: Press, members: "Sequence[EnvironmentRow]", missing: int
    ) -> "Generator[None, None, None]":
        """Take *missing* frames: of each member what is missing of its part, most first."""
        table = self.table()
        press.paged = self.paged(table)
        over = [(self._frames(press, each) - _keeps(press, each), each) for each in members]
        for lacks, member in sorted(over, key=lambda each: each[0], reverse=True):
            if missing <= 0 or lacks <= 0:
                return
            flushed = [Named(piece.first, piece.length) for piece in self._lent.flushed(member)]
            own = extents(table, self._environment.kip.extent_frames, member.number)
            paged = [
                Run(at, each.frames) for at, each in press.paged.items() if each.environment == member.number
            ]
            have = sorted([*own, *paged, *(Run(*each[:2]) for each in flushed)])
            rules = self._shown.rules(member.thread)
            rules = rules._replace(first=(*flushed, *rules.first))
            keeps = _keeps(press, member)
            press.spared += sum(spared_of(have, rules, keeps).values())
            for group in _groups(chosen(have, rules, min(lacks, missing), keeps)):
                missing -= sum(victim.length for victim in group)
                first, _, place = group[0]
                saved = place != NOWHERE and (yield from self._shown.save(member.thread, first, place))
                self._take_away(press, member, group, saved=saved)
                yield

    def _take_away(
        self, press: Press, member: "EnvironmentRow", group: "list[Victim]", *, saved: bool
    ) -> None:
        """Take extents; what the host could not take is tried again in the next round."""
        theirs = [victim for victim in group if self._is_theirs(press, member, victim)]
        pool = self._pools.known.get(member.thread)
        taken = self._revoke(pool.handle, theirs) if pool is not None else {}
        left = [victim for victim in theirs if victim.first not in taken]
        taken |= self._take_of_others(press, member, left) if left else {}
        remembered = self._taken.setdefault(member.thread, deque(maxlen=_REMEMBERED))
        for victim in theirs:
            if frames := taken.get(victim.first, 0):
                press.taken += frames
                lost = Taken(victim.first, frames, victim.place if saved else NOWHERE)
                remembered.append(lost)
                press.extents.append(lost)

    def _revoke(self, ram: int, group: "Iterable[Victim]") -> dict[int, int]:
        """Take those of *group* that were carved below *ram*; return their frames, by the first one."""
        asked = [victim.first for victim in group]
        answers, _ = self._environment.sys.batch([Revoke(ram, first=first) for first in asked])
        return {
            first: frames
            for first, frames in zip(asked, answers, strict=True)
            if frames and not isinstance(frames, TrapRefused)
        }

    def _take_of_others(
        self, press: Press, member: "EnvironmentRow", group: "list[Victim]"
    ) -> dict[int, int]:
        """Take what was carved by this server, or for others that passed it on to *member*.

        An extent is named by its first frame. So that no other one can begin there before it is taken, nobody may
        carve meanwhile: all promises are withdrawn first, and only then it is looked whose the extents are.
        """
        self._pools.narrow_all()
        found, given = dict[int, int](), list[Victim]()
        for victim in group:
            if not self._is_theirs(press, member, victim):
                continue
            pieces = self._lent.overlapping(victim.first, 1)
            if pieces:
                self._lent.take_back(pieces[0])
                found[victim.first] = victim.length
            else:
                given.append(victim)
        return found | (self._revoke(self._ram, given) if given else {})

    def _is_theirs(self, press: Press, member: "EnvironmentRow", victim: Victim) -> bool:
        """Say whether what was chosen is still *member*'s: it may have been given back, and be another's."""
        kip, first = self._environment.kip, victim.first
        now = kip.environment(member.number)
        if now is None or now.thread != member.thread or kip.extent_frames(first) != victim.length:
            return False
        if kip.frame_users()[first] - 1 == member.number:
            return True
        if first in press.paged:
            row = kip.extent(first)
            return row is not None and row.paged and payer(row) == member.number
        return any(self._lent.belongs(piece, member) for piece in self._lent.overlapping(first, 1))


def _groups(victims: "Iterable[Victim]") -> "Iterator[list[Victim]]":
    """Yield *victims* as they are taken together: one that is to be saved by itself."""
    group: list[Victim] = []
    for victim in victims:
        if group and (len(group) == _AT_ONCE or max(victim.place, group[0].place) > NOWHERE):
            yield group
            group = []
        group.append(victim)
    if group:
        yield group


def _keeps(press: Press, member: "EnvironmentRow") -> int:
    """Return what *member* may keep; one that came since, nothing."""
    part = press.parts.get(member.thread)
    return part.keeps if part is not None else 0
