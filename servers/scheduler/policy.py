"""The scheduler's decisions: from members and their shares to a plan. Pure: plain numbers in and out.

A policy is a class with one method, `plan`. To try one of your own, subclass `Policy` and serve
`SchedulerServer(environment, MyPolicy())`: see examples/scheduler.py.
"""

from collections.abc import Mapping
from typing import Protocol

from kernel.abi.limits import MAX_SLICES

QUANTUM_US = 10_000
"""The slice of one share: X.2's default timeslice."""
MAX_SHARE = 1000


class ShareRefused(Exception):
    """The base of what the server refuses for."""


class BadShare(ShareRefused):
    """A share is from 1 to MAX_SHARE."""


class NotAllowed(ShareRefused):
    """The caller may not set that share."""


class Policy(Protocol):
    """Decides how a processor is divided."""

    def plan(self, shares: Mapping[int, int]) -> list[tuple[int, int]]:
        """Return slices (thread, microseconds) for the members, given as thread to share, in order of arrival."""


class RoundRobin:
    """Everybody in turn, each for its share of quanta. Those who sleep are skipped by the kernel."""

    def plan(self, shares: Mapping[int, int]) -> list[tuple[int, int]]:
        """Return one slice a member."""
        return [(thread, QUANTUM_US * share) for thread, share in shares.items()][:MAX_SLICES]


def check_share(share: int) -> int:
    """Return *share* if it is one. Raises BadShare."""
    if not 1 <= share <= MAX_SHARE:
        raise BadShare(f"a share is from 1 to {MAX_SHARE}, not {share}")
    return share
