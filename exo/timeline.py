"""`exo sched timeline [NAME…]`: who ran when, a row a program, from the event ring; with --follow again and again.

A cell is a stretch of time, filled as far as its program had the processor in it.
"""

import shutil
import sys
import textwrap
import time
from argparse import Namespace
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from exo import screen, trace, view
from exo.rows import Rows, gather, tick
from exo.system import Usage, run_directory
from exo.why import short
from kernel.abi.limits import TRACE_RECORDS
from libexo.trace import History, Present, Record

if TYPE_CHECKING:
    from libexo.kip import Kip

AGAIN = 0.5
"""Seconds between two pictures of --follow."""
LEGEND = (
    "█ has the processor, all of the cell or a part; · would run; × is stopped; ? not known; empty: sleeps"
)
_NAME, _LEAST_CELLS, _PLAIN = 16, 20, 80
"""Widest name, narrowest picture, and the width of a picture that is not on a terminal."""
_COLOURS = (34, 33, 32, 35, 36, 31)


def main(options: Namespace) -> int:
    """Draw it."""
    kip = view.open_kip(options.run)
    if options.svg is not None and options.follow:
        raise Usage("--svg draws one picture: leave --follow out")
    if options.json:
        raise Usage("a timeline is a picture: 'exo trace --json' has the events as JSON")
    if options.follow:
        return _follow(kip, options)
    past = trace.past(kip, options.run)
    rows = gather(past, options.words, past.now - options.since)
    if options.svg is not None:
        from exo.timeline_svg import picture

        Path(options.svg).write_text(picture(rows), encoding="utf-8")
        count = sum(map(len, rows.values()))
        print(f"{options.svg} has {count} program{'s' * (count != 1)}")
    else:
        told = short(past.begin - past.now + options.since, options.since) if rows else []
        print("\n".join([*told, text(rows, _width(), colours=sys.stdout.isatty())]))
    return 0


def _width() -> int:
    return shutil.get_terminal_size((_PLAIN, 24)).columns if sys.stdout.isatty() else _PLAIN


def _follow(kip: "Kip", options: Namespace) -> int:
    """Draw it again and again, until the user has seen enough or the system ends."""
    is_terminal = sys.stdout.isatty() and sys.stdin.isatty()
    ring = trace.open_ring(Path(run_directory(options.run), "trace"))
    records: deque[Record] = deque(maxlen=TRACE_RECORDS)
    with screen.taken() if is_terminal else screen.paper():
        while True:
            now = time.monotonic_ns()
            records.extend(ring.read())
            past = History(records, Present.of(kip), now)
            rows = gather(past, options.words, past.now - options.since)
            drawn = text(rows, _width(), colours=is_terminal)
            print(f"{screen.AGAIN}{drawn}" if is_terminal else f"{drawn}\n", flush=True)
            if not screen.pause(AGAIN, keys=is_terminal) or not view.is_alive(view.kernel_pid(kip)):
                return 0


def text(rows: Rows, width: int, *, colours: bool) -> str:
    """Return the picture, *width* wide."""
    if not rows:
        return "nothing under a plan had, or wanted, a processor in that time"
    widest = max(min(max(len(row.name) for each in rows.values() for row in each), _NAME), 4)
    cells = max(width - widest - 11, _LEAST_CELLS)
    lines = []
    for processor, each in rows.items():
        lines.append(f"processor {processor}")
        for at, row in enumerate(each):
            name = row.name if len(row.name) <= widest else f"{row.name[: widest - 1]}…"
            drawn = row.cells(cells)
            if colours:
                drawn = f"\x1b[{_COLOURS[at % len(_COLOURS)]}m{drawn}\x1b[0m"
            lines.append(f"{name:{widest}} |{drawn}| {100 * row.part:5.1f} %")
        lines += [f"{'':{widest}} {line}" for line in _scale(each[0].end - each[0].begin, cells)]
    return "\n".join([*lines, *textwrap.wrap(LEGEND, width)])


def _scale(length: int, cells: int) -> list[str]:
    """Return marks below the cells, and how long ago those are."""
    step = tick(length, 5)
    marks, said = [" "] * (cells + 2), [" "] * (cells + 12)
    for at in range(0, length + 1, step):
        place = 1 + round((length - at) / length * (cells - 1)) if length else 1
        marks[place] = "'"
        label = f"-{view.duration(at)}" if at else "now"
        if place + len(label) <= len(said):
            said[place : place + len(label)] = label
    return ["".join(marks).rstrip(), "".join(said).rstrip()]
