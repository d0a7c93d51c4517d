"""Multilevel feedback: F. J. Corbató, 1962; the rules of *Operating Systems: Three Easy Pieces*, chapter 8."""

from collections.abc import Sequence

from libexo.sched import MAX_SLICES, QUANTUM, Member, Plan, microseconds

MAX_LEVELS = 8


class Feedback:
    """Who has used up its allotment on a level goes down one; those on the highest level that are awake go in turn.

    Everyone begins on the highest, and is there again after `boost`: so nobody starves, and what changes is seen.
    A level's slices are twice as long as those above.
    """

    name = "feedback"

    def __init__(
        self, levels: int = 3, quantum: int = QUANTUM * 1000, allotment: int = 2, boost: int = 1_000_000_000
    ) -> None:
        """Have so many *levels*, of *allotment* slices each, the shortest *quantum* ns; *boost* is ns of the clock.

        Raises ValueError.
        """
        if not 1 <= levels <= MAX_LEVELS or allotment < 1 or boost < 1:
            raise ValueError(f"levels are 1 to {MAX_LEVELS}, allotment and boost at least 1")
        self._levels, self._quantum, self._allotment, self._boost = levels, quantum, allotment, boost
        self._places: dict[int, tuple[int, int]] = {}
        """Level of each, and its CPU time when it came there."""
        self._boosted = 0

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return a round of the highest level that is awake, those first that had least on it."""
        if now - self._boosted >= self._boost:
            self._boosted = now
            self._places = {}
        self._places = {each.thread: self._place(each) for each in members}
        levels = {each.thread: self._places[each.thread][0] for each in members}
        highest = min((levels[each.thread] for each in members if not each.asleep), default=0)
        in_turn = sorted(
            (each for each in members if levels[each.thread] == highest and not each.asleep),
            key=lambda each: each.used - self._places[each.thread][1],
        )
        slices = [(each.thread, self._slice(highest)) for each in in_turn]
        alone = sum(not each.asleep for each in members) == 1
        return Plan(slices) if alone else Plan.once(slices[:MAX_SLICES])

    def _place(self, member: Member) -> tuple[int, int]:
        level, before = self._places.get(member.thread, (0, member.used))
        while level < self._levels - 1 and member.used - before >= self._allotment * (self._quantum << level):
            before += self._allotment * (self._quantum << level)
            level += 1
        return level, before

    def _slice(self, level: int) -> int:
        return microseconds(self._quantum << level)
