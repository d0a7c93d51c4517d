"""Changes between two files that `exo bench --json` wrote: read, matched, judged. Nothing is measured here.

Two runs are not side by side, and a host is slower one hour than the next. So a measure is called faster or slower
only where two ratios of new over old (`bench.figures.change`) agree: that of its own rounds, and that of its rounds
each divided by the same round of its first reference, which had the same host at the same time. Both 95 % intervals
must lie on the same side of 1, and both ratios differ from it by at least a given part.

A file holds several runs, one after the other: what differs from run to run, as where the host puts a process, is
in the intervals then. Of one and the same source, on two busy cores, one run each called 29 % of the measures
changed, two 9 %, three and four 2 % (25 pairs, drawn from eight runs of `exo bench ipc`). So three it must be.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import chain
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec

from bench.errors import BenchError
from bench.facts import Facts
from bench.figures import Ratio, change
from bench.report import Party, ReportLine, Slopes

LEAST = 5.0
"""Per cent by which a p50 must differ, by default: less is what placing a process anew does to it."""
RUNS = 3
ROUNDS = 6
"""Of all runs. Fewer have no 95 % interval: the extremes of five have the median between them in 94 % of cases."""
OF_THE_RUN = frozenset({"commit", "when", "load"})
"""Facts in which two runs on the same host differ."""


class Verdict(StrEnum):
    """The verdict on a measure."""

    SLOWER = "slower"
    FASTER = "faster"
    SAME = "no difference told apart from noise"
    FEW = "too few runs to tell"
    OLD_ONLY = "only in the old file"
    NEW_ONLY = "only in the new file"


class Key(NamedTuple):
    """The identity of a measure: lines that share it are compared."""

    measure: str
    subject: str
    environments: int | None
    words: int | None
    size: int | None
    clients: int | None = None


Runs = Mapping[Key, Sequence[ReportLine]]
"""The lines of a file: of each measure one a run."""


class Side(msgspec.Struct):
    """A measure in one of the files. Times in nanoseconds; of runs the median of theirs, but the worst max."""

    runs: int
    rounds: int
    n: int
    p50: float
    """The median of the rounds' p50s."""
    p90: float
    p99: float
    max: float


class Change(msgspec.Struct, omit_defaults=True):
    """A measure in both files, or in one: a line of JSON."""

    measure: str
    subject: str
    verdict: Verdict
    old: Side | None = None
    new: Side | None = None
    ratio: Ratio | None = None
    """New over old."""
    steady: Ratio | None = None
    """The same, with the drift of the host taken out."""
    reference: str = ""
    """By what it was taken out: the first that both files have."""
    environments: int | None = None
    words: int | None = None
    size: int | None = None
    clients: int | None = None
    hosts: Mapping[str, tuple[str, str]] = {}
    """Facts of the host in which the files differ: old and new."""


# ---------------------------------------------------------------------------------------------------- reading


def read(path: Path) -> Runs:
    """Return the measures of *path*. Raises BenchError where it is no such file."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from None
    runs: dict[Key, list[ReportLine]] = {}
    for number, each in enumerate(text.splitlines(), 1):
        line = _line(each, f"{path}, line {number}") if each.strip() else None
        if line is not None:
            runs.setdefault(_key(line), []).append(line)
    if not runs:
        raise BenchError(f"{path}: there is no measure in it; `exo bench ipc --json > {path}` writes some")
    return runs


def _key(line: ReportLine) -> Key:
    return Key(line.measure, line.subject.name, line.environments, line.words, line.size, line.clients)


def _line(text: bytes, where: str) -> ReportLine | None:
    """Return the measure in *text*; None: it sums up others."""
    try:
        line = msgspec.json.decode(text, type=ReportLine)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if _is_slopes(text):
            return None
        raise BenchError(f"{where}: not as `exo bench --json` writes it: {error}") from None
    for party in (line.subject, *line.references):
        if not party.rounds or len(party.rounds) != len(line.subject.rounds):
            raise BenchError(f"{where}: {party.name} has {len(party.rounds)} rounds, not one beside each")
    return line


def _is_slopes(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=Slopes)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


# ---------------------------------------------------------------------------------------------------- judging


def changes(old: Runs, new: Runs, least: float = LEAST) -> list[Change]:
    """Return what became of each measure, in the order of the files, where *least* per cent are a change."""
    differ = differences(old, new)
    keys = dict.fromkeys([*old, *new])
    return [_change(key, old.get(key, ()), new.get(key, ()), differ, least) for key in keys]


def _change(
    key: Key,
    old: Sequence[ReportLine],
    new: Sequence[ReportLine],
    differ: Mapping[str, tuple[str, str]],
    least: float,
) -> Change:
    made = Change(
        key.measure, key.subject, Verdict.FEW, _side(old), _side(new),
        environments=key.environments, words=key.words, size=key.size, clients=key.clients, hosts=differ,
    )  # fmt: skip
    if made.old is None or made.new is None:
        made.verdict = Verdict.NEW_ONLY if made.old is None else Verdict.OLD_ONLY
        return made
    made.ratio = change([line.subject.rounds for line in old], [line.subject.rounds for line in new])
    made.reference = _common(old, new)
    if made.reference:
        made.steady = change(*([_against(line, made.reference) for line in side] for side in (old, new)))
    if all(side.runs >= RUNS and side.rounds >= ROUNDS for side in (made.old, made.new)):
        made.verdict = verdict([ratio for ratio in (made.ratio, made.steady) if ratio], least)
    return made


def verdict(ratios: Sequence[Ratio], least: float) -> Verdict:
    """Return what *ratios* of new over old say when all of them must say it."""
    factor = 1 + least / 100
    if all(ratio.low > 1 and ratio.value >= factor for ratio in ratios):
        return Verdict.SLOWER
    if all(ratio.high < 1 and ratio.value <= 1 / factor for ratio in ratios):
        return Verdict.FASTER
    return Verdict.SAME


def _side(lines: Sequence[ReportLine]) -> Side | None:
    if not lines:
        return None
    parties = [line.subject for line in lines]
    rounds = list(chain.from_iterable(party.rounds for party in parties))
    p90, p99 = (median(getattr(party, name) for party in parties) for name in ("p90", "p99"))
    worst = max(party.max for party in parties)
    return Side(len(lines), len(rounds), sum(party.n for party in parties), median(rounds), p90, p99, worst)


def _common(old: Sequence[ReportLine], new: Sequence[ReportLine]) -> str:
    """Return the name of the first reference that all lines have; empty: there is none."""
    names = [[party.name for party in line.references] for line in (*old, *new)]
    return next((name for name in names[0] if all(name in each for each in names)), "")


def _against(line: ReportLine, name: str) -> list[float]:
    """Return each round of *line* in times of that of its reference *name*."""
    reference: Party = next(party for party in line.references if party.name == name)
    return [ours / theirs for ours, theirs in zip(line.subject.rounds, reference.rounds, strict=True)]


# ------------------------------------------------------------------------------------------------------ hosts


def hosts(runs: Runs) -> list[Facts]:
    """Return the facts of *runs*, each set of them once, in order."""
    found: list[Facts] = []
    for line in chain.from_iterable(runs.values()):
        if line.host not in found:
            found.append(line.host)
    return found


def differences(old: Runs, new: Runs) -> dict[str, tuple[str, str]]:
    """Return the facts of the host in which *old* and *new* differ: by name, what they say."""
    sides = [_values(hosts(runs)) for runs in (old, new)]
    names = dict.fromkeys(chain.from_iterable(sides))
    told = {name: (_told(sides[0].get(name)), _told(sides[1].get(name))) for name in names}
    return {name: (before, after) for name, (before, after) in told.items() if before != after}


def _values(found: Sequence[Facts]) -> dict[str, dict[str, None]]:
    """Return the values of each fact, each once; libraries are facts by their own names."""
    values: dict[str, dict[str, None]] = {}
    for facts in found:
        plain = msgspec.structs.asdict(facts)
        libraries = plain.pop("libraries")
        for name, value in {**plain, **libraries}.items():
            if name not in OF_THE_RUN:
                values.setdefault(name, {})[str(value)] = None
    return values


def _told(values: Mapping[str, None] | None) -> str:
    return " and ".join(values) if values else "none"
