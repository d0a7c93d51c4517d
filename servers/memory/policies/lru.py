"""Least recently used: the page that was not used for longest goes first (R. L. Mattson et al., 1970).

It is exact where every use is seen. Where uses are seen by samples, the order of those of one sample is not known:
the misses on top of the exact ones are its excess.
"""

from collections.abc import Iterator
from typing import ClassVar

from servers.memory.policies.fifo import Fifo


class Lru(Fifo):
    """A queue in which what is used goes to the end."""

    name: ClassVar[str] = "lru"
    samples: ClassVar[bool] = True

    def referenced(self, page: int) -> None:
        """Put it last."""
        self._pages.move_to_end(page)

    def victims(self) -> Iterator[int]:
        """Yield the least recently used first."""
        return super().victims()
