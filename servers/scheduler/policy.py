"""The scheduler's decisions: from members and their settings to a plan. Pure: plain numbers.

Three things decide. *Levels* are X.2's: a member of lower priority than another that is awake has no
slice; nor has one that used up its total quantum. A *policy* (`libexo.sched`) divides the processor among the
families of the rest. A *family*, a program with all its descendants, divides its part among its members that are
awake: a program shares with its children. As long as nobody sets a priority all are on one level, and the policy
alone decides.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kernel.abi.ids import thread_number
from kernel.abi.limits import MAX_SLICE_US, MAX_SLICES, MIN_SLICE_US
from libexo.sched import Member, Plan
from servers.scheduler.accounts import Accounts
from servers.scheduler.division import OWN, Walk
from servers.scheduler.settings import Said, Settings

_NOTHING = Said()
_NO_WALKS: Mapping[int, Walk] = {}


class Candidate(NamedTuple):
    """A member of a processor: its first thread, its settings, and whether it sleeps."""

    thread: int
    settings: Settings
    asleep: bool
    name: str = ""
    processor: int = 0
    awaits: int = 0
    """The number of the thread for which it says that it waits, asleep; 0: for none."""

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


def member(
    family: int, found: Sequence[Candidate], accounts: Accounts, said: Said, heads: Mapping[int, int]
) -> Member:
    """Return what a policy is told of *family*, of which *found* are there; *heads*: families by thread number."""
    first, part, asleep = found[0], found[0].settings.part, found[0].asleep
    if len(found) > 1:  # most have one member, and there may be hundreds
        part, asleep = max(each.settings.part for each in found), all(each.asleep for each in found)
    since, used = accounts.since(family), accounts.used(family)
    waits = {heads[each.awaits] for each in found if each.asleep and each.awaits in heads} - {family}
    return Member(
        family,
        first.name,
        part,
        asleep,
        since,
        used,
        said.parameters,
        said.declared,
        first.processor,
        accounts.left(family),
        tuple(sorted(waits)),
    )


def divide(
    ask: Callable[[Sequence[Member], int], Plan],
    candidates: Sequence[Candidate],
    accounts: Accounts,
    said: Mapping[int, Said],
    now: int,
    walks: Mapping[int, Walk] = _NO_WALKS,
    rest: tuple[int, int] = (0, 0),
) -> Plan:
    """Return the plan: a policy, which is *asked*, divides among families, they among their members.

    Parameters are *said* for families.

    A length that was set replaces the computed one. A family may have more members than one round has slices
    for: then the plan has several rounds, with some of them in each, so that other families wait no longer for it.
    If all that does not fit into a plan, it has one round, and all slices are longer.

    Of families with *walks* those divide the part, as long as they serve who is awake. A plan without end goes on
    where the one before it is: a family runs, and has so many microseconds left of its slice (*rest*).
    """
    groups = families(admitted(candidates))
    heads = {thread_number(each.thread): family for family, found in groups.items() for each in found}
    members = [
        member(family, found, accounts, said.get(family, _NOTHING), heads) for family, found in groups.items()
    ]
    plan = ask(members, now)
    given, serving = plan.slices, _serving(walks, groups)
    if not plan.again and not plan.now and rest[0] in serving:
        given = _turned(given, *rest)
    return plan._replace(slices=_divided(given, groups, serving, repeats=not plan.again))


def _serving(walks: Mapping[int, Walk], groups: Mapping[int, Sequence[Candidate]]) -> dict[int, Walk]:
    """Return the walks that serve a member who is awake."""
    awake = {family: {each.thread for each in found if not each.asleep} for family, found in groups.items()}
    return {family: walk for family, walk in walks.items() if walk.serves(awake.get(family, ()))}


def _turned(given: Sequence[tuple[int, int]], family: int, rest: int) -> list[tuple[int, int]]:
    """Return *given*, which is walked round and round, from where *family* has so much *rest* of its slice."""
    at = next((at for at, (thread, _) in enumerate(given) if thread == family), len(given))
    turned = [*given[at + 1 :], *given[:at]]
    for thread, length in given[at : at + 1]:
        first = rest if rest >= MIN_SLICE_US else MIN_SLICE_US * (2 * rest >= MIN_SLICE_US)
        first = first if length - first >= MIN_SLICE_US else length
        turned = [*([(thread, first)] if first else []), *turned]
        turned += [(thread, length - first)] if first < length else []
    return turned


def _divided(
    given: Sequence[tuple[int, int]],
    groups: Mapping[int, Sequence[Candidate]],
    walks: Mapping[int, Walk],
    *,
    repeats: bool = False,
) -> list[tuple[int, int]]:
    shared = [(length, groups[thread]) for thread, length in given if thread not in walks]
    rounds = max((_rounds(*each) for each in shared), default=1)
    if repeats:
        rounds = max([rounds, *(_rounds_of(walk, given, family, groups) for family, walk in walks.items())])
    if sum(len(members) if len(members) > 1 else rounds for _, members in shared) <= MAX_SLICES:
        plan = list(_woven(given, groups, walks, rounds, repeats=repeats))
        if len(plan) <= MAX_SLICES or not walks:
            return plan
    if walks:
        by_parts = {family: _by_parts(walk, groups[family]) for family, walk in walks.items()}
        return _divided(given, {**groups, **by_parts}, {})
    long = [(min(length * rounds, MAX_SLICE_US), groups[thread]) for thread, length in given]
    return [slice_ for length, members in long for slice_ in _shared(length, members)][:MAX_SLICES]


def _rounds_of(
    walk: Walk,
    given: Sequence[tuple[int, int]],
    family: int,
    groups: Mapping[int, Sequence[Candidate]],
) -> int:
    """Return how many rounds of a plan that repeats have room for one of *walk*; no more than fit into a plan."""
    part = sum(length for thread, length in given if thread == family)
    round_us = walk.round_us({each.thread for each in groups[family] if not each.asleep})
    return min(-(-round_us // part), MAX_SLICES) if part else 1


def _woven(
    given: Sequence[tuple[int, int]],
    groups: Mapping[int, Sequence[Candidate]],
    walks: Mapping[int, Walk],
    rounds: int,
    *,
    repeats: bool,
) -> Iterator[tuple[int, int]]:
    """Yield a plan of so many *rounds*, of families that divide by shares, and those that do by *walks*."""
    columns = [
        iter(()) if thread in walks else iter(_spread(length, groups[thread], rounds))
        for thread, length in given
    ]
    filled = {
        family: iter(
            walk.fill(
                [length for each, length in given if each == family] * rounds, groups[family], repeats=repeats
            )
        )
        for family, walk in walks.items()
    }
    for _ in range(rounds):
        for (thread, _), column in zip(given, columns, strict=True):
            yield from next(filled.get(thread, column))


def _by_parts(walk: Walk, members: Sequence[Candidate]) -> list[Candidate]:
    """Return the members that a walk serves, and its author, with what they have of it for their shares."""
    parts = {walk.author: sum(walk.parts.values()) // (OWN - 1), **walk.parts}
    return [
        each._replace(settings=Settings(share=max(parts[each.thread] // 1000, 1)))
        for each in members
        if each.thread in parts
    ]


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
