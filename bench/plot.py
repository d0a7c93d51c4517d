"""Results as pictures, through matplotlib, which is imported only here and only when a picture is wanted."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.figures import Block
from bench.harness import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png", ".pdf")
TAIL = 0.995
"""The part of the samples that is shown: the axis would otherwise be as long as the one worst of them."""
COLUMNS = 2
US = 1000


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
    rows = -(-len(results) // COLUMNS)
    figure = _figure(width=7 * min(len(results), COLUMNS), height=4.2 * rows)
    for number, result in enumerate(results, 1):
        _distribution(figure.add_subplot(rows, min(len(results), COLUMNS), number), result)
    _save(figure, footnote, path)


def _distribution(axes: "Axes", result: Result) -> None:
    own = result.figures.p50 / US
    _curve(axes, result.blocks, f"{result.measure.subject.name}: p50 {own:.1f} µs", width=2.2)
    for reference in result.references:
        p50, ratio = reference.figures.p50 / US, reference.ratio
        label = f"{reference.name}: p50 {p50:.1f} µs\n(ours is {ratio.value:.2f} times that)"
        _curve(axes, reference.blocks, label, width=1.2)
    goal = f" (goal: at most {result.measure.goal:.2f} times)" if result.measure.goal is not None else ""
    axes.set_title(f"{result.measure.title}{goal}", fontsize=11)
    axes.set_xlabel("time of one, µs (logarithmic)")
    axes.set_ylabel("share that took at most this long")
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="x", which="minor", labelsize=7)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8, loc="lower right")


def _curve(axes: "Axes", blocks: Sequence[Block], label: str, width: float) -> None:
    """Draw the empirical distribution function."""
    ordered = sorted(chain.from_iterable(blocks))
    shown = ordered[: max(1, int(len(ordered) * TAIL))]
    heights = [(index + 1) / len(ordered) for index in range(len(shown))]
    axes.plot(
        [sample / US for sample in shown], heights, drawstyle="steps-post", label=label, linewidth=width
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


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: "Figure", footnote: str, path: Path) -> None:
    figure.supxlabel(footnote, fontsize=7, color="gray")
    figure.savefig(path, dpi=150)
