"""The command `exo bench compare OLD NEW`: how `bench.changes` are shown, and the exit status they give."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import changes
from bench.changes import Change, Runs, Verdict
from bench.errors import BenchError
from bench.figures import Ratio
from bench.report import show_size

SLOWER, TROUBLE = 1, 2
"""Exit statuses, as diff has them: there are differences; there is nothing to compare."""
HEAD = ("", "old µs", "new µs", "p99 old", "p99 new", "new / old, 95 %", "drift taken out", "")
LEFT = (0, 5, 6, 7)
"""Columns of text."""
US = 1000
EPILOG = """\
Files are written by `exo bench ... --json --runs 3`; runs appended to a file count too. Ratios are of the medians
of the rounds' p50s; the 95 % interval is a bootstrap: of each file runs are drawn again, and of each run stretches
of rounds. Drift is taken out by dividing each round by the same round of the first reference. Slower or faster is
what is so by both ratios, beyond its interval and by --least at least."""


def main(argv: Sequence[str]) -> int:
    """Compare the files that *argv* names; return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        old, new = changes.read(arguments.old), changes.read(arguments.new)
    except BenchError as error:
        print(f"exo bench compare: {error}", file=sys.stderr)
        return TROUBLE
    found = changes.changes(old, new, arguments.least)
    if arguments.json:
        for each in found:
            print(msgspec.json.encode(each).decode())
    else:
        print(text(old, new, found, arguments.least))
    return SLOWER if arguments.fail and any(each.verdict == Verdict.SLOWER for each in found) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="exo bench compare", description="Say what became faster or slower.", epilog=EPILOG
    )
    for name in ("old", "new"):
        parser.add_argument(name, type=Path, metavar=name.upper(), help="a file of `exo bench ... --json`")
    parser.add_argument("--least", type=_percent, default=changes.LEAST, metavar="PERCENT",
                        help=f"a smaller difference does not count (default: {changes.LEAST:g})")  # fmt: skip
    parser.add_argument(
        "--fail", action="store_true", help=f"exit with status {SLOWER} when something is slower"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a measure, times in nanoseconds")
    return parser


def _percent(text: str) -> float:
    try:
        percent = float(text)
    except ValueError:
        percent = -1
    if not 0 <= percent <= 1000:  # noqa: PLR2004 - ten times; and not a number is neither
        raise argparse.ArgumentTypeError(f"{text!r}: per cent, from 0 to 1000")
    return percent


def text(old: Runs, new: Runs, found: Sequence[Change], least: float) -> str:
    """Return *found*, the changes from *old* to *new*, as text."""
    lines = [f"{name}: {each}" for name, runs in (("old", old), ("new", new)) for each in _made(runs)]
    if differ := changes.differences(old, new):
        said = "; ".join(f"{name} {before} → {after}" for name, (before, after) in differ.items())
        lines.append(f"not the same host: {said}")
    verdicts = Counter(each.verdict for each in found)
    lines += ["", *_table(found), "", ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())]
    lines.append(f"(a change: both 95 % intervals on one side of 1, and {least:g} % at least)")
    if Verdict.FEW in verdicts:
        lines.append(
            f"Runs differ by more than their rounds do: {changes.RUNS} of each at least, by --runs or >>."
        )
    return "\n".join(lines)


def _made(runs: Runs) -> list[str]:
    """Return when, and from what, each of *runs* was made."""
    return [
        f"{facts.when or 'some time'}, commit {facts.commit or 'unknown'}, {facts.cpus} CPUs ({facts.processor}), "
        f"load before {facts.load:.1f}"
        for facts in changes.hosts(runs)
    ]


def _table(found: Sequence[Change]) -> list[str]:
    rows = [HEAD, *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return ["  ".join(_aligned(row, widths)).rstrip() for row in rows]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if column in LEFT else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _row(each: Change) -> tuple[str, ...]:
    sides = (each.old, each.new)
    p50s = ("" if side is None else f"{side.p50 / US:.1f}" for side in sides)
    p99s = ("" if side is None else f"{side.p99 / US:.1f}" for side in sides)
    return (_name(each), *p50s, *p99s, _ratio(each.ratio), _ratio(each.steady), each.verdict)


def _name(each: Change) -> str:
    """Return what *each* is called: its measure, and what was varied."""
    counts = ((each.environments, "environments"), (each.words, "words"), (each.clients, "clients"))
    varied = [f"{count} {what}" for count, what in counts if count is not None]
    return ", ".join([each.measure, *varied, *([] if each.size is None else [show_size(each.size)])])


def _ratio(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{ratio.value:.2f}  [{ratio.low:.2f}, {ratio.high:.2f}]"
