"""The scheduler's decisions: from members and their settings to a plan. Pure: plain numbers.

Three things decide. *Levels* are X.2's: a member of lower priority than another that is awake has no
slice; nor has one that used up its total quantum. A *policy* divides the processor among the families of the
rest. A *family*, a program with all its descendants, divides its part among its members that are awake: a program
shares with its children. A policy is a class with one method, `plan`. To try one of your own, write it and serve
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
    """The base of the scheduler server's refusals."""


class BadShare(ShareRefused):
    """A share is from 1 to MAX_SHARE."""


class NotAllowed(ShareRefused):
    """The caller may not set that share."""


class Settings(msgspec.Struct, array_like=True):
    """The settings of one environment; the defaults are those of X.2."""

    share: int = 1
    """Parts of its family's part of the processor."""
    priority: int = DEFAULT_PRIORITY
    slice_us: int = 0
    """Length of its slices; 0: as the policy says."""
    quantum_us: int | None = None
    """CPU time it may use from when that was set (X.2: total quantum); None: any."""
    used_before: int | None = None
    """CPU time it had used then, in ns; None: it was under no plan yet."""
    expired: bool = False
    """It has used that up, and its X.2 scheduler was told."""
    sensitive: int = DEFAULT_PRIORITY
    """X.2: preemptions by this priority or lower ones may be delayed."""
    delay_us: int = 0
    """X.2: the longest delay."""
    family: int = 0
    """Thread of the first of its family; 0: itself."""
    part: int = 1
    """Parts of the processor that its family has together."""

    def limit(self, quantum_us: int | None, used: int | None) -> None:
        """Let it use *quantum_us* more (None: any); so far it has *used* that much, in ns."""
        self.quantum_us, self.used_before, self.expired = quantum_us, used, False

    def left(self, used: int) -> int | None:
        """Return how much it may still use, in ns, after it has *used* so much; None: any."""
        if self.quantum_us is None:
            return None
        if self.used_before is None:
            self.used_before = used
        return max(0, self.quantum_us * _US - (used - self.used_before))


_KEPT = 72
"""Bytes of one environment's settings in the estate, at most, with its thread."""


def estate_pages(processors: int) -> int:
    """Return how many pages have room, twice, for the settings of all that *processors* can have planned."""
    most = min(processors * MAX_SLICES, MAX_ENVIRONMENTS) + MAX_INTERRUPTS
    return -(-2 * (most + 1) * _KEPT // FRAME_SIZE)


class Candidate(NamedTuple):
    """A member of a processor: its first thread, its settings, and whether it sleeps."""

    thread: int
    settings: Settings
    asleep: bool

    @property
    def family(self) -> int:
        """Return the thread that names its family."""
        return self.settings.family or self.thread


class Policy(Protocol):
    """Decides how a processor is divided."""

    def plan(self, shares: Mapping[int, int]) -> list[tuple[int, int]]:
        """Return slices (thread, microseconds) for families, given as thread of a member to part, oldest first."""


class RoundRobin:
    """All in turn, each for its share of quanta. The kernel skips those that sleep."""

    def plan(self, shares: Mapping[int, int]) -> list[tuple[int, int]]:
        """Return one slice a member."""
        return [(thread, QUANTUM_US * share) for thread, share in shares.items()][:MAX_SLICES]


def admitted(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the members that may have slices: those with quantum left, and none below the highest awake level.

    Sleepers of higher levels are among them, so that they have the processor as soon as they wake.
    """
    eligible = [each for each in candidates if not each.settings.expired]
    awake = max((each.settings.priority for each in eligible if not each.asleep), default=0)
    return [each for each in eligible if each.settings.priority >= awake]


def families(candidates: Sequence[Candidate]) -> dict[int, list[Candidate]]:
    """Return the members of each family, oldest first, by the thread of its oldest."""
    found: dict[int, list[Candidate]] = {}
    for each in candidates:
        found.setdefault(each.family, []).append(each)
    return {members[0].thread: members for members in found.values()}


def divide(policy: Policy, candidates: Sequence[Candidate]) -> list[tuple[int, int]]:
    """Return the plan: *policy* divides among families, they among their members.

    A length that was set replaces the computed one. A family may have more members than one round has slices
    for: then the plan has several rounds, with some of them in each, so that other families wait no longer for it.
    If all that does not fit into a plan, it has one round, and all slices are longer.
    """
    groups = families(admitted(candidates))
    parts = {thread: max(each.settings.part for each in members) for thread, members in groups.items()}
    given = policy.plan(parts)
    rounds = max((_rounds(length, groups[thread]) for thread, length in given), default=1)
    if sum(len(groups[thread]) if len(groups[thread]) > 1 else rounds for thread, _ in given) <= MAX_SLICES:
        columns = [_spread(length, groups[thread], rounds) for thread, length in given]
        return [slice_ for each in zip(*columns, strict=True) for some in each for slice_ in some]
    long = [(min(length * rounds, MAX_SLICE_US), groups[thread]) for thread, length in given]
    return [slice_ for length, members in long for slice_ in _shared(length, members)][:MAX_SLICES]


def _rounds(length: int, members: Sequence[Candidate]) -> int:
    """Return over how many slices of *length* all *members* of a family that are awake can have one."""
    awake = sum(not each.asleep for each in members)
    return max(1, -(-awake * MIN_SLICE_US // length)) if len(members) > 1 else 1


def _spread(length: int, members: Sequence[Candidate], rounds: int) -> list[list[tuple[int, int]]]:
    """Return a family's slices in each of *rounds*, *length* in each: a single member has one in all."""
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
    """Yield a slice for each of *members*: a sleeper has one for when it wakes, at nobody's cost until then."""
    if len(members) == 1:
        yield members[0].thread, members[0].settings.slice_us or length
        return
    shares = {each.thread: each.settings.share for each in members if not each.asleep}
    lengths, total = split(length, shares), sum(shares.values())
    for each in members:
        share = each.settings.share
        slept = max(length * share // (total + share), MIN_SLICE_US)
        yield each.thread, each.settings.slice_us or lengths.get(each.thread, slept)


def split(length: int, shares: Mapping[int, int]) -> dict[int, int]:
    """Divide *length* by *shares*, with no part below the shortest slice, while it is enough for that."""
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
    """Return *share* if it is valid. Raises BadShare."""
    if not 1 <= share <= MAX_SHARE:
        raise BadShare(f"a share is from 1 to {MAX_SHARE}, not {share}")
    return share
