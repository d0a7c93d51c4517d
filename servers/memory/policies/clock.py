"""CLOCK, or second chance: what was used since the hand came by stays for a round (F. J. Corbató, 1968).

It costs a bit a page, and nothing at a use but to set it.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import ClassVar

from servers.memory.policies.policy import Policy

MOST_PASSED = 1024
"""Used pages that the hand passes for one victim: one that uses all it has keeps no other waiting for that."""


class Clock(Policy):
    """A ring: the hand is at its first page, and what it has passed is at the end."""

    name: ClassVar[str] = "clock"

    def __init__(self, frames: int) -> None:
        """Begin with no page."""
        super().__init__(frames)
        self._pages: OrderedDict[int, bool] = OrderedDict()
        """Whether each was used since the hand was there."""

    def inserted(self, page: int) -> None:
        """Put it behind the hand."""
        self._pages[page] = False

    def referenced(self, page: int) -> None:
        """Give it another round."""
        self._pages[page] = True

    def victims(self) -> Iterator[int]:
        """Turn the hand, twice round at most, and yield what was not used, or what comes after many that were."""
        passed = 0
        for _ in range(2 * len(self._pages)):
            page, used = next(iter(self._pages.items()))
            passed += used
            if not used or passed > MOST_PASSED:
                yield page
            self._pages[page] = False
            self._pages.move_to_end(page)

    def removed(self, page: int) -> None:
        """Forget it."""
        del self._pages[page]

    def __contains__(self, page: int) -> bool:
        """Say whether it is in the ring."""
        return page in self._pages

    def standing(self) -> Iterator[tuple[int, bool]]:
        """Yield the ring as it lies, from the hand on."""
        return iter(self._pages.items())
