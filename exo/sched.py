"""Show the plan of each processor, or choose who makes it.

A plan is the slices which the kernel walks, round and round. The servers are not in it: they run beside the plans,
on the host's own scheduler. If the plan is not the policy's, because there is no scheduler, or its policy's plan is
invalid, the first lines say so.

'use' puts a policy in force while everything keeps running: one of 'policies', or a class of a file of your own
(docs/scheduling.md). Words like quantum=5ms are arguments of its constructor. One that cannot be made, or has no
valid plan for what runs now, is refused, and what was in force stays. 'set' says to the policy what it should know
of a program and its descendants; weight=3 gives them three parts; with no value, as in period=, it is forgotten.

'reserve' has the kernel give a program so much CPU time in every period, before any plan and beside its slices;
'none' ends that. It is refused where less is left of the processor. What is reserved is shown below its plan.

'why' says what a program had of the processor in the last second, and gives each moment in which it did not run a
cause: the plan, a message and whose, a predicate, a reservation, a page, the watchdog, a stop, the host, "unknown".
'timeline' draws who ran when, here or as SVG.

'compare' tries policies side by side on the same programs, in virtual time: no system need be up. Arguments follow
a comma, as in stride,quantum=5ms. With --real the programs are processes on the running system, each policy is in
force there while they work, and what was in force before is so again in the end, after Ctrl-C as well. What else
runs has its part meanwhile. WAIT is by how much a piece of work took longer than it computes.
"""

import os
import textwrap
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from exo import choosing, numbers, view
from exo.system import Trouble, Usage, run_directory
from kernel.abi.kip import EnvironmentState, SystemState
from kernel.abi.limits import MAX_SLICE_US

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.kip import Kip, PlanView
    from servers.scheduler.api import Scheduler

ARGUMENTS = """[--json] | use POLICY [KEY=VALUE…] | set NAME KEY=VALUE… | policies
       exo sched reserve NAME RUNTIME/PERIOD|none
       exo sched why NAME [--since TIME] [--json]
       exo sched timeline [NAME…] [--since TIME] [--svg FILE | --follow]
       exo sched compare POLICY[,KEY=VALUE…]… [--seconds S] [--real] [--program NAME=KIND,KEY=VALUE…]
                         [--svg FILE]"""
EXAMPLES = """\
  exo run -d --share 3 -- a.py; exo run -d -- b.py; exo sched
  exo sched policies
  exo sched use stride quantum=5ms
  exo sched use my_policy.py:MyPolicy
  exo sched set a weight=2 priority=7
  exo sched reserve a 2ms/10ms
  exo sched why a --since 500ms          what kept it from running, and for how long
  exo sched timeline --follow            who runs when, until q or Ctrl-C
  exo sched compare stride lottery my_policy.py:MyPolicy --seconds 10 --svg compared.svg
  exo sched compare stride edf --real --program a=loop --program b=periodic,period=40ms,runtime=9ms,work=5ms"""

WIDTH, COLUMNS = 64, 80
SCHEDULER = "scheduler"
PATIENCE = 0.5
"""Seconds that the scheduler has to report on its policy."""
CHANGE = 10.0
"""Seconds that it has to change it."""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `sched`."""
    view.add_json(parser)
    parser.add_argument(
        "action", nargs="?", choices=sorted(ACTIONS), help="what to do; nothing: show the plans"
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="the policy, or the program, and KEY=VALUE")
    parser.add_argument(
        "--since",
        type=numbers.window,
        default="1s",
        metavar="TIME",
        help="how much of the past 'why' and 'timeline' look at (default: 1s)",
    )
    parser.add_argument("--svg", metavar="FILE", help="write the timeline, or the comparison, as a picture")
    parser.add_argument("--follow", action="store_true", help="draw the timeline again and again")
    choosing.configure(parser)


def main(options: Namespace) -> int:
    """Print the plans, or do what is asked for."""
    if options.action is not None:
        return ACTIONS[options.action](options)
    kip = view.open_kip(options.run)
    found = gather(kip)
    policy, why = fallback(run_directory(options.run), kip)
    kept = reservations(options.run) if policy else {}
    for each in found:
        of = [told for told in kept.values() if told["processor"] == each["processor"]]
        each["reserved"] = of
    if options.json:
        view.print_json([{**each, "policy": policy, "fallback": why} for each in found])
    else:
        said = [f"policy {policy}"] if policy else []
        said += [f"fallback: {why}"] if why else []
        print("\n\n".join(["\n".join(said)] * bool(said) + [picture(each) for each in found]))
    return 0


def use(options: Namespace) -> int:
    """Put a policy in force."""
    policy, *words = options.words or [""]
    choice = choosing.choice(policy, words)
    with scheduler(options.run) as (_, server):
        server.use(choice)
    print(f"{policy} is in force")
    return 0


def set_(options: Namespace) -> int:
    """Say to the policy what it should know of a program."""
    name, *words = options.words or [""]
    parameters = dict(map(choosing.pair, words))
    if not parameters:
        raise Usage("name a program and what to set: exo sched set NAME weight=3 period=20ms")
    with scheduler(options.run) as (environment, server):
        thread = _thread(environment, name)
        weight = parameters.pop("weight", None)
        if weight is not None and not isinstance(weight, int):
            raise Usage(f"a weight is a whole number of parts, not {weight!r}")
        if parameters:
            server.set(thread, parameters)
        if weight is not None:
            server.set_share(thread, weight)
    return 0


def _thread(environment: "Environment", name: str) -> int:
    """Return the first thread of the program called *name*. Raises Trouble."""
    row = next((each for each in environment.kip.environments() if each.name == name), None)
    if row is None or row.state == EnvironmentState.DEAD:
        raise Trouble(f"nothing called {name!r} runs: 'exo ps' lists what does")
    return row.thread


def reserve_(options: Namespace) -> int:
    """Reserve CPU time for a program."""
    if len(options.words) != 2:  # noqa: PLR2004 - a name, and how much
        raise Usage("name a program and how much: exo sched reserve NAME 2ms/10ms, or none")
    name, text = options.words
    reserve(options.run, name, text)
    return 0


def amount(text: str) -> tuple[int, int]:
    """Return runtime and period that *text* means, in microseconds. Raises Usage."""
    if text == "none":
        return 0, 0
    runtime, period = (numbers.time(part) for part in text.partition("/")[::2])
    if runtime is None or period is None or not runtime <= period <= MAX_SLICE_US * 1000:
        raise Usage(f"{text!r}: write CPU time and period, as in 2ms/10ms, of ten seconds at most, or none")
    return runtime // 1000, period // 1000


def reserve(run: str | None, name: str, text: str) -> None:
    """Reserve for the program called *name* what *text* means. Raises Usage, Trouble."""
    told = amount(text)
    with scheduler(run) as (environment, server):
        server.reserve(_thread(environment, name), *told)


def reservations(run: str | None) -> "dict[str, view.Json]":
    """Return what is reserved, by name; nothing if the scheduler does not say."""
    return told_reservations(run) or {}


def told_reservations(run: str | None) -> "dict[str, view.Json] | None":
    """Return what is reserved, by name; None: the scheduler does not say."""
    try:
        with scheduler(run, PATIENCE) as (environment, server):
            names = {row.thread: row.name for row in environment.kip.environments()}
            return {
                names[each.thread]: {
                    "name": names[each.thread],
                    "processor": each.cpu,
                    "runtime_us": each.runtime,
                    "period_us": each.period,
                }
                for each in server.reserved()
                if each.thread in names
            }
    except (Trouble, OSError):
        return None


def policies(options: Namespace) -> int:
    """List the policies that have names."""
    with scheduler(options.run) as (_, server):
        known, force = server.policies(), server.in_force()
    own = f"{force.file}:{force.name}" if force.file else ""
    listed = {**known, own: ""} if own else known
    if options.json:
        view.print_json(
            [
                {"name": name, "says": says, "in_force": name == (own or force.name)}
                for name, says in listed.items()
            ]
        )
    else:
        rows, width = [], COLUMNS - max(map(len, listed)) - 5
        for name, says in listed.items():
            first, *more = textwrap.wrap(says, width) or [""]
            rows.append(("*" * (name == (own or force.name)), name, first))
            rows += [("", "", line) for line in more]
        print(view.table(("", "POLICY", ""), rows))
    return 0


def why(options: Namespace) -> int:
    """Say what kept a program from running."""
    from exo.why import main

    return main(options)


def timeline(options: Namespace) -> int:
    """Draw who ran when."""
    from exo.timeline import main

    return main(options)


def compare(options: Namespace) -> int:
    """Try policies on the same programs."""
    from exo.compare import main

    return main(options, scheduler)


ACTIONS = {
    "use": use, "set": set_, "policies": policies, "reserve": reserve_, "why": why, "timeline": timeline,
    "compare": compare,
}  # fmt: skip


@contextmanager
def scheduler(run: str | None, timeout: float = CHANGE) -> "Iterator[tuple[Environment, Scheduler]]":
    """Attach, and give the scheduler of *run*; tell people what it refuses."""
    import libexo
    from libexo.errors import ExoError, RemoteError
    from servers.scheduler.api import Scheduler

    try:
        environment = libexo.attach(run_directory(run), f"sched-{os.getpid()}")
    except ExoError as error:
        raise Trouble(str(error)) from None
    try:
        yield environment, Scheduler.connect(environment, SCHEDULER, timeout=timeout, patience=0)
    except RemoteError as error:
        raise Trouble(error.text) from None
    except ExoError as error:
        raise Trouble(str(error)) from None
    finally:
        environment.close()


def fallback(run: str, kip: "Kip") -> tuple[str, str]:
    """Return the policy, and why plans are not its; empty: unknown, and they are, as far as known."""
    rows = {row.name: row for row in kip.environments()}
    if kip.state != SystemState.UP:
        return "", ""
    if SCHEDULER not in kip.names():
        if not any(plan.slices for plan in kip.plans()):
            return "", ""
        return "", f"nobody is called {SCHEDULER!r}: unless another plans, the kernel goes round"
    if SCHEDULER in rows and rows[SCHEDULER].state == EnvironmentState.DEAD:
        return "", "the scheduler has ended; round robin by the kernel"
    return _reported(run)


def refused(run: str) -> str:
    """Return why the scheduler of *run* refuses its policy's plans; empty: it does not, or is silent."""
    return _reported(run)[1]


def _reported(run: str) -> tuple[str, str]:
    try:
        with scheduler(run, PATIENCE) as (_, server):
            return str(server.in_force()), server.refused()
    except (Trouble, OSError):  # a user who may not attach, or another scheduler's interface, perhaps
        return "", ""


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
    kept = processor.get("reserved") or []
    assert isinstance(kept, list)
    below = [f"reserved for {each['name']}: {reserved(each)}" for each in kept]
    if not slices:
        return "\n".join([f"{head}; the plan is empty", *below])
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
            *below,
        ]
    )


def reserved(told: view.Json) -> str:
    """Return in words how much is reserved."""
    runtime, period = told["runtime_us"], told["period_us"]
    assert isinstance(runtime, int)
    assert isinstance(period, int)
    return f"{runtime / 1000:g} ms in {period / 1000:g} ms, {100 * runtime / period:.1f} %"
