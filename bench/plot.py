"""Results as pictures, through matplotlib, which is imported only here and only when a picture is wanted."""

from collections.abc import Mapping, Sequence
from itertools import chain
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.errors import BenchError
from bench.figures import Block, Summary
from bench.harness import Result
from bench.report import SECOND, show_ratio, show_size, show_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png", ".pdf")
TAIL = 0.99
"""The part of the samples that is shown: the axis would otherwise be as long as the one worst of them."""
COLUMNS = 2
FEW = 4
"""References from which on a distribution takes a row of its own, with the legend beside it."""
DASHES = ("--", ":")
STYLES = ("-", "--", "-.")
"""Of references, in turn, so that they can be told apart without colours, too."""
US = 1000
LONG = 1000
"""Times its lower end that the upper end of a long axis is."""


def check(path: Path) -> None:
    """Raise BenchError when no picture could be written to *path*: known before an hour of measuring."""
    if path.suffix not in SUFFIXES:
        raise BenchError(f"{path}: a picture ends in {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise BenchError(f"{path}: there is no such directory")
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415 - optional
    except ImportError as error:
        raise BenchError(
            f"pictures are drawn by matplotlib ({error}): pip install exokernel[plot]"
        ) from error


def distributions(results: Sequence[Result], footnote: str, path: Path) -> None:
    """Draw the latency distribution of every result beside those of its references."""
    few = [result for result in results if len(result.references) < FEW]
    rows = [few[start : start + COLUMNS] for start in range(0, len(few), COLUMNS)]
    rows += [[result] for result in results if len(result.references) >= FEW]
    figure = _figure(width=7 * COLUMNS if len(results) > 1 else 8, height=4.8 * len(rows))
    # Each row is laid out for itself, so that a legend beside one does not narrow the others.
    for part, row in zip(figure.subfigures(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        for axes, result in zip(part.subplots(1, len(row), squeeze=False)[0], row, strict=True):
            _distribution(axes, result)
    _save(figure, footnote, path)


def _distribution(axes: "Axes", result: Result) -> None:
    own = show_time(result.figures.p50)
    most = result.measure.most
    goal = "" if most is None else f" (goal: at most {show_time(most)} µs)"
    _curve(axes, result.blocks, f"{result.measure.subject.name}: p50 {own} µs{goal}", "-", width=2.6)
    for number, reference in enumerate(result.references):
        p50, ratio = show_time(reference.figures.p50), show_ratio(reference.ratio.value)
        goal = "" if reference.goal is None else f"; goal: at most {show_ratio(reference.goal)}"
        label = f"{reference.name}: p50 {p50} µs (ours is {ratio} times that{goal})"
        _curve(axes, reference.blocks, label, STYLES[number % len(STYLES)], width=1.4)
    axes.set_title(result.measure.title, fontsize=11)
    axes.set_xlabel("time of one, µs (logarithmic; the slowest 1 % not shown)")
    axes.set_ylabel("share that took at most this long")
    axes.set_ylim(0, 1)
    _logarithmic(axes, "x")
    axes.grid(visible=True, alpha=0.3)
    if len(result.references) >= FEW:
        _legend_beside(
            axes, [result.figures.p50, *(reference.figures.p50 for reference in result.references)]
        )
    else:
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.15), frameon=False)


def _legend_beside(axes: "Axes", order: Sequence[float]) -> None:
    """Put the legend to the right of *axes*; its lines by *order*, which has a number for each curve."""
    lines, labels = axes.get_legend_handles_labels()
    places = sorted(range(len(lines)), key=order.__getitem__)
    axes.legend(
        [lines[place] for place in places],
        [labels[place] for place in places],
        fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False,
    )  # fmt: skip


def _logarithmic(axes: "Axes", name: Literal["x", "y"]) -> None:
    """Make the axis *name* logarithmic, with plain numbers at 1, 2, 5, 10 and so on.

    Where it is short, at more; where it is long, at powers of ten.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415 - optional

    axes.set(**{f"{name}scale": "log"})
    axis = {"x": axes.xaxis, "y": axes.yaxis}[name]
    low, high = axis.get_view_interval()
    span = high / low
    subs = (1, 1.5, 2, 3, 4, 5, 7) if span <= 10 else (1, 2, 5) if span <= LONG else (1,)  # noqa: PLR2004
    axis.set_major_locator(LogLocator(subs=subs, numticks=99))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axis.set_minor_formatter(NullFormatter())


def _curve(axes: "Axes", blocks: Sequence[Block], label: str, style: str, width: float) -> None:
    """Draw the empirical distribution function."""
    ordered = sorted(chain.from_iterable(blocks))
    shown = ordered[: ceil(len(ordered) * TAIL)]
    heights = [(index + 1) / len(ordered) for index in range(len(shown))]
    axes.plot(
        [sample / US for sample in shown],
        heights,
        drawstyle="steps-post",
        label=label,
        linestyle=style,
        linewidth=width,
    )


def curve(counts: Sequence[int], results: Sequence[Result], what: str, footnote: str, path: Path) -> None:
    """Draw the p50 and p90 of each result, and of its first reference, over *counts* of *what*."""
    figure = _figure(width=8, height=5)
    axes = figure.add_subplot()
    ours = [result.figures for result in results]
    theirs = [result.references[0] for result in results]
    name, other = results[0].measure.subject.name, theirs[0].name
    axes.plot(counts, [each.p50 / US for each in ours], "o-", color="C0", label=f"{name}, p50")
    axes.plot(counts, [each.p90 / US for each in ours], "o:", color="C0", alpha=0.6, label=f"{name}, p90")
    axes.plot(counts, [each.figures.p50 / US for each in theirs], "s-", color="C1", label=f"{other}, p50")
    growth = ours[-1].p50 / ours[0].p50
    axes.set_title(
        f"{results[0].measure.title}\nat {counts[-1]} it takes {growth:.2f} times what it takes at {counts[0]}"
    )
    axes.set_xlabel(what)
    axes.set_ylabel("µs")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.25)
    axes.legend(fontsize=8)
    _save(figure, footnote, path)


def sweeps(panels: Mapping[str, Mapping[str, Mapping[int, Result]]], footnote: str, path: Path) -> None:
    """Draw each of *panels*, by title: the p50 over the count of words, one line a sweep, thin its references."""
    figure = _figure(width=7 * len(panels), height=5)
    first: Axes | None = None
    for number, (title, panel) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), number, sharey=first)
        first = first or axes
        for index, (name, points) in enumerate(panel.items()):
            _sweep(axes, name, points, f"C{index}")
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("untyped words")
        axes.set_ylabel("one way, µs")
        axes.grid(visible=True, alpha=0.25)
        axes.legend(fontsize=8, ncols=len(panel), loc="upper center", bbox_to_anchor=(0.5, -0.12))
    if first is not None:
        first.set_ylim(bottom=0)  # of all, when all are drawn: from then on the top stays, too
    _save(figure, footnote, path)


def _sweep(axes: "Axes", name: str, points: Mapping[int, Result], color: str) -> None:
    """Draw one sweep in *color*, its references dashed and dotted."""
    counts = list(points)
    axes.plot(counts, [result.figures.p50 / US for result in points.values()], "o-", color=color, label=name)
    names = [reference.name for reference in next(iter(points.values())).references]
    for index, reference in enumerate(names):
        times = [result.references[index].figures.p50 / US for result in points.values()]
        style = DASHES[index % len(DASHES)]
        axes.plot(counts, times, style, color=color, alpha=0.6, linewidth=1, label=f"  {reference}")


def clients(points: Mapping[int, Result], footnote: str, path: Path) -> None:
    """Draw how many calls a second each party makes over the count of clients; the bands are the 95 % intervals."""
    figure = _figure(width=11, height=6)
    axes = figure.add_subplot()
    last: list[float] = []
    for number, (name, each) in enumerate(_by_party(points).items()):
        rates, lows, highs = (
            [SECOND / getattr(figures, time) for figures in each.values()] for time in ("p50", "high", "low")
        )
        style, width = _line_of(number)
        axes.plot([*each], rates, f"o{style}", color=f"C{number}", linewidth=width, markersize=4, label=name)
        axes.fill_between([*each], lows, highs, color=f"C{number}", alpha=0.15, linewidth=0)
        last.append(-rates[-1])
    axes.set_title("calls of one server, against how many clients it has")
    axes.set_xlabel("clients that call at the same time (logarithmic)")
    axes.set_ylabel("calls a second, all clients together (logarithmic)")
    _logarithmic(axes, "y")
    axes.set_xscale("log", base=2)
    axes.set_xticks([*points], [str(count) for count in points])
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    _legend_beside(axes, last)
    _save(figure, footnote, path)


def sizes(
    points: Mapping[int, Result],
    footnote: str,
    path: Path,
    title: str = "a payload there and back, against its size",
) -> None:
    """Draw the p50 of each party over the size of the payload, in bytes; the bands are the 95 % intervals."""
    figure = _figure(width=11, height=6)
    axes = figure.add_subplot()
    last: list[float] = []
    for number, (name, each) in enumerate(_by_party(points).items()):
        style, width = _line_of(number)
        p50s = [figures.p50 / US for figures in each.values()]
        axes.plot([*each], p50s, f"o{style}", color=f"C{number}", linewidth=width, markersize=4, label=name)
        lows, highs = (
            [value / US for value in bound] for bound in zip(*map(_interval, each.values()), strict=True)
        )
        axes.fill_between([*each], lows, highs, color=f"C{number}", alpha=0.15, linewidth=0)
        last.append(-p50s[-1] if len(each) == len(points) else 0)
    axes.set_title(title)
    axes.set_xlabel("payload (logarithmic)")
    axes.set_ylabel("p50, µs (logarithmic)")
    _logarithmic(axes, "y")
    axes.set_xscale("log", base=2)
    axes.set_xticks([*points], [show_size(size) for size in points], fontsize=8)
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    _legend_beside(axes, last)
    _save(figure, footnote, path)


def _line_of(number: int) -> tuple[str, float]:
    """Return the style and the width of the line of party *number*, of which the first is the subject."""
    return (STYLES[(number - 1) % len(STYLES)], 1.4) if number else ("-", 2.6)


def _interval(figures: Summary) -> tuple[float, float]:
    return figures.low, figures.high


def _by_party(points: Mapping[int, Result]) -> dict[str, dict[int, Summary]]:
    """Return the figures of each party by size, the subject first; some have no figures of the larger ones."""
    parties: dict[str, dict[int, Summary]] = {}
    for size, result in points.items():
        parties.setdefault(result.measure.subject.name, {})[size] = result.figures
        for reference in result.references:
            parties.setdefault(reference.name, {})[size] = reference.figures
    return parties


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: "Figure", footnote: str, path: Path) -> None:
    figure.supxlabel(footnote, fontsize=7, color="gray")
    figure.savefig(path, dpi=150)
