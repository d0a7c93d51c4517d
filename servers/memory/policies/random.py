"""Random: any page goes. What a policy is worth is what it saves beside this one (L. A. Belady, 1966).

Its numbers are G. Marsaglia's xorshift (2003), from a seed: the same traces have the same misses.
"""

from collections.abc import Iterator
from typing import ClassVar

from servers.memory.policies.policy import Policy

_SEED, _BITS = 88172645463325252, (1 << 64) - 1


class Random(Policy):
    """Pages in a list, so that each is drawn as fast."""

    name: ClassVar[str] = "random"
    samples: ClassVar[bool] = False

    def __init__(self, frames: int) -> None:
        """Begin with no page."""
        super().__init__(frames)
        self._pages: list[int] = []
        self._at: dict[int, int] = {}
        """Where each page is in the list."""
        self._number = _SEED

    def inserted(self, page: int) -> None:
        """Put it last."""
        self._at[page] = len(self._pages)
        self._pages.append(page)

    def victims(self) -> Iterator[int]:
        """Yield one that was drawn, and then those behind it."""
        count, start = len(self._pages), self._draw()
        return (self._pages[(start + at) % count] for at in range(count))

    def removed(self, page: int) -> None:
        """Put the last one in its place."""
        at, last = self._at.pop(page), self._pages.pop()
        if last != page:
            self._pages[at], self._at[last] = last, at

    def __contains__(self, page: int) -> bool:
        """Say whether it is in the list."""
        return page in self._at

    def _draw(self) -> int:
        self._number ^= self._number << 13 & _BITS
        self._number ^= self._number >> 7
        self._number ^= self._number << 17 & _BITS
        return self._number
