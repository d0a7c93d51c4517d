"""Which pages of an object were used, loads counted, by the looks that a pager takes at them."""

from kernel.abi.errors import Refusal
from kernel.abi.traps import PageState
from libexo.errors import TrapRefused
from libexo.pager import PagedObject

_SUPPLIED, _IDLE = int(PageState.SUPPLIED), int(PageState.IDLE)


class Uses:
    """The pages that aged since they came: of the others a look says nothing, for to come is no use."""

    def __init__(self) -> None:
        """Begin with none."""
        self._aged: set[int] = set()

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
