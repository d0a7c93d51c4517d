"""Which pages of an object were used, loads counted, by the looks that a pager takes at them."""

from collections.abc import Iterator

from kernel.abi.errors import Refusal
from kernel.abi.limits import MAX_RUN
from kernel.abi.traps import PageState
from libexo.errors import TrapRefused
from libexo.pager import PagedObject

_SUPPLIED, _IDLE = int(PageState.SUPPLIED), int(PageState.IDLE)
_MOST_LOOKS = 8
"""Runs that are looked at for one sample: each takes two traps."""


class Uses:
    """Samples of an object with so many frames, one in as many evictions as make half of them."""

    def __init__(self, frames: int) -> None:
        """Begin with no page."""
        self._often = min(frames, MAX_RUN)
        self._next = self._passed = 0
        """The page that is looked at next, and how many went since the last sample."""
        self._aged: set[int] = set()
        """Pages that aged since they came: of the others a look says nothing, for to come is no use."""

    def sample(self, paged: PagedObject) -> Iterator[tuple[range, list[int]]]:
        """Yield runs to look at now, if it is time, and what is there of each: so many pages as half go meanwhile.

        So each page that stays is looked at twice and more before it goes.
        """
        if self._passed < self._often // 2:
            return
        self._passed = found = 0
        for _ in range(min(_MOST_LOOKS, -(-paged.pages // MAX_RUN))):
            run = range(self._next, min(self._next + MAX_RUN, paged.pages))
            self._next = run.stop % paged.pages
            there = [page for page in run if paged.known(page) & _SUPPLIED]
            if there:
                yield run, there
            found += len(there)
            if found >= self._often:
                return

    def look(self, paged: PagedObject, run: range) -> set[int] | None:
        """Return which pages of *run* were used since the last look; None where the host does not show that.

        Raises TrapRefused when *paged* is not ours any more.
        """
        try:
            states = paged.age(run.start, len(run))
        except TrapRefused as refused:
            if refused.refusal != Refusal.HOST_FULL:
                raise
            return None
        there = {page for page, state in zip(run, states, strict=True) if state & _SUPPLIED}
        used = {page for page in there & self._aged if not states[page - run.start] & _IDLE}
        self._aged |= there
        return used

    def gone(self, pages: list[int]) -> None:
        """*pages* are not there any more."""
        self._aged.difference_update(pages)
        self._passed += len(pages)
