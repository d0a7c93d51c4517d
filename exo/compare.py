"""Policies side by side: the same programs under each, in virtual time, or for real on the running system."""

import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from exo import choosing, svg, view
from exo.system import Trouble, Usage
from libexo.workload import USUAL, Described, Outcome, Row

if TYPE_CHECKING:
    from exo.compare_real import Attach

BAR, ROW, LABEL = 132, 26, 110
"""Pixels of a whole bar, of a row, and of the names before them."""
_PLAIN, _NAME, _VALUE, _LEAST = 80, 12, 11, 20
"""Columns of a picture that is not on a terminal, of a name at most, of a value, and of a policy at least."""


def main(options: Namespace, scheduler: "Attach") -> int:
    """Try the policies that are named, and show what came of each; *scheduler* attaches to a system."""
    if not options.words:
        raise Usage("name policies: exo sched compare stride lottery fair,latency=12ms my_policy.py:MyPolicy")
    found = tried(options, scheduler)
    if options.svg:
        try:
            Path(options.svg).write_text(picture(found), encoding="utf-8")
        except OSError as error:
            raise Trouble(f"{options.svg} cannot be written: {error}") from None
    if options.json:
        view.print_json(msgspec.to_builtins(found))
    else:
        width = shutil.get_terminal_size((_PLAIN, 24)).columns if sys.stdout.isatty() else _PLAIN
        print("\n".join(shown(found, width)))
    return 0


def tried(options: Namespace, scheduler: "Attach") -> list[Outcome]:
    """Return the outcome of each policy. Raises Usage, Trouble."""
    choices = [choosing.choice(name, rest) for name, *rest in (word.split(",") for word in options.words)]
    programs = checked([_program(word) for word in options.program])
    if options.real:
        from exo import compare_real

        return compare_real.tried(options, scheduler, choices, programs or USUAL)
    request = {"policies": choices, "programs": programs, "seconds": options.seconds, "seed": options.seed}
    done = subprocess.run(
        [sys.executable, "-m", "servers.scheduler.trial"],
        input=msgspec.json.encode(request),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise Trouble(said[-1] if said else "the trial ended early")
    return msgspec.json.decode(done.stdout, type=list[Outcome])


def checked(programs: list[Described]) -> list[Described]:
    """Return *programs*. Raises Usage: one is none, or two have a name."""
    for at, each in enumerate(programs):
        if any(each.name == other.name for other in programs[:at]):
            raise Usage(f"two programs are called {each.name!r}: give each a name of its own")
        try:
            each.jobs(0)
        except ValueError as wrong:
            raise Usage(str(wrong)) from None
    return programs


def _program(word: str) -> Described:
    """Return the program that *word* describes. Raises Usage."""
    name, equals, rest = word.partition("=")
    kind, *words = rest.split(",")
    if not name or not equals or not kind:
        raise Usage(
            f"{word!r} is no NAME=KIND,KEY=VALUE…: write a program such as video=periodic,period=40ms,runtime=8ms"
        )
    parameters = dict(map(choosing.pair, words))
    weight = parameters.pop("weight", 1)
    if not isinstance(weight, int):
        raise Usage(f"a weight is a whole number of parts, not {weight!r}")
    return Described(name, kind, parameters, weight)


def shown(outcomes: Sequence[Outcome], width: int) -> list[str]:
    """Return a picture *width* wide: what each program had, with the policies beside one another."""
    lines = [_told(outcome) for outcome in outcomes]
    names = dict.fromkeys(each.name for outcome in outcomes for each in outcome.rows)
    widest = min(max(map(len, names)), _NAME) + 2
    fit = max((width - widest) // _LEAST, 1)
    for beside in (outcomes[at : at + fit] for at in range(0, len(outcomes), fit)):
        column = (width - widest) // len(beside)
        heads = " " * widest + "".join(_cut(_called(one), column) for one in beside)
        for title, part, text in _MEASURES:
            whole = max((part(each) or 0 for one in outcomes for each in one.rows), default=0) or 1
            cells = {
                name: [
                    _cell(each, part, text, whole, column)
                    for one in beside
                    for each in one.rows
                    if each.name == name
                ]
                for name in names
            }
            rows = [_cut(name, widest) + "".join(row) for name, row in cells.items() if "".join(row).strip()]
            if rows:
                lines += ["", title, *map(str.rstrip, [heads, *rows])]
    return lines


def _called(outcome: Outcome) -> str:
    """Return the policy without the folder of its file."""
    return outcome.policy.rpartition("/")[2]


def _told(outcome: Outcome) -> str:
    told = f"{_called(outcome)}: {outcome.idle:.1%} left to others, {outcome.switches} switches"
    return f"{told}\nrefused: {outcome.refused}" if outcome.refused else told


def _cell(
    row: Row, part: "Callable[[Row], float | None]", text: "Callable[[Row], str]", whole: float, width: int
) -> str:
    """Return a bar, as long as its part of *whole*, and the value."""
    value = part(row)
    if value is None:
        return " " * width
    eighths = round(value / whole * (width - _VALUE - 1) * 8)
    bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
    return _cut(f"{bar or '▏'} {text(row)}", width)


def _cut(text: str, width: int) -> str:
    """Return *text* in *width* columns, with one free at least."""
    return (text if len(text) < width else f"{text[: width - 2]}…").ljust(width)


def _missed(row: Row) -> float | None:
    return row.missed / row.due if row.due else None


def _ms(value: float | None) -> str:
    return "" if value is None else view.duration(round(value * 1e6))


_MEASURES: "tuple[tuple[str, Callable[[Row], float | None], Callable[[Row], str]], ...]" = (
    ("SHARE of the processor", lambda row: row.share, lambda row: f"{row.share:.1%}"),
    ("WAIT, p50: longer than it computes", lambda row: row.wait_p50, lambda row: _ms(row.wait_p50)),
    ("WAIT, p99", lambda row: row.wait_p99, lambda row: _ms(row.wait_p99)),
    ("MISSED deadlines", _missed, lambda row: f"{row.missed} of {row.due}"),
)
"""Each with what a bar shows, and what is written beside it."""


def picture(outcomes: Sequence[Outcome]) -> str:
    """Return a picture: for each policy shares, the 99th percentile of waits, and misses, as bars."""
    colours = svg.colours(dict.fromkeys(each.name for outcome in outcomes for each in outcome.rows))
    longest = max((each.wait_p99 or 0 for one in outcomes for each in one.rows), default=0) or 1
    drawn, y = list[str](), 64
    columns = [svg.MARGIN + LABEL + at * (BAR + 68) for at in range(3)]
    for outcome in outcomes:
        drawn.append(svg.text(svg.MARGIN, y, outcome.policy, size=15))
        if outcome is outcomes[0]:
            heads = ("share of the processor", f"wait, p99, to {_ms(longest)}", "deadlines missed")
            drawn += [svg.text(x, y, head, "pale", size=12) for x, head in zip(columns, heads, strict=True)]
        for each in outcome.rows:
            y += ROW
            look = svg.fill(colours.get(each.name, svg.REST))
            drawn.append(svg.text(svg.MARGIN, y + 4, each.name, size=13))
            wait = each.wait_p99
            bars = (
                (each.share, f"{each.share:.1%}"),
                (None if wait is None else wait / longest, _ms(wait)),
                (_missed(each), f"{each.missed} of {each.due}"),
            )
            for x, (part, label) in zip(columns, bars, strict=True):
                if part is not None:
                    drawn.append(svg.rect(x, y - 7, max(part * BAR, 1), 14, look))
                    drawn.append(svg.text(x + max(part * BAR, 1) + 6, y + 4, label, "pale", size=12))
        y += ROW + 14
    return svg.page(y + 10, "The same programs under each policy", drawn)
