"""List the environments again and again, with the processor time of each since the last list.

'q' or Ctrl-C leaves. Into a pipe or a file it prints as often as --count says, once by default.
"""

import sys
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from exo import screen, view
from exo.numbers import positive, seconds
from kernel.abi.kip import Head

if TYPE_CHECKING:
    from libexo.kip import Kip

ARGUMENTS = "[--interval SECONDS] [--count N]"
EXAMPLES = """\
  exo top
  exo top --interval 0.2
  exo top --count 2 | tail -n +8         into a file, with a second's use"""

HEAD = ("NAME", "STATE", "CPU %", "CPU", "MEMORY", "HANDLES", "TRAPS/s", "AGE")
RIGHT = frozenset(HEAD) - {"NAME", "STATE"}


def configure(parser: ArgumentParser) -> None:
    """Add the options of `top`."""
    parser.add_argument(
        "--interval", type=seconds, default=1.0, metavar="SECONDS", help="between two lists (default: 1)"
    )
    parser.add_argument("--count", type=positive, metavar="N", help="leave after N lists")


def main(options: Namespace) -> int:
    """Show the lists."""
    kip = view.open_kip(options.run)
    is_terminal = sys.stdout.isatty() and sys.stdin.isatty()
    left = options.count or (0 if is_terminal else 1)
    meter = Meter(kip)
    with screen.taken() if is_terminal else screen.paper():
        while True:
            text = meter.text()
            print(f"{screen.AGAIN}{text}" if is_terminal else text, flush=True)
            left -= 1
            if (
                left == 0
                or not screen.pause(options.interval, keys=is_terminal)
                or not view.is_alive(view.kernel_pid(kip))
            ):
                return 0


class Meter:
    """The counts, and their growth since the last list."""

    def __init__(self, kip: "Kip") -> None:
        """Begin to count."""
        self._kip = kip
        self._at = 0
        self._before: dict[object, view.Json] = {}

    def text(self) -> str:
        """Return the list as it is now."""
        now, found = time.monotonic_ns(), view.environments(self._kip)
        spent = now - self._at if self._at else 0
        rows = [_row(each, self._before.get(each["thread"]), spent) for each in found]
        rows.sort(key=lambda row: -float(str(row[2]).replace("-", "0")))
        self._at, self._before = now, {each["thread"]: each for each in found}
        return f"{self._headline()}\n\n{view.table(HEAD, rows, RIGHT)}"

    def _headline(self) -> str:
        kip = self._kip
        age = view.duration(time.monotonic_ns() - kip.head(Head.BOOT_NS))
        free, total = kip.head(Head.FREE_FRAMES), kip.head(Head.FRAME_COUNT)
        used = view.bar(1 - free / total, 24)
        return (
            f"{kip.state.name.lower()} for {age} · memory {used} {view.size(free)} free of {view.size(total)}"
        )


def _row(each: view.Json, before: view.Json | None, spent: int) -> tuple[object, ...]:
    since = [_number(each[key]) - (_number(before[key]) if before else 0) for key in ("cpu_ns", "traps")]
    known = before is not None and spent > 0
    percent = f"{100 * since[0] / spent:.1f}" if known else "-"
    traps = f"{since[1] * 1e9 / spent:.0f}" if known else "-"
    times = [view.duration(_number(each[key])) for key in ("cpu_ns", "age_ns")]
    memory = view.size(_number(each["frames"]))
    return each["name"], each["state"], percent, times[0], memory, each["handles"], traps, times[1]


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value
