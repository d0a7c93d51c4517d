"""The scheduler's decisions: from members, and what was said about each, to a plan. Pure: plain numbers.

Two things decide. *Levels*, as X.2 has them: whoever has a lower priority than somebody who is awake has no slice;
so has who used up its total quantum. A *policy* divides the processor among the rest. It is a class with one
method, `plan`. To try one of your own, write it and serve `SchedulerServer(environment, MyPolicy())`: see
examples/scheduler.py. As long as nobody sets a priority all are on one level, and the policy alone decides.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from kernel.abi.limits import MAX_SLICES
from libexo.errors import OperationRefused
from libexo.nouns import MAX_SHARE

QUANTUM_US = 10_000
"""The slice of one share: X.2's default timeslice."""
MAX_PRIORITY = 255
DEFAULT_PRIORITY = 100
_US = 1000


class ShareRefused(OperationRefused):
    """The base of what the server refuses for."""


class BadShare(ShareRefused):
    """A share is from 1 to MAX_SHARE."""


class NotAllowed(ShareRefused):
    """The caller may not set that share."""


class Standing(msgspec.Struct, array_like=True):
    """What was said about one environment; the defaults are those of X.2."""

    share: int = 1
    priority: int = DEFAULT_PRIORITY
    slice_us: int = 0
    """How long its slices are; 0: as the policy says."""
    quantum_us: int | None = None
    """CPU time it may use from when that was said (X.2: total quantum); None: any."""
    used_before: int | None = None
    """What it had used when that was said, in ns; None: it was under no plan yet."""
    expired: bool = False
    """It has used that up, and its X.2 scheduler was told."""
    sensitive: int = DEFAULT_PRIORITY
    """X.2: preemptions by no higher priority may be delayed."""
    delay_us: int = 0
    """X.2: for how long."""

    def limit(self, quantum_us: int | None, used: int | None) -> None:
        """Let it use *quantum_us* more (None: any); it has *used* so much, in ns."""
        self.quantum_us, self.used_before, self.expired = quantum_us, used, False

    def left(self, used: int) -> int | None:
        """Return how much it may still use, in ns, now that it has *used* so much; None: any."""
        if self.quantum_us is None:
            return None
        if self.used_before is None:
            self.used_before = used
        return max(0, self.quantum_us * _US - (used - self.used_before))


class Candidate(NamedTuple):
    """A member of a processor: its first thread, what was said about it, and whether it sleeps."""

    thread: int
    standing: Standing
    asleep: bool


class Policy(Protocol):
    """Decides how a processor is divided."""

    def plan(self, shares: Mapping[int, int]) -> list[tuple[int, int]]:
        """Return slices (thread, microseconds) for the members, given as thread to share, in order of arrival."""


class RoundRobin:
    """Everybody in turn, each for its share of quanta. Those who sleep are skipped by the kernel."""

    def plan(self, shares: Mapping[int, int]) -> list[tuple[int, int]]:
        """Return one slice a member."""
        return [(thread, QUANTUM_US * share) for thread, share in shares.items()][:MAX_SLICES]


def admitted(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return who may have slices: those with quantum left, and none below the highest level that is awake.

    Sleepers of higher levels are among them, so that they have the processor as soon as they wake.
    """
    eligible = [each for each in candidates if not each.standing.expired]
    awake = max((each.standing.priority for each in eligible if not each.asleep), default=0)
    return [each for each in eligible if each.standing.priority >= awake]


def divide(policy: Policy, candidates: Sequence[Candidate]) -> list[tuple[int, int]]:
    """Return the plan: *policy* divides among the admitted; a length that was set stands for the policy's."""
    chosen = admitted(candidates)
    set_lengths = {each.thread: each.standing.slice_us for each in chosen}
    plan = policy.plan({each.thread: each.standing.share for each in chosen})
    return [(thread, set_lengths.get(thread) or length) for thread, length in plan]


def check_share(share: int) -> int:
    """Return *share* if it is one. Raises BadShare."""
    if not 1 <= share <= MAX_SHARE:
        raise BadShare(f"a share is from 1 to {MAX_SHARE}, not {share}")
    return share
