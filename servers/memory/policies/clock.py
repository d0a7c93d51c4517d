"""CLOCK, or second chance: what was used since the hand came by stays for a round (F. J. Corbató, 1968).

It costs a bit a page, and nothing at a use but to set it.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import ClassVar

from servers.memory.policies.policy import Policy


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
        """Turn the hand, twice round at most, and yield what was not used."""
        for _ in range(2 * len(self._pages)):
            page, used = next(iter(self._pages.items()))
            if not used:
                yield page
            self._pages[page] = False
            self._pages.move_to_end(page)

    def removed(self, page: int) -> None:
        """Forget it."""
        del self._pages[page]
