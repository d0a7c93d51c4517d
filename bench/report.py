"""Results as text and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import msgspec

from bench.facts import Facts
from bench.figures import Block, Ratio, Slope, Summary, medians, slope
from bench.harness import Reference, Result

RATIO = "ratio of p50s, 95 % interval"
EXACT = 10 * 1000
"""Nanoseconds up to which a time has two decimals, not one."""
SECOND = 1_000_000_000
HEAD = ("", "p50 {}", "95 % interval", "p90", "p99", "max", "n", RATIO)
US = 1000
"""Nanoseconds."""


def table(result: Result) -> str:
    """Return *result* as a small table: the subject, then its references with the ratio to each."""
    unit = result.measure.unit
    rows = [tuple(cell.format(unit or "µs") for cell in HEAD)]
    rows += [_row(result.measure.subject.name, result.figures, _show_most(result), unit)]
    rows += (
        _row(f"against {each.name}", each.figures, _show_reference(each), unit) for each in result.references
    )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  " + "  ".join(_cells(row, widths)).rstrip() for row in rows]
    return "\n".join([f"{result.measure.title}{_verdict(result)}", *lines])


def _row(name: str, figures: Summary, ratio: str, unit: str) -> tuple[str, ...]:
    show = "{:.0f}".format if unit else show_time
    p50, *times = map(show, (figures.p50, figures.p90, figures.p99, figures.max))
    interval = f"[{show(figures.low)}, {show(figures.high)}]"
    return (name, p50, interval, *times, str(figures.n), ratio)


def _cells(row: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    name, *numbers, ratio = zip(row, widths, strict=True)
    yield name[0].ljust(name[1])
    for text, width in numbers:
        yield text.rjust(width)
    yield ratio[0]


def show_time(time: float) -> str:
    """Return *time*, nanoseconds, in microseconds."""
    return f"{time / US:.{2 if time < EXACT else 1}f}"


def show_ratio(value: float) -> str:
    """Return *value* with two decimals, or with two digits that say something where it is small."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"  # noqa: PLR2004 - two decimals are two digits


def _show(ratio: Ratio) -> str:
    return f"{show_ratio(ratio.value)}  [{show_ratio(ratio.low)}, {show_ratio(ratio.high)}]"


def _show_reference(reference: Reference) -> str:
    if reference.goal is None:
        return _show(reference.ratio)
    return f"{_show(reference.ratio)}  {_passed(reference.met)} (goal: at most {show_ratio(reference.goal)})"


def _show_most(result: Result) -> str:
    most = result.measure.most
    if most is None:
        return ""
    met = result.figures.p50 <= most
    rate = f"{show_rate(result.figures.p50)}/s"
    return f"{rate}  {_passed(met)} (goal: at least {show_rate(most)}/s)"


def show_rate(time: float) -> str:
    """Return how many there are in a second when each takes *time* nanoseconds."""
    return f"{SECOND / time:,.0f}"


def _passed(met: bool | None) -> str:  # noqa: FBT001
    return "PASS" if met else "over"


def show_size(size: int) -> str:
    """Return *size* bytes in words."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


def _verdict(result: Result) -> str:
    return "" if result.met is None else f": {'PASS' if result.met else 'over the goal'}"


class Party(msgspec.Struct, omit_defaults=True):
    """The subject of a measure, or a reference, in a line of JSON: its `Summary`, and what else is known."""

    name: str
    n: int
    p50: float
    p90: float
    p99: float
    max: float
    low: float
    high: float
    rounds: list[Annotated[float, msgspec.Meta(gt=0)]]
    """The p50 of each round, in the order they were run: what a later comparison draws from."""
    ratio: Ratio | None = None
    """Of a reference: the subject's p50 over its own."""
    goal: float | None = None
    """Of a reference: the largest ratio that is good enough."""
    met: bool | None = None
    """Of a reference: whether it was."""


class ReportLine(msgspec.Struct, omit_defaults=True):
    """One measure as a line of JSON. Times in nanoseconds, where there is no `unit`."""

    measure: str
    title: str
    subject: Party
    references: list[Party]
    goal: float | None
    """Of the first reference."""
    met: bool | None
    """Whether all goals were met."""
    host: Facts
    environments: int | None = None
    """How many lived beside it, where that was varied."""
    words: int | None = None
    """How many there were in a message, where that was varied."""
    size: int | None = None
    """Of the payload, in bytes, where that was varied."""
    clients: int | None = None
    """How many one server had, where that was varied."""
    most: float | None = None
    """The largest p50 of the subject that is good enough."""
    extents: int | None = None
    """How many there were, where that was varied."""
    unit: str = ""
    """What was counted, where that is not time."""


def line(
    result: Result,
    facts: Facts,
    *,
    environments: int | None = None,
    words: int | None = None,
    size: int | None = None,
    clients: int | None = None,
    extents: int | None = None,
) -> str:
    """Return *result* as one line of JSON."""
    measure = result.measure
    subject = _party(measure.subject.name, result.figures, result.blocks)
    references = [_reference(each) for each in result.references]
    first = references[0].goal if references else None
    whole = ReportLine(measure.key, measure.title, subject, references, first, result.met, facts,
                 environments, words, size, clients, measure.most, extents, measure.unit)  # fmt: skip
    return msgspec.json.encode(whole).decode()


def _reference(each: Reference) -> Party:
    party = _party(each.name, each.figures, each.blocks)
    party.ratio, party.goal, party.met = each.ratio, each.goal, each.met
    return party


def _party(name: str, figures: Summary, blocks: Sequence[Block]) -> Party:
    return Party(name, **msgspec.structs.asdict(figures), rounds=medians(blocks))


# ------------------------------------------------------------------------------------ a sweep over word counts


class Slopes(msgspec.Struct):
    """The cost of one more word to each party of a sweep, as a line of JSON: after the lines of its points."""

    measure: str
    title: str
    slopes: Mapping[str, Slope]
    """In nanoseconds, by the name of the party; the subject comes first."""
    host: Facts


def slopes(points: Mapping[int, Result]) -> dict[str, Slope]:
    """Return what a word more costs each party of *points*, results by counts of words run together: ns by name."""
    parties: dict[str, list[Sequence[Block]]] = {}
    for result in points.values():
        parties.setdefault(result.measure.subject.name, []).append(result.blocks)
        for reference in result.references:
            parties.setdefault(reference.name, []).append(reference.blocks)
    return {name: slope([*points], blocks) for name, blocks in parties.items()}


def slope_line(title: str, points: Mapping[int, Result], facts: Facts) -> str:
    """Return the slopes of *points* as one line of JSON."""
    key = next(iter(points.values())).measure.key
    return msgspec.json.encode(Slopes(key, title, slopes(points), facts)).decode()


def sweep(title: str, points: Mapping[int, Result]) -> str:
    """Return *points* as a table: a row for each count of words, and below what a word more costs each party."""
    names = [reference.name for reference in next(iter(points.values())).references]
    head = "MRs| time (µs)     p99      n" + "".join(f" | {name:>12}     p99  {RATIO:28}" for name in names)
    rows = [head, *(_point(words, result) for words, result in points.items())]
    own, *others = slopes(points).items()
    foot = f"a word more costs {_grows(own[1])} ns; " + "; ".join(
        f"{name} {_grows(ns)}" for name, ns in others
    )
    return "\n".join([f"{title}; one way", *(row.rstrip() for row in rows), foot])


def _point(words: int, result: Result) -> str:
    own = result.figures
    columns = "".join(_column(reference.figures, reference.ratio) for reference in result.references)
    return f"{words:3}| {own.p50 / US:9.2f} {own.p99 / US:7.1f} {own.n:6}{columns}"


def _column(figures: Summary, ratio: Ratio) -> str:
    return f" | {figures.p50 / US:12.2f} {figures.p99 / US:7.1f}  {_show(ratio):28}"


def _grows(slope: Slope) -> str:
    return f"{slope.value:.1f} [{slope.low:.1f}, {slope.high:.1f}]"
