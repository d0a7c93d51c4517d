"""Policies side by side: the same programs under each, tried in virtual time by the kernel's own processor."""

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exo import choosing, svg, view
from exo.system import Trouble, Usage

Outcome = dict[str, Any]
BAR, ROW, LABEL = 132, 26, 110
"""Pixels of a whole bar, of a row, and of the names before them."""


def main(options: Namespace) -> int:
    """Try the policies that are named, and show what came of each."""
    if not options.words:
        raise Usage("name policies: exo sched compare stride lottery fair,latency=12ms my_policy.py:MyPolicy")
    found = tried(options)
    if options.svg:
        try:
            Path(options.svg).write_text(picture(found), encoding="utf-8")
        except OSError as error:
            raise Trouble(f"{options.svg} cannot be written: {error}") from None
    if options.json:
        view.print_json(found)
    else:
        print("\n\n".join(map(shown, found)))
    return 0


def tried(options: Namespace) -> list[Outcome]:
    """Return the outcome of each policy. Raises Usage, Trouble."""
    import msgspec

    choices = [choosing.choice(name, rest) for name, *rest in (word.split(",") for word in options.words)]
    request = {
        "policies": msgspec.to_builtins(choices),
        "programs": [_program(word) for word in options.program],
        "seconds": options.seconds,
        "seed": options.seed,
    }
    done = subprocess.run(
        [sys.executable, "-m", "servers.scheduler.trial"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Trouble(done.stderr.strip().splitlines()[-1] if done.stderr else "the trial ended early")
    found: list[Outcome] = json.loads(done.stdout)
    return found


def _program(word: str) -> tuple[str, str, dict[str, int | float | str], int]:
    """Return name, kind, parameters and weight of a described program. Raises Usage."""
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
    return name, kind, parameters, weight


def shown(outcome: Outcome) -> str:
    """Return one policy as a table."""
    rows = [
        (each["name"], each["kind"], each["weight"], f"{each['share']:.1%}", each["jobs"], _ms(each["wait_p50"]),
         _ms(each["wait_p99"]), f"{each['missed']} of {each['due']}" if each["due"] else "")
        for each in _rows(outcome)
    ]  # fmt: skip
    head = ("NAME", "KIND", "WEIGHT", "SHARE", "JOBS", "WAIT p50", "p99", "MISSED")
    lines = [f"{outcome['policy']}: idle {outcome['idle']:.1%}, {outcome['switches']} switches"]
    if outcome["refused"]:
        lines.append(f"refused: {outcome['refused']}")
    return "\n".join([*lines, view.table(head, rows, head[2:])])


def _rows(outcome: Outcome) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = outcome["rows"]
    return rows


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3g} ms"


def picture(outcomes: Sequence[Outcome]) -> str:
    """Return a picture: for each policy shares, the 99th percentile of waits, and misses, as bars."""
    names = list(dict.fromkeys(each["name"] for outcome in outcomes for each in _rows(outcome)))
    colours = svg.colours(map(str, names))
    longest = max((each["wait_p99"] or 0 for one in outcomes for each in _rows(one)), default=0) or 1
    drawn, y = list[str](), 64
    columns = [svg.MARGIN + LABEL + at * (BAR + 68) for at in range(3)]
    for outcome in outcomes:
        drawn.append(svg.text(svg.MARGIN, y, str(outcome["policy"]), size=15))
        if outcome is outcomes[0]:
            heads = ("share of the processor", f"wait, p99, to {longest:.3g} ms", "deadlines missed")
            drawn += [svg.text(x, y, head, "pale", size=12) for x, head in zip(columns, heads, strict=True)]
        for each in _rows(outcome):
            y += ROW
            look = svg.fill(colours.get(str(each["name"]), svg.REST))
            drawn.append(svg.text(svg.MARGIN, y + 4, str(each["name"]), size=13))
            missed = each["missed"] / each["due"] if each["due"] else None
            wait = each["wait_p99"]
            bars = (
                (each["share"], f"{each['share']:.1%}"),
                (None if wait is None else wait / longest, _ms(wait)),
                (missed, f"{each['missed']} of {each['due']}"),
            )
            for x, (part, label) in zip(columns, bars, strict=True):
                if part is not None:
                    drawn.append(svg.rect(x, y - 7, max(part * BAR, 1), 14, look))
                    drawn.append(svg.text(x + max(part * BAR, 1) + 6, y + 4, label, "pale", size=12))
        y += ROW + 14
    return svg.page(y + 10, "The same programs under each policy", drawn)
