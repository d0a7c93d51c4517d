"""Show the state of the system: its age, its servers, its memory, the kernel's counters.

`busy` is the longest CPU time for which the kernel served nobody else, and the last trap in it.

The exit status is 0 when the system is up and every server of its topology is there and ready, and 1 otherwise; so
a script can wait for it. A server that ends again and again is not ready, nor is a program
of the topology that failed: their last words are shown. For a system that has ended it shows how, and
the last words of its kernel.

`died` are the last servers, and programs that are restarted, that ended unasked; `ended` are
those that did what `exo kill`, or their starter, asked.
"""

import os
import time
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from exo import marks, view
from exo.deaths import recent
from exo.gone import ended_in_order, is_over, last_words
from exo.roll import last_words as said_last
from exo.system import Trouble, no_system, run_directory
from kernel.abi import traps
from kernel.abi.kip import EnvironmentState, Head
from kernel.abi.obituary import Obituary
from kernel.abi.topology import ServerConfig, Topology, TopologyError, load

if TYPE_CHECKING:
    from libexo.kip import Kip

ARGUMENTS = "[--kernel] [--json]"
MISSING = "missing"
AGAIN = 2.0
"""Seconds after a delayed restart within which it may end as before."""
REPEATED = 0.2
"""Delay of a restart in seconds that means: three times in a row it ended soon after its start."""
ALL = 1000
DEATHS = 3
"""Deaths of servers that are shown."""
EXAMPLES = """\
  exo status
  exo status --json | jq .counters.traps"""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `status`."""
    view.add_json(parser)
    parser.add_argument(
        "--kernel", action="store_true", help="0 as soon as the kernel is up: servers may come later"
    )


def main(options: Namespace) -> int:
    """Print it."""
    run = run_directory(options.run)
    try:
        kip = view.open_kip(options.run)
    except Trouble:
        return _gone(run, as_json=options.json)
    if is_over(run):
        return _gone(run, as_json=options.json)
    found = gather(kip, run)
    if options.json:
        view.print_json(found)
    else:
        print(_text(kip, found))
    is_well = view.is_ready(kip) if options.kernel else _is_whole(kip, run) and not found["failing"]
    return 0 if is_well else 1


def _is_whole(kip: "Kip", run: str) -> bool:
    """Whether the system is up, with every server there and ready. A Python file may have come to its end."""
    found, programs = servers(kip, run), set[str]()
    with suppress(OSError, TopologyError):
        programs = {name for name, server in topology(run).server.items() if server.may_end}
    wanted = found.keys() - programs
    return view.is_ready(kip, wanted) and MISSING not in found.values()


def failing(kip: "Kip", run: str) -> list[str]:
    """Return the servers that end again and again, and the programs of the topology that failed."""
    now, rows = time.monotonic_ns(), {row.name: row for row in kip.environments()}
    known: dict[str, ServerConfig] = {}
    with suppress(OSError, TopologyError):
        known = topology(run).server
    last = {each.name: each for each in recent(run, ALL) if each.name in known}
    return [
        name
        for name, death in last.items()
        if not death.asked
        and (
            (known[name].may_end and (death.status or death.fault) and name not in rows)
            or ((wait := death.next_try or 0) >= REPEATED and now - death.at_ns < (wait + AGAIN) * 1e9)
        )
    ]


def topology(run: str) -> Topology:
    """Return the topology of the system at *run*, as it was booted. Raises OSError, TopologyError."""
    return load(Path(run, "system.toml"))


def _gone(run: str, *, as_json: bool) -> int:
    """Report how the last system at *run* ended, if its last words are there. Raises Trouble."""
    words = last_words(run)
    if words is None:
        raise no_system(run)
    in_order = ended_in_order(words)
    if as_json:
        view.print_json({"run": run, "state": "ended" if in_order else "killed", "last_words": words})
        return 1
    if in_order:
        raise Trouble(f"{no_system(run)}; 'exo logs' shows what the last one wrote")
    said = ["; its last words:", *(f"    {line}" for line in words)] if words else [", and said nothing"]
    raise Trouble(
        f"the system at {run} did not end in order: its kernel was killed, or failed"
        + "\n".join(said)
        + "\n'exo logs' shows more, 'exo up -d' starts a new one"
    )


def servers(kip: "Kip", run: str) -> dict[str, str]:
    """Return the state of each server, and of each that the topology of the system at *run* names."""
    found = {row.name: row.state.name.lower() for row in kip.environments() if view.is_server(row)}
    with suppress(OSError, TopologyError):
        for name, server in topology(run).server.items():
            if not server.may_end:
                found.setdefault(name, MISSING)
    return found


def gather(kip: "Kip", run: str) -> view.Json:
    """Return the content of `status --json`; these keys are kept stable."""
    rows = kip.environments()
    return {
        "run": run,
        "state": kip.state.name.lower(),
        "pid": view.kernel_pid(kip),
        "uptime_ns": time.monotonic_ns() - kip.head(Head.BOOT_NS),
        "processors": [plan.core for plan in kip.plans()],
        "frames": kip.head(Head.FRAME_COUNT),
        "free_frames": kip.head(Head.FREE_FRAMES),
        "pressure": marks.level(kip, run),
        "environments": len(rows),
        "servers": servers(kip, run),
        "failing": failing(kip, run),
        "deaths": [_shown(each) for each in _last(run, asked=False)],
        "ended": [_shown(each) for each in _last(run, asked=True)],
        "counters": kip.counters(),
        "turns": {**kip.turns()._asdict(), "longest_trap": _longest_trap(kip)},
    }


def _text(kip: "Kip", found: view.Json) -> str:
    rows = kip.environments()
    total, free = kip.head(Head.FRAME_COUNT), kip.head(Head.FREE_FRAMES)
    short, known = marks.told(kip, str(found["run"])), found["servers"]
    assert isinstance(known, dict)
    programs = sum(row.state != EnvironmentState.DEAD for row in rows if not view.is_server(row))
    age = view.duration(time.monotonic_ns() - kip.head(Head.BOOT_NS))
    cores = ", ".join(str(plan.core) for plan in kip.plans())
    counted = [f"{value} {name.replace('_', ' ')}" for name, value in kip.counters().items() if value]
    return "\n".join(
        [
            f"system      {found['state']} for {age}, kernel is process {found['pid']}, at {found['run']}",
            f"servers     {', '.join(f'{name} {state}' for name, state in known.items())}",
            f"programs    {programs}",
            "; ".join(filter(None, (f"memory      {view.size(free)} of {view.size(total)} free", short))),
            f"processors  host core {cores}, of {os.cpu_count()}",
            f"busy        at most {_longest(kip)}",
            f"counted     {', '.join(counted) or 'nothing yet'}",
            *_deaths(str(found["run"])),
            *_failing(found),
        ]
    )


def _last(run: str, *, asked: bool) -> list[Obituary]:
    """Return the last that died, or, *asked*, that ended on request; the oldest first."""
    return [each for each in recent(run, ALL) if bool(each.asked) == asked][-DEATHS:]


def _shown(each: Obituary) -> view.Json:
    return {"name": each.name, "cause": each.cause, "at_ns": each.at_ns, "restarts": each.restarts}


def _deaths(run: str) -> list[str]:
    """Return a line for each of the last deaths, and of the last ends on request."""
    now = time.monotonic_ns()
    words = (("died", "", _last(run, asked=False)), ("ended", ", as asked", _last(run, asked=True)))
    return [
        f"{word:12}{each.name}, {view.duration(now - each.at_ns)} ago{why}: {each.cause}"
        for word, why, found in words
        for each in found
    ]


def _failing(found: view.Json) -> list[str]:
    """Return a line for each failing server, with its last words below."""
    names = found["failing"]
    assert isinstance(names, list)
    return [f"failing     {name}{said_last(str(found['run']), name)}" for name in names]


def _longest(kip: "Kip") -> str:
    """Return the length of the longest turn of the kernel's loop, and its trap."""
    turns, trap = kip.turns(), _longest_trap(kip)
    return f"{view.duration(turns.longest_ns)} at a time{f', for {trap}' if trap else ''}"


def _longest_trap(kip: "Kip") -> str:
    """Return the last trap of the longest turn; empty: none."""
    trap = traps.TRAPS.get(kip.turns().longest_trap)
    return trap.__name__ if trap is not None else ""
