"""The memory server's decisions: who may have how much. Pure: plain numbers in, a yes or an error out."""

from collections.abc import Mapping


class MemoryRefused(Exception):
    """The base of what the server refuses for."""


class OutOfMemory(MemoryRefused):
    """Nothing that large is free."""


class FrameBusy(MemoryRefused):
    """One of the frames asked for by number is taken."""


class QuotaExceeded(MemoryRefused):
    """The caller has as much as it may."""


class NotAllowed(MemoryRefused):
    """The caller may not do that."""


QUOTA_DIVISOR = 2
"""An environment without a quota of its own may have this part of RAM: one alone cannot starve all others."""


class Quotas:
    """How many frames each environment may have."""

    def __init__(self, total: int, own: Mapping[int, int]) -> None:
        """Share *total* frames; *own* are the quotas that were set, by thread."""
        self.own = dict(own)
        self._default = max(1, total // QUOTA_DIVISOR)

    def quota(self, thread: int) -> int:
        """Return how many frames *thread*'s environment may have."""
        return self.own.get(thread, self._default)

    def check(self, thread: int, used: int, wanted: int, free: int) -> None:
        """Raise QuotaExceeded or OutOfMemory unless *thread*, which has *used*, may have *wanted* more."""
        if wanted < 1:
            raise MemoryRefused(f"{wanted} pages: ask for at least one")
        quota = self.quota(thread)
        if used + wanted > quota:
            raise QuotaExceeded(f"{used} of {quota} frames in use, {wanted} more asked for: free some first")
        if wanted > free:
            raise OutOfMemory(f"{wanted} frames asked for, {free} free")
