"""The scheduler's decisions: from members and their settings to a plan. Pure: plain numbers.

Three things decide. *Levels* are X.2's: a member of lower priority than another that is awake has no
slice; nor has one that used up its total quantum. A *policy* (`libexo.sched`) divides the processor among the
families of the rest. A *family*, a program with all its descendants, divides its part among its members that are
awake: a program shares with its children. As long as nobody sets a priority all are on one level, and the policy
alone decides.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kernel.abi.limits import MAX_SLICE_US, MAX_SLICES, MIN_SLICE_US
from libexo.sched import Member, Plan
from servers.scheduler.accounts import Accounts
from servers.scheduler.settings import Said, Settings

_NOTHING = Said()


class Candidate(NamedTuple):
    """A member of a processor: its first thread, its settings, and whether it sleeps."""

    thread: int
    settings: Settings
    asleep: bool
    name: str = ""
    processor: int = 0

    @property
    def family(self) -> int:
        """Return the thread that names its family."""
        return self.settings.family or self.thread


def admitted(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the members that may have slices: those with quantum left, and none below the highest awake level.

    Sleepers of higher levels are among them, so that they have the processor as soon as they wake.
    """
    eligible = [each for each in candidates if not each.settings.expired]
    awake = max((each.settings.priority for each in eligible if not each.asleep), default=0)
    return [each for each in eligible if each.settings.priority >= awake]


def families(candidates: Sequence[Candidate]) -> dict[int, list[Candidate]]:
    """Return the members of each family, oldest first, by the thread that names it."""
    found: dict[int, list[Candidate]] = {}
    for each in candidates:
        found.setdefault(each.family, []).append(each)
    return found


def member(family: int, found: Sequence[Candidate], accounts: Accounts, said: Said) -> Member:
    """Return what a policy is told of *family*, of which *found* are there."""
    first, part, asleep = found[0], found[0].settings.part, found[0].asleep
    if len(found) > 1:  # most have one member, and there may be hundreds
        part, asleep = max(each.settings.part for each in found), all(each.asleep for each in found)
    since, used = accounts.since(family), accounts.used(family)
    return Member(
        family, first.name, part, asleep, since, used, said.parameters, said.declared, first.processor
    )


def divide(
    ask: Callable[[Sequence[Member], int], Plan],
    candidates: Sequence[Candidate],
    accounts: Accounts,
    said: Mapping[int, Said],
    now: int,
) -> Plan:
    """Return the plan: a policy, which is *asked*, divides among families, they among their members.

    Parameters are *said* for families.

    A length that was set replaces the computed one. A family may have more members than one round has slices
    for: then the plan has several rounds, with some of them in each, so that other families wait no longer for it.
    If all that does not fit into a plan, it has one round, and all slices are longer.
    """
    groups = families(admitted(candidates))
    members = [
        member(family, found, accounts, said.get(family, _NOTHING)) for family, found in groups.items()
    ]
    plan = ask(members, now)
    return plan._replace(slices=_divided(plan.slices, groups))


def _divided(
    given: Sequence[tuple[int, int]], groups: Mapping[int, Sequence[Candidate]]
) -> list[tuple[int, int]]:
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
