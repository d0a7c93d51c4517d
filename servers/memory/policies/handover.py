"""A policy that is being replaced: its successor takes over the pages some at a time."""

from collections.abc import Iterator
from itertools import chain, islice

from servers.memory.policies.policy import Policy


class Handover(Policy):
    """Two policies: pages go from the one before to the one after, in the order in which they would have gone.

    New pages join those that are still to be handed over, so their order stays. Where more are handed over at a
    step than come between two steps, there is an end to it.
    """

    def __init__(self, before: Policy, after: Policy) -> None:
        """Begin with all pages at the one *before*."""
        super().__init__(after.frames)
        self.before, self.after = before, after

    def step(self, most: int) -> bool:
        """Hand over *most* pages; say whether that were all, and the one after can go on alone."""
        for page, used in list(islice(self.before.standing(), most)):
            self.before.removed(page)
            self.after.inserted(page)
            if used:
                self.after.referenced(page)
        return next(self.before.standing(), None) is None

    def inserted(self, page: int) -> None:
        """Queue it for being handed over."""
        self.before.inserted(page)

    def referenced(self, page: int) -> None:
        """Tell the one that has it."""
        self._of(page).referenced(page)

    def victims(self) -> Iterator[int]:
        """Yield those that were handed over, then the others: they would have gone in that order."""
        return chain(self.after.victims(), self.before.victims())

    def removed(self, page: int) -> None:
        """Tell the one that has it."""
        self._of(page).removed(page)

    def __contains__(self, page: int) -> bool:
        """Say whether one of them has it."""
        return page in self.before or page in self.after

    def _of(self, page: int) -> Policy:
        return self.before if page in self.before else self.after
