"""List the processors; take one out of the system, or put it back.

A processor is a host core that runs plans, as `machine.cpus` of the topology names them. When one is taken out the
scheduler moves those that run on it to the others, and the kernel those that it leaves there for a second. Until
then the processor goes on for them. What was reserved for them moves with them; what the others have no room for is
lost, and named here. The last processor cannot be taken out.

When it is back, those that the scheduler moved return, with what is reserved for them. What was lost stays lost:
say it again by 'exo sched reserve'.

The host's core itself goes on: the servers, which run beside the plans, may use it.
"""

import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from exo import sched, view
from exo.system import Trouble, Usage, run_directory
from kernel.abi.kip import EnvironmentState
from kernel.abi.limits import MAX_CPUS

if TYPE_CHECKING:
    from libexo.kip import Kip

ARGUMENTS = "[--json] | off NUMBER | on NUMBER"
EXAMPLES = """\
  exo cpu
  exo cpu off 1                          whoever runs there is moved to the others
  exo cpu on 1"""

PATIENCE = 10.0
"""Seconds until those who were on a processor are elsewhere: the kernel's second, and as long as moves take."""
PAUSE = 0.01


def configure(parser: ArgumentParser) -> None:
    """Add the options of `cpu`."""
    view.add_json(parser)
    parser.add_argument("action", nargs="?", choices=("off", "on"), help="what to do; nothing: list them")
    parser.add_argument("number", nargs="?", metavar="NUMBER", help="a processor, as the list numbers it")


def main(options: Namespace) -> int:
    """List the processors, or take one out, or put it back."""
    kip = view.open_kip(options.run)
    if options.action is None:
        found = gather(kip, sched.reservations(options.run))
        if options.json:
            view.print_json(found)
        else:
            print(text(found))
        return 0
    number = _number(kip, options.number)
    before = members(kip)
    if options.action == "on":
        _switch(options, number, on=True)
        print(f"processor {number} is on")
        return 0
    kept = sched.reservations(options.run)
    _switch(options, number, on=False)
    _wait(kip, number)
    print("\n".join(report(kip, number, before, kept, sched.told_reservations(options.run))))
    return 0


def _number(kip: "Kip", word: str | None) -> int:
    count = len(kip.plans())
    if word is None:
        raise Usage("name a processor: exo cpu off 1; 'exo cpu' lists them")
    if not word.isdecimal() or int(word) >= min(count, MAX_CPUS):
        raise Trouble(f"there is no processor {word}: they are numbered 0 to {count - 1}, as 'exo cpu' shows")
    return int(word)


def _switch(options: Namespace, number: int, *, on: bool) -> None:
    from exo.console import Console

    console = Console(run_directory(options.run))
    try:
        console.ask("power", processor=number, on=on)
    finally:
        console.close()


def _wait(kip: "Kip", number: int) -> None:
    """Wait until nobody is under processor *number*, or it is back. Raises Trouble."""
    until = time.monotonic() + PATIENCE
    while number in kip.processors_off() and (left := _under(kip, number)):
        if time.monotonic() > until:
            raise Trouble(
                f"processor {number} is taken out, and still has {', '.join(left)}: 'exo logs kernel' says why"
            )
        time.sleep(PAUSE)


def members(kip: "Kip") -> dict[str, int]:
    """Return who is under which processor, by name."""
    return {
        row.name: row.cpu for row in kip.environments() if row.cpu >= 0 and row.state != EnvironmentState.DEAD
    }


def _under(kip: "Kip", number: int) -> list[str]:
    return [name for name, cpu in members(kip).items() if cpu == number]


def gather(kip: "Kip", kept: "dict[str, view.Json]") -> list[view.Json]:
    """Return each processor; these keys are kept stable."""
    off = kip.processors_off()
    names = {row.number: row.name for row in kip.environments()}
    found: list[view.Json] = []
    for number, plan in enumerate(kip.plans()):
        under = _under(kip, number)
        state = "on" if number not in off else "leaving" if under else "off"
        running = names.get(plan.running) if plan.running >= 0 else None
        reserved = [name for name, told in kept.items() if told["processor"] == number]
        found.append(
            {
                "processor": number,
                "core": plan.core,
                "state": state,
                "running": running,
                "members": under,
                "reserved": reserved,
            }
        )
    return found


def text(found: list[view.Json]) -> str:
    """Return the list of processors."""
    rows = [
        (each["processor"], each["core"], each["state"], each["running"] or "-", _count(each), _names(each))
        for each in found
    ]
    right = ("PROCESSOR", "CORE", "MEMBERS")
    return view.table(("PROCESSOR", "CORE", "STATE", "RUNNING", "MEMBERS", "RESERVED FOR"), rows, right)


def _count(each: view.Json) -> int:
    listed = each["members"]
    assert isinstance(listed, list)
    return len(listed)


def _names(each: view.Json) -> str:
    listed = each["reserved"]
    assert isinstance(listed, list)
    return ", ".join(listed)


def report(
    kip: "Kip",
    number: int,
    before: dict[str, int],
    kept: "dict[str, view.Json]",
    now: "dict[str, view.Json] | None",
) -> list[str]:
    """Return what became of those that were under processor *number*, and of what was reserved there."""
    after = members(kip)
    there = [name for name, cpu in before.items() if cpu == number and name in after]
    lines = [f"processor {number} is off"]
    lines += [f"{name} is moved to processor {after[name]}" for name in there]
    for name in there:
        if name in kept:
            lines.append(f"{name} {_fate(after[name], now, name)}: {sched.reserved(kept[name])}")
    return lines


def _fate(to: int, now: "dict[str, view.Json] | None", name: str) -> str:
    """Return what became of the reservation of *name*, which is under processor *to* now."""
    if now is None:
        return "had a reservation, and the scheduler does not say what it has now"
    if name in now and now[name]["processor"] == to:
        return "has its reservation there"
    return f"has lost its reservation, for which processor {to} has no room"
