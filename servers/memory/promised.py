"""Extents that were granted in answers, and may not have been accepted yet.

The server carves an extent, and offers it in its answer. Until its caller accepts the offer, the extent is
the server's: it counts against the caller's quota nevertheless, and goes back to RAM when the caller ends, or
when the offer has fallen unaccepted.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from kernel.abi.budget import OFFER_LIFE_NS
from kernel.abi.kip import EnvironmentState
from kernel.abi.limits import MAX_BATCH, MAX_OFFERS
from kernel.abi.traps import Drop
from servers.memory.lent import Owner

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.kip import EnvironmentRow


class Promise(NamedTuple):
    """An extent on offer."""

    handle: int
    pages: int
    until: int
    """When its offer falls, by the clock of the host."""


class Promised:
    """The extents on offer, by receiver."""

    def __init__(self, environment: "Environment") -> None:
        """Start with none: a predecessor's offers fell when it ended."""
        self._environment = environment
        self._of: dict[Owner, list[Promise]] = {}

    def __len__(self) -> int:
        """The number of extents."""
        return sum(map(len, self._of.values()))

    def add(self, row: "EnvironmentRow", handle: int, pages: int) -> None:
        """Note an extent offered to *row*'s environment."""
        until = self._environment.host.now() + OFFER_LIFE_NS
        promises = self._of.setdefault(Owner(row.number, row.started), [])
        promises.append(Promise(handle, pages, until))
        if len(promises) > 2 * MAX_OFFERS:
            self.review()

    def frames(self, row: "EnvironmentRow") -> int:
        """Return the frames that *row*'s environment was promised, and may have accepted since `review`."""
        return sum(promise.pages for promise in self._of.get(Owner(row.number, row.started), ()))

    def withdraw(self, rows: "Iterable[EnvironmentRow]") -> None:
        """Give up what is on offer to the environments *rows*, and was not accepted yet."""
        promises = [each for row in rows for each in self._of.pop(Owner(row.number, row.started), ())]
        self._give_up(self._still_ours(promises))

    def _give_up(self, promises: Iterable[Promise]) -> None:
        lost = [Drop(promise.handle) for promise in promises]
        for first in range(0, len(lost), MAX_BATCH):
            self._environment.sys.batch(lost[first : first + MAX_BATCH])

    def review(self) -> None:
        """Forget accepted extents; give up those nobody can accept any more: too many, too old, or the dead's."""
        rows, now = self._environment.kip.environments(), self._environment.host.now()
        living = {Owner(row.number, row.started) for row in rows if row.state != EnvironmentState.DEAD}
        before, self._of = self._of, {}
        lost = []
        for owner, promises in before.items():
            ours = list(self._still_ours(promises))
            for number, promise in enumerate(reversed(ours)):
                stands = number < MAX_OFFERS and now < promise.until
                if owner in living and stands:
                    self._of.setdefault(owner, []).insert(0, promise)
                else:
                    lost.append(promise)
        self._give_up(lost)

    def _still_ours(self, promises: list[Promise]) -> Iterator[Promise]:
        found = self._environment.sys.inspections(promise.handle for promise in promises)
        return (promise for promise in promises if promise.handle in found)
