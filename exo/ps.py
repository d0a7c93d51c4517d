"""List the environments: servers, programs, and those that ended but are to be restarted.

STATE is ready for one that runs or would if it had a processor, running for one that has the processor of its
plan, blocked for one under a plan that sleeps. CPU is its processor time, in the host's nanoseconds.
MEMORY is what it holds of the system's RAM, HANDLES its capabilities, TRAPS its calls into the kernel. The kernel
is asked nothing for this: it all is in the kernel interface page, which everybody may read.

A family is a program that an operator started, with all its descendants. With --families each is shown below
its first, whose name JSON gives; if the first has ended, the oldest takes its place.

With --reserved it shows what CPU time the kernel gives whom in every period ('exo sched reserve'); for that it asks
the scheduler.

With --budget it shows what each makes the system hold for it, and, behind the stroke, the limit,
without what was given to children; memory is the whole family's.
"""

from argparse import ArgumentParser, Namespace

from exo import budget, view

ARGUMENTS = "[--budget | --families | --reserved] [--json | --names]"
EXAMPLES = """\
  exo ps
  exo ps --budget
  exo ps --families
  exo ps --json | jq '.[] | select(.state == "running") | .name'"""

HEAD = ("NAME", "THREAD", "PID", "UID", "STATE", "CPU", "MEMORY", "HANDLES", "TRAPS", "AGE")
RIGHT = frozenset(HEAD) - {"NAME", "THREAD", "STATE"}


def configure(parser: ArgumentParser) -> None:
    """Add the options of `ps`."""
    view.add_json(parser)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--budget", action="store_true", help="show what each makes the system hold")
    shown.add_argument(
        "--families", action="store_true", help="show each program below the first of its family"
    )
    shown.add_argument(
        "--reserved", action="store_true", help="show what CPU time is reserved, of those that have some"
    )
    parser.add_argument("--names", action="store_true", help="print the names only, a line each")


def main(options: Namespace) -> int:
    """Print the list."""
    kip = view.open_kip(options.run)
    found = budget.budgets(kip) if options.budget else view.environments(kip)
    if options.reserved:
        found = _reserved(options.run, found)
    if options.json:
        view.print_json(found)
    elif options.names:
        print("\n".join(str(each["name"]) for each in found))
    else:
        print(
            budget.listing(found)
            if options.budget
            else listing(together(found) if options.families else found)
        )
    return 0


def _reserved(run: str | None, found: list[view.Json]) -> list[view.Json]:
    """Return those of *found* for which CPU time is reserved, with how much."""
    from exo import sched

    kept = sched.reservations(run)
    told = {
        name: {"reserved_us": each["runtime_us"], "period_us": each["period_us"]}
        for name, each in kept.items()
    }
    return [each | told[name] for each in found if (name := str(each["name"])) in told]


def together(found: list[view.Json]) -> list[view.Json]:
    """Return *found* with each family below its first, indented; servers are in none."""
    firsts = [each for each in found if each["family"] in (None, each["name"])]
    below: dict[object, list[view.Json]] = {}
    for each in found:
        if each["family"] != each["name"]:
            below.setdefault(each["family"], []).append(each | {"name": f"  {each['name']}"})
    return [each for first in firsts for each in (first, *below.get(first["name"], ()))]


def listing(found: list[view.Json]) -> str:
    """Return the table of *found* environments, with their faults below."""
    if any("period_us" in each for each in found):
        from exo import sched

        rows = [(*_row(each), sched.reserved({"runtime_us": each["reserved_us"], **each})) for each in found]
        return view.table((*HEAD, "RESERVED"), rows, RIGHT)
    lines = [view.table(HEAD, map(_row, found), RIGHT)]
    lines += [f"{each['name']} was ended by the kernel: {each['fault']}" for each in found if each["fault"]]
    return "\n".join(lines)


def _row(each: view.Json) -> tuple[object, ...]:
    cpu, frames, age = each["cpu_ns"], each["frames"], each["age_ns"]
    assert isinstance(cpu, int)
    assert isinstance(frames, int)
    assert isinstance(age, int)
    head = [each[key] for key in ("name", "thread", "pid", "uid", "state")]
    counts = (view.size(frames), each["handles"], each["traps"], view.duration(age))
    return (*head, view.duration(cpu), *counts)
