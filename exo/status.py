"""Say how the system is: since when it runs, its servers, its memory, what the kernel has counted.

`busy` is the CPU time the kernel once was busy without a look at anybody else, and with which trap at its end.

The exit status is 0 when the system is up and every server is ready, and 1 otherwise; so a script can wait
for it.
"""

import os
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from exo import view
from exo.system import run_directory
from kernel.abi import traps
from kernel.abi.kip import EnvironmentState, Head

if TYPE_CHECKING:
    from libexo.kip import Kip

ARGUMENTS = "[--json]"
EXAMPLES = """\
  exo status
  exo status --json | jq .counters.traps"""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `status`."""
    view.add_json(parser)


def main(options: Namespace) -> int:
    """Print it."""
    kip = view.open_kip(options.run)
    found = gather(kip, run_directory(options.run))
    if options.json:
        view.print_json(found)
    else:
        print(_text(kip, found))
    return 0 if view.is_ready(kip) else 1


def gather(kip: "Kip", run: str) -> view.Json:
    """Return what `status --json` has; these keys are kept stable."""
    rows = kip.environments()
    return {
        "run": run,
        "state": kip.state.name.lower(),
        "pid": view.kernel_pid(kip),
        "uptime_ns": time.monotonic_ns() - kip.head(Head.BOOT_NS),
        "processors": [plan.core for plan in kip.plans()],
        "frames": kip.head(Head.FRAME_COUNT),
        "free_frames": kip.head(Head.FREE_FRAMES),
        "environments": len(rows),
        "servers": {row.name: row.state.name.lower() for row in rows if view.is_server(row)},
        "counters": kip.counters(),
        "turns": {**kip.turns()._asdict(), "longest_trap": _longest_trap(kip)},
    }


def _text(kip: "Kip", found: view.Json) -> str:
    rows = kip.environments()
    total, free = kip.head(Head.FRAME_COUNT), kip.head(Head.FREE_FRAMES)
    servers = [row for row in rows if view.is_server(row)]
    programs = sum(row.state != EnvironmentState.DEAD for row in rows if not view.is_server(row))
    age = view.duration(time.monotonic_ns() - kip.head(Head.BOOT_NS))
    cores = ", ".join(str(plan.core) for plan in kip.plans())
    counted = [f"{value} {name.replace('_', ' ')}" for name, value in kip.counters().items() if value]
    return "\n".join(
        [
            f"system      {found['state']} for {age}, kernel is process {found['pid']}, at {found['run']}",
            f"servers     {', '.join(f'{row.name} {row.state.name.lower()}' for row in servers)}",
            f"programs    {programs}",
            f"memory      {view.size(free)} of {view.size(total)} free",
            f"processors  host core {cores}, of {os.cpu_count()}",
            f"busy        at most {_longest(kip)}",
            f"counted     {', '.join(counted) or 'nothing yet'}",
        ]
    )


def _longest(kip: "Kip") -> str:
    """Return how long the longest turn of the kernel's loop took, and which trap it was."""
    turns, trap = kip.turns(), _longest_trap(kip)
    return f"{view.duration(turns.longest_ns)} at a time{f', for {trap}' if trap else ''}"


def _longest_trap(kip: "Kip") -> str:
    """Return which trap the longest turn did last; empty: none."""
    trap = traps.TRAPS.get(kip.turns().longest_trap)
    return trap.__name__ if trap is not None else ""
