"""Ask a program for memory: so many frames of 4 KiB are to come back, of its family if it is the first of one.

The program is told how many, and by when. It gives back what it likes: the library first gives what heaps only keep
ready, then the program's own handler chooses. What is missing at the end is taken from it, by the rules that it set
before: first what it named, last what it spared. Extents are taken whole, so it may lose more than is missing. When
all is back this returns, so it may take less than --within.

Shown is what was given back, what was taken, with the extents it was in and where their contents were saved, and
what was spared. For operators: root, the kernel's uid, and those in `attach.operators`.
"""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

from exo import holdings, view
from exo.arguments import known
from exo.numbers import positive, seconds_or_none
from exo.system import Trouble, run_directory
from libexo.nouns import LONGEST_PRESS

if TYPE_CHECKING:
    from servers.memory.api import Memory, Pressed

ARGUMENTS = "[--within SECONDS] [--json] NAME PAGES"
EXAMPLES = """\
  exo press worker 256                   1 MiB, in 5 s
  exo press worker 256 --within 0        at once: nothing is asked, all is taken
  exo press worker 256 --json | jq .taken"""

WITHIN = 5.0
SHOWN = 8
"""Extents that are listed."""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `press`."""
    view.add_json(parser)
    parser.add_argument(
        "--within",
        type=grace,
        default=WITHIN,
        metavar="SECONDS",
        help=f"how long it may choose, {LONGEST_PRESS} at most (default: {WITHIN:g})",
    )
    parser.add_argument("name", type=known, metavar="NAME", help="as 'exo ps' shows it")
    parser.add_argument("pages", type=positive, metavar="PAGES", help="frames of 4 KiB that are to come back")


def grace(text: str) -> float:
    """Return the seconds that *text* means."""
    found = seconds_or_none(text)
    if found > LONGEST_PRESS:
        raise ArgumentTypeError(f"{text!r}: {LONGEST_PRESS} seconds at most")
    return found


def main(options: Namespace) -> int:
    """Ask, and print what came of it."""
    import libexo
    from servers.memory.api import Memory

    row = holdings.environment(view.open_kip(options.run), options.name)
    if row is None:
        raise Trouble(f"no environment is called {options.name}: 'exo ps' lists them")
    environment = libexo.attach(run_directory(options.run), f"press-{os.getpid()}")
    try:
        had, pressed = ask(Memory.connect(environment), row.name, row.thread, options.pages, options.within)
    except KeyboardInterrupt:
        print(f"exo: the press goes on: {row.name} loses what is missing at its end", file=sys.stderr)
        raise
    finally:
        environment.close()
    if options.json:
        view.print_json(found(row.name, options.pages, options.within, had, pressed))
    else:
        whose = f"{row.name} and its descendants" if row.is_first else row.name
        print(text(whose, options.pages, had, pressed))
    return 0


def ask(memory: "Memory", name: str, thread: int, pages: int, within: float) -> "tuple[int, Pressed]":
    """Press *thread*'s program; return how many frames it had, and what came of it. Raises Trouble."""
    had = memory.holds(thread)
    if not had:
        raise Trouble(f"{name} holds no memory: there is nothing to give back")
    if pages > had:
        raise Trouble(f"{name} has {had} frames: ask for {had} at most, not for {pages}")
    return had, memory.press(thread, had - pages, within)


def found(name: str, asked: int, within: float, had: int, pressed: "Pressed") -> view.Json:
    """Return the content of `--json`; these keys are kept stable."""
    return {
        "name": name,
        "asked": asked,
        "within": within,
        "had": had,
        "has": pressed.frames,
        "given": pressed.given,
        "taken": pressed.taken,
        "spared": pressed.spared,
        "extents": [
            {"first": each.first, "frames": each.pages, "saved_at": each.place if each.place >= 0 else None}
            for each in pressed.extents
        ],
    }


def text(name: str, asked: int, had: int, pressed: "Pressed") -> str:
    """Return what happened as a table, and the extents that were taken."""
    rows = [
        (word, frames, view.size(frames))
        for word, frames in (
            ("given back", pressed.given),
            ("taken", pressed.taken),
            ("spared", pressed.spared),
            ("has now", pressed.frames),
        )
    ]
    lines = [
        f"{name}: asked for {asked} of {had} frames",
        view.table(("", "FRAMES", "MEMORY"), rows, ("FRAMES", "MEMORY")),
    ]
    if pressed.extents:
        shown = [
            f"{each.first}+{each.pages}" + (f" (saved at {each.place})" if each.place >= 0 else "")
            for each in pressed.extents[-SHOWN:]
        ]
        more = len(pressed.extents) - len(shown)
        lines.append(f"taken: {', '.join(shown)}" + (f", and {more} before" if more else ""))
    return "\n".join(lines)
