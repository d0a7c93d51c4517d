"""The scheduler's decisions: from members, and what was said about each, to a plan. Pure: plain numbers.

Three things decide. *Levels*, as X.2 has them: whoever has a lower priority than somebody who is awake has no
slice; so has who used up its total quantum. A *policy* divides the processor among the families of the rest. A
*family*, a program with all its descendants, divides its part among those of its members that are awake: who starts
children shares with them. A policy is a class with one method, `plan`. To try one of your own, write it and serve
`SchedulerServer(environment, MyPolicy())`: see examples/scheduler.py. As long as nobody sets a
priority all are on one level, and the policy alone decides.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from kernel.abi.limits import (
    FRAME_SIZE,
    MAX_ENVIRONMENTS,
    MAX_INTERRUPTS,
    MAX_SLICE_US,
    MAX_SLICES,
    MIN_SLICE_US,
)
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
    """Parts of what its family has."""
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
    family: int = 0
    """Thread of the first of its family; 0: itself."""
    part: int = 1
    """Parts of the processor that its family has together."""

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


_KEPT = 72
"""Bytes of a standing that is written down, at most, with its thread."""


def estate_pages(processors: int) -> int:
    """Return how many pages have room, twice, for what may be said of all that *processors* can have planned."""
    most = min(processors * MAX_SLICES, MAX_ENVIRONMENTS) + MAX_INTERRUPTS
    return -(-2 * (most + 1) * _KEPT // FRAME_SIZE)


class Candidate(NamedTuple):
    """A member of a processor: its first thread, what was said about it, and whether it sleeps."""

    thread: int
    standing: Standing
    asleep: bool

    @property
    def family(self) -> int:
        """Return the thread its family is named by."""
        return self.standing.family or self.thread


class Policy(Protocol):
    """Decides how a processor is divided."""

    def plan(self, shares: Mapping[int, int]) -> list[tuple[int, int]]:
        """Return slices (thread, microseconds) for families, given as thread of a member to part, oldest first."""


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


def families(candidates: Sequence[Candidate]) -> dict[int, list[Candidate]]:
    """Return the members of each family, oldest first, by the thread of the oldest that is there."""
    found: dict[int, list[Candidate]] = {}
    for each in candidates:
        found.setdefault(each.family, []).append(each)
    return {members[0].thread: members for members in found.values()}


def divide(policy: Policy, candidates: Sequence[Candidate]) -> list[tuple[int, int]]:
    """Return the plan: *policy* divides among families, they among their members.

    A length that was set stands for what comes of that. A family may have more members than one round has slices
    for: then the plan is of several rounds, with some of them in each, so that nobody waits longer for their being
    so many. Where all that does not fit into a plan, it is one round, and all slices are longer.
    """
    groups = families(admitted(candidates))
    parts = {thread: max(each.standing.part for each in members) for thread, members in groups.items()}
    given = policy.plan(parts)
    rounds = max((_rounds(length, groups[thread]) for thread, length in given), default=1)
    if sum(len(groups[thread]) if len(groups[thread]) > 1 else rounds for thread, _ in given) <= MAX_SLICES:
        columns = [_spread(length, groups[thread], rounds) for thread, length in given]
        return [slice_ for each in zip(*columns, strict=True) for some in each for slice_ in some]
    long = [(min(length * rounds, MAX_SLICE_US), groups[thread]) for thread, length in given]
    return [slice_ for length, members in long for slice_ in _shared(length, members)][:MAX_SLICES]


def _rounds(length: int, members: Sequence[Candidate]) -> int:
    """Return in how many slices of *length* all *members* of a family that are awake have one."""
    awake = sum(not each.asleep for each in members)
    return max(1, -(-awake * MIN_SLICE_US // length)) if len(members) > 1 else 1


def _spread(length: int, members: Sequence[Candidate], rounds: int) -> list[list[tuple[int, int]]]:
    """Return the slices of a family in each of *rounds*, *length* in each: one who is alone has one in all."""
    if len(members) == 1:
        return [list(_shared(length, members))] * rounds
    column = list(_shared(min(length * rounds, MAX_SLICE_US), members))
    total, before = sum(microseconds for _, microseconds in column), 0
    found: list[list[tuple[int, int]]] = [[] for _ in range(rounds)]
    for thread, microseconds in column:
        found[before * rounds // total].append((thread, microseconds))
        before += microseconds
    return found


def _shared(length: int, members: Sequence[Candidate]) -> Iterator[tuple[int, int]]:
    """Yield a slice for each of *members*: who sleeps is there for when it wakes, at nobody's cost until then."""
    if len(members) == 1:
        yield members[0].thread, members[0].standing.slice_us or length
        return
    shares = {each.thread: each.standing.share for each in members if not each.asleep}
    lengths, total = split(length, shares), sum(shares.values())
    for each in members:
        share = each.standing.share
        slept = max(length * share // (total + share), MIN_SLICE_US)
        yield each.thread, each.standing.slice_us or lengths.get(each.thread, slept)


def split(length: int, shares: Mapping[int, int]) -> dict[int, int]:
    """Divide *length* by *shares*, none of it below the shortest slice, as long as it is enough for that."""
    lengths: dict[int, int] = {}
    rest = dict(shares)
    while rest:
        total = sum(rest.values())
        short = [thread for thread, share in rest.items() if length * share < MIN_SLICE_US * total]
        if not short:
            return lengths | {thread: length * share // total for thread, share in rest.items()}
        for thread in short:
            lengths[thread] = MIN_SLICE_US
            length -= MIN_SLICE_US
            del rest[thread]
    return lengths


def check_share(share: int) -> int:
    """Return *share* if it is one. Raises BadShare."""
    if not 1 <= share <= MAX_SHARE:
        raise BadShare(f"a share is from 1 to {MAX_SHARE}, not {share}")
    return share
