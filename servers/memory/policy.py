"""The memory server's decisions: who may have how much. Pure: plain numbers in, a yes or an error out."""

from collections.abc import Mapping, Sequence

from kernel.abi.limits import MAX_HANDLES, MAX_OFFERS
from libexo.errors import OperationRefused


class MemoryRefused(OperationRefused):
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
KEPT = MAX_HANDLES * 3 // 4
"""Extents the server keeps a capability to, because they were mapped and not granted. The rest of its table is
for what it grants, and for offers that nobody accepted yet."""


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


def check_kept(own: int, wanted: int, total: int) -> None:
    """Raise QuotaExceeded unless who has *own* of the *total* extents that are kept may have *wanted* more.

    Of the room for them, one environment may have the same part as of RAM.
    """
    if own + wanted > KEPT // QUOTA_DIVISOR or total + wanted > KEPT:
        raise QuotaExceeded(f"{own} extents of {total} are the caller's: ask for larger pages")


def check_message(extents: int) -> None:
    """Raise QuotaExceeded unless one message can bring so many *extents*: each is an offer."""
    if extents > MAX_OFFERS:
        raise QuotaExceeded(f"{extents} extents in one message: at most {MAX_OFFERS}, ask for smaller pages")


def find_free(users: Sequence[int], count: int, alignment: int, lowest: int = 0) -> int:
    """Return the first of *count* free frames in a row: a multiple of *alignment*, not below *lowest*.

    *users* says of each frame whose it is, 0 for nobody's. Raises OutOfMemory.
    """
    start = -(-lowest // alignment) * alignment
    for first in range(start, len(users) - count + 1, alignment):
        if not any(users[first : first + count]):
            return first
    raise OutOfMemory(f"{count} frames in a row, from a multiple of {alignment}: none are free")
