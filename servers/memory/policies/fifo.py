"""First in, first out: the page that came first goes first, used or not (L. A. Belady, 1966, has its price)."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import ClassVar

from servers.memory.policies.policy import Policy


class Fifo(Policy):
    """A queue."""

    name: ClassVar[str] = "fifo"
    samples: ClassVar[bool] = False

    def __init__(self, frames: int) -> None:
        """Begin with no page."""
        super().__init__(frames)
        self._pages: OrderedDict[int, None] = OrderedDict()

    def inserted(self, page: int) -> None:
        """Put it last."""
        self._pages[page] = None

    def victims(self) -> Iterator[int]:
        """Yield the oldest first."""
        return iter(self._pages)

    def removed(self, page: int) -> None:
        """Forget it."""
        del self._pages[page]

    def __contains__(self, page: int) -> bool:
        """Say whether it is in the queue."""
        return page in self._pages
