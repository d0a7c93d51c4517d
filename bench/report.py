"""Results as text and as JSON."""

from collections.abc import Iterator

import msgspec

from bench.facts import Facts
from bench.figures import Ratio, Summary
from bench.harness import Result

HEAD = ("", "p50 µs", "p90", "p99", "max", "n", "ratio of p50s, 95 % interval")
US = 1000
"""Nanoseconds."""


def table(result: Result) -> str:
    """Return *result* as a small table: the subject, then its references with the ratio to each."""
    rows = [HEAD, _row(result.measure.subject.name, result.figures, "")]
    rows += (_row(f"against {each.name}", each.figures, _show(each.ratio)) for each in result.references)
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  " + "  ".join(_cells(row, widths)).rstrip() for row in rows]
    return "\n".join([f"{result.measure.title}{_verdict(result)}", *lines])


def _row(name: str, figures: Summary, ratio: str) -> tuple[str, ...]:
    times = (figures.p50, figures.p90, figures.p99, figures.max)
    return (name, *(f"{time / US:.1f}" for time in times), str(figures.n), ratio)


def _cells(row: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    name, *numbers, ratio = zip(row, widths, strict=True)
    yield name[0].ljust(name[1])
    for text, width in numbers:
        yield text.rjust(width)
    yield ratio[0]


def _show(ratio: Ratio) -> str:
    return f"{ratio.value:.2f}  [{ratio.low:.2f}, {ratio.high:.2f}]"


def _verdict(result: Result) -> str:
    if result.measure.goal is None:
        return ""
    return f": {'PASS' if result.met else 'over the goal'} (goal: at most {result.measure.goal:.2f} times)"


class Line(msgspec.Struct, omit_defaults=True):
    """One measure as a line of JSON. Times in nanoseconds."""

    measure: str
    title: str
    subject: dict[str, object]
    references: list[dict[str, object]]
    goal: float | None
    met: bool | None
    host: Facts
    environments: int | None = None
    """How many lived beside it, where that was varied."""


def line(result: Result, facts: Facts, *, environments: int | None = None) -> str:
    """Return *result* as one line of JSON."""
    measure = result.measure
    references: list[dict[str, object]] = [
        {"name": reference.name, **_plain(reference.figures), "ratio": _plain(reference.ratio)}
        for reference in result.references
    ]
    subject: dict[str, object] = {"name": measure.subject.name, **_plain(result.figures)}
    goal, met = measure.goal, result.met
    whole = Line(measure.key, measure.title, subject, references, goal, met, facts, environments)
    return msgspec.json.encode(whole).decode()


def _plain(figures: Summary | Ratio) -> dict[str, object]:
    return msgspec.structs.asdict(figures)
