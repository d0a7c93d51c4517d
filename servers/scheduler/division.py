"""How a family's part of a processor is divided, where its head says it: slices, walked by what is used. Pure.

The kernel walks plans, in which a family has a slice now and then. Inside those, this goes through the head's list
of slices, round and round. It goes by the CPU time that the members used, not by what was planned for them: a slice
is over when its member has used it, and what it used beyond comes off its next one.
So the order holds, and the sums do, however often plans are made anew.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Protocol

from kernel.abi.limits import MIN_SLICE_US

Slices = list[tuple[int, int]]
_US = 1000
OWN = 4
"""The head that divides, and does not name itself, has one part in so many while it is awake, to divide again."""


class Member(Protocol):
    """A member of the family."""

    @property
    def thread(self) -> int:
        """Its first thread."""

    @property
    def asleep(self) -> bool:
        """Whether it sleeps."""


class Walk:
    """A walk through the slices of one family, under one processor."""

    def __init__(self, author: int, slices: Sequence[tuple[int, int]]) -> None:
        """Begin at the first of *slices*, threads and microseconds, as *author* says."""
        self.author = author
        self._slices = [(thread, 1000 * length) for thread, length in slices]
        self.parts: dict[int, int] = {}
        """What each has in a round, in ns."""
        for thread, length in self._slices:
            self.parts[thread] = self.parts.get(thread, 0) + length
        self._ahead = list(enumerate(self._slices))
        """What is left of this round, by the place in it, in ns."""
        self._debts: dict[int, int] = {}
        """What members used beyond their slices, in ns: a round's at most."""
        self._consumed: dict[int, int] = {}

    def read(self, consumed: Mapping[int, int], awake: Collection[int]) -> None:
        """Go on by what members have *consumed* since the last time; a round is over when none *awake* is left."""
        for thread, used in consumed.items():
            self.spend(thread, used - self._consumed.get(thread, used))
        self._consumed = dict(consumed)
        if self.serves(awake):
            while not any(thread in awake for _, (thread, _) in self._ahead):
                self._ahead = self._round(self._debts)

    def spend(self, thread: int, used: int) -> None:
        """Take what *thread* used, in ns, off its slices."""
        if thread not in self.parts:
            return
        ahead, self._ahead = self._ahead, []
        for at, (whose, left) in ahead:
            taken = min(left, used) if whose == thread else 0
            used -= taken
            if taken < left:
                self._ahead.append((at, (whose, left - taken)))
        self._debts[thread] = min(self._debts.get(thread, 0) + used, self.parts[thread])

    def _round(self, debts: dict[int, int]) -> list[tuple[int, tuple[int, int]]]:
        """Return another round, less what was used in advance, which is taken off *debts*."""
        slices = []
        for at, (thread, length) in enumerate(self._slices):
            owed = min(debts.get(thread, 0), length)
            debts[thread] = debts.get(thread, 0) - owed
            if owed < length:
                slices.append((at, (thread, length - owed)))
        return slices

    def serves(self, awake: Collection[int]) -> bool:
        """Say whether any of those *awake* has a slice."""
        return any(thread in awake for thread in self.parts)

    def round_us(self, awake: Collection[int]) -> int:
        """Return how long a round of those *awake* is, in microseconds."""
        return sum(length for thread, length in self.parts.items() if thread in awake) // 1000

    def _follow(self, awake: Collection[int]) -> Iterator[tuple[int, float]]:
        """Yield what comes next, for ever, in ns."""
        ahead, debts = self._ahead, dict(self._debts)
        while True:
            yield from (each for _, each in ahead if each[0] in awake)
            ahead = self._round(debts)

    def _rounds(self, awake: Collection[int], whole: int) -> Iterator[tuple[int, float]]:
        """Yield as many rounds as are about *whole* us, stretched to that, again and again; first who is next."""
        first = next((at for at, (thread, _) in self._ahead if thread in awake), 0)
        turned = self._slices[first:] + self._slices[:first]
        scale = whole / (self.round_us(awake) * max(1, whole // self.round_us(awake)))
        return cycle([(thread, length * scale) for thread, length in turned if thread in awake])

    def fill(
        self, lengths: Sequence[int], members: Sequence[Member], *, repeats: bool = False
    ) -> list[Slices]:
        """Return slices for each of the family's, which have *lengths*, that are as long together.

        If the plan *repeats*, they are whole rounds. Sleepers have one for when they wake, which costs nobody time.
        """
        awake = {each.thread for each in members if not each.asleep}
        filled = [self._own(at, whole, awake) for at, whole in enumerate(lengths)]
        rests = [whole - sum(length for _, length in own) for whole, own in zip(lengths, filled, strict=True)]
        follows = self._rounds(awake, max(sum(rests), 1)) if repeats else self._follow(awake)
        owed: dict[int, float] = {}
        thread, left = next(follows)
        for slices, whole in zip(filled, rests, strict=True):
            rest = whole
            while rest > 0:
                length = max(min(round(left / 1000), rest), MIN_SLICE_US)
                length = length if rest - length >= MIN_SLICE_US else rest
                _append(slices, thread, length)
                rest, left = rest - length, left - 1000 * length
                while left < _US:
                    owed[thread] = -left
                    thread, left = next(follows)
                    left -= owed.pop(thread, 0)
        if filled:
            filled[0][:0] = self._sleepers(lengths[0], members)
        return filled

    def _own(self, at: int, whole: int, awake: Collection[int]) -> Slices:
        """Return the slice of the author in the family's slice of that number."""
        if self.author not in awake or self.author in self.parts:
            return []
        if whole < OWN * MIN_SLICE_US:
            return [] if at % OWN else [(self.author, whole)]
        return [(self.author, whole // OWN)]

    def _sleepers(self, whole: int, members: Sequence[Member]) -> Slices:
        return [
            (
                each.thread,
                max(min(self.parts.get(each.thread, 1000 * whole) // 1000, whole // OWN), MIN_SLICE_US),
            )
            for each in members
            if each.asleep and (each.thread in self.parts or each.thread == self.author)
        ]


def _append(slices: Slices, thread: int, length: int) -> None:
    if slices and slices[-1][0] == thread:
        length += slices.pop()[1]
    slices.append((thread, length))
