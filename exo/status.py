"""Say how the system is: since when it runs, its servers, its memory, what the kernel has counted.

The exit status is 0 when the system is up and every server is ready, and 1 otherwise; so a script can wait
for it.
"""

import os
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from exo import view
from exo.deaths import recent
from exo.system import run_directory
from kernel.abi.kip import EnvironmentState, Head

if TYPE_CHECKING:
    from libexo.kip import Kip

ARGUMENTS = "[--json]"
DEATHS = 3
"""How many of the last deaths of servers are shown."""
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
        "servers": {row.name: view.state(row) for row in rows if view.is_server(row)},
        "deaths": [
            {"name": each.name, "cause": each.cause, "at_ns": each.at_ns, "restarts": each.restarts}
            for each in recent(run, DEATHS)
        ],
        "counters": kip.counters(),
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
            f"servers     {', '.join(f'{row.name} {view.state(row)}' for row in servers)}",
            f"programs    {programs}",
            f"memory      {view.size(free)} of {view.size(total)} free",
            f"processors  host core {cores}, of {os.cpu_count()}",
            f"counted     {', '.join(counted) or 'nothing yet'}",
            *_deaths(found["run"]),
        ]
    )


def _deaths(run: object) -> list[str]:
    """Return a line for each of the last deaths."""
    now = time.monotonic_ns()
    return [
        f"died        {each.name}, {view.duration(now - each.at_ns)} ago: {each.cause}"
        for each in recent(str(run), DEATHS)
    ]
