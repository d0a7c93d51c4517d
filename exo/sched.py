"""Show the plan of each processor: the slices which the kernel walks, round and round.

The servers are not in it: they run beside the plans, on the host's own scheduler. If the plan is not the
policy's, because there is no scheduler, or its policy's plan is invalid, the first line says so.
"""

import os
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from exo import view
from exo.system import run_directory
from kernel.abi.kip import EnvironmentState, SystemState

if TYPE_CHECKING:
    from libexo.kip import Kip, PlanView

ARGUMENTS = "[--json]"
EXAMPLES = """\
  exo run -d --share 3 -- a.py; exo run -d -- b.py; exo sched"""

WIDTH = 64
SCHEDULER = "scheduler"
PATIENCE = 0.5
"""Seconds that the scheduler has to report on its policy."""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `sched`."""
    view.add_json(parser)


def main(options: Namespace) -> int:
    """Print the plans."""
    kip = view.open_kip(options.run)
    found = gather(kip)
    why = fallback(run_directory(options.run), kip)
    if options.json:
        view.print_json([{**each, "fallback": why} for each in found])
    else:
        said = [f"fallback to round robin: {why}"] if why else []
        print("\n\n".join([*said, *(picture(each) for each in found)]))
    return 0


def fallback(run: str, kip: "Kip") -> str:
    """Return why plans are not a policy's; empty: they are, as far as known."""
    rows = {row.name: row for row in kip.environments()}
    if kip.state != SystemState.UP or SCHEDULER not in kip.names():
        return ""
    if SCHEDULER in rows and rows[SCHEDULER].state == EnvironmentState.DEAD:
        return "the scheduler has ended"
    return refused(run)


def refused(run: str) -> str:
    """Return why the scheduler of *run* refuses its policy's plans; empty: it does not, or is silent."""
    import libexo
    from libexo.errors import ExoError
    from servers.scheduler.api import Scheduler

    try:
        environment = libexo.attach(run, f"sched-{os.getpid()}")
    except (ExoError, OSError):  # a user who may read the tables may not be allowed to attach
        return ""
    try:
        return Scheduler.connect(environment, SCHEDULER, timeout=PATIENCE, patience=0).refused()
    except ExoError:  # another scheduler's interface, perhaps
        return ""
    finally:
        environment.close()


def gather(kip: "Kip") -> list[view.Json]:
    """Return each processor with its plan."""
    names = {row.number: row.name for row in kip.environments()}
    return [_processor(number, plan, names) for number, plan in enumerate(kip.plans())]


def _processor(number: int, plan: "PlanView", names: dict[int, str]) -> view.Json:
    slices = [{"name": names.get(who, f"#{who}"), "us": us} for who, us in plan.slices]
    running = names.get(plan.running) if plan.running >= 0 else None
    return {"processor": number, "core": plan.core, "running": running, "slices": slices}


def picture(processor: view.Json) -> str:
    """Return one processor's plan as a bar of letters with its legend."""
    slices = processor["slices"]
    assert isinstance(slices, list)
    running = processor["running"] or "nobody"
    head = f"processor {processor['processor']} (host core {processor['core']}): {running} has it"
    if not slices:
        return f"{head}; the plan is empty"
    total = sum(each["us"] for each in slices)
    names = list(dict.fromkeys(each["name"] for each in slices))
    letters = {name: view.LETTERS[index % len(view.LETTERS)] for index, name in enumerate(names)}
    drawn = "|".join(letters[each["name"]] * max(1, round(each["us"] * WIDTH / total)) for each in slices)
    shares = {name: sum(each["us"] for each in slices if each["name"] == name) for name in names}
    rows = [
        (letters[name], name, f"{us / 1000:g} ms", f"{100 * us / total:.1f} %") for name, us in shares.items()
    ]
    return "\n".join(
        [
            f"{head}; a round is {total / 1000:g} ms",
            f"|{drawn}|",
            view.table(("", "NAME", "SLICE", "SHARE"), rows, ("SLICE", "SHARE")),
        ]
    )
