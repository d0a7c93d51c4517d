"""`exo sched why NAME`: what a program did in a window of the past, and what kept it from running.

Each moment has one cause, computed from the event ring (`libexo.trace`).
"""

import difflib
import textwrap
from argparse import Namespace
from collections import Counter

import msgspec

from exo import trace, view
from exo.system import Trouble, Usage
from libexo.trace import Cause, Explanation, History, State, Why, explain

SECOND = 1_000_000_000
WIDTH = 80
"""Columns of its sentences."""
WHO = 3
"""Names that are told for each cause."""
_ENOUGH = 0.9
"""A program that has this part of what the plan gives it has it, but for the ends of the window."""
_DOES = {
    State.RUNS: "it has the processor now",
    State.READY: "it waits for the processor now",
    State.ASLEEP: "it sleeps now",
    State.STANDS: "it is stopped now",
}
_OWN = (Cause.TURN, Cause.SWITCHING)
"""What a plan is made of."""


def main(options: Namespace) -> int:
    """Print why."""
    if len(options.words) != 1:
        raise Usage("name one program: exo sched why NAME, as 'exo ps' lists it")
    name = options.words[0]
    kip = view.open_kip(options.run)
    past = trace.past(kip, options.run)
    if past.find(name) is None:
        raise Trouble(f"nothing called {name!r} runs, or ran: 'exo ps' lists what does{nearest(name, past)}")
    found = explain(past, name, past.now - options.since, past.now)
    if options.json:
        view.print_json(msgspec.to_builtins(Explanation.of(found)))
    else:
        print("\n".join(text(found)))
    return 0


def nearest(name: str, past: History) -> str:
    """Return a question for a name like *name* that there is."""
    near = difflib.get_close_matches(name, past.names.values(), 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def text(found: Why) -> list[str]:
    """Return the lines that say it."""
    return [*_head(found), *_table(found), *_verdict(found)]


def short(missing: int, window: int) -> list[str]:
    """Return a line that says that the ring does not reach back over the *window*, if some of that is *missing*."""
    if missing <= 0:
        return []
    held = view.duration(max(0, window - missing))
    return [f"the ring holds the last {held} only: what was before is not known"]


def _head(found: Why) -> list[str]:
    lines = short(found.missing, found.end - found.begin)
    if found.processor < 0:
        return [*lines, f"{found.name} is under no plan: the host's own scheduler runs it, beside the plans"]
    known = found.known - found.spent[Cause.ABSENT]
    if not known:
        return [*lines, f"{found.name} was not there in that time"]
    ran = f"{view.duration(found.spent[Cause.RAN])} of {view.duration(known)}, {_percent(found.got)}"
    mine, whole = (f"{us / 1000:g}" for us in found.plan_us)
    gives = f"the plans gave it {_percent(found.planned)}; now {mine} of {whole} ms"
    slices = f"{found.slices} slices, and {view.duration(found.longest)} at most without one"
    return [
        *lines,
        f"{found.name} ran on processor {found.processor} for {ran}",
        gives,
        slices,
    ]


def _table(found: Why) -> list[str]:
    stopped = found.causes()
    if not stopped:
        return []
    rows = []
    for cause, ns in stopped:
        first, *others = _who(found.whom.get(cause)) or [""]
        rows.append((_words(found, cause), view.duration(ns), _percent(ns / found.known), first))
        rows += [("", "", "", name) for name in others]
    lines = ["", view.table(("WHAT STOPPED IT", "TIME", "PART", "WHO"), rows, ("TIME", "PART"))]
    if found.held:
        lines += ["", *_wrapped(f"meanwhile had the processor: {', '.join(_who(found.held))}")]
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _words(found: Why, cause: Cause) -> str:
    if cause is Cause.PAGER and found.whom.get(cause):
        return "it waited for a page of the pager"
    return cause.value


def _who(whom: "Counter[str] | None") -> list[str]:
    if not whom:
        return []
    told = [f"{name} {view.duration(ns)}" for name, ns in whom.most_common(WHO)]
    left = len(whom) - WHO
    return told + ([f"and {left} more"] if left > 0 else [])


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def _verdict(found: Why) -> list[str]:
    """Say in a sentence what it had, beside what the plans gave it."""
    if found.ended:
        return ["", found.ended]
    if found.processor < 0:
        return []
    now = _DOES.get(found.state)
    others = [(cause, ns) for cause, ns in found.causes() if cause not in _OWN]
    if found.got < _ENOUGH * found.planned and others:
        said = f"it had less than the plans gave it, most of all because {_because(others[0][0])}"
    elif not found.planned and found.spent[Cause.UNPLANNED]:
        said = "no plan had a slice of it: 'exo sched' shows whose it has"
    elif found.planned and found.got > found.planned / _ENOUGH:
        said = "it had more than the plans gave it: others slept in their slices, or left them"
    else:
        said = "it had what the plans gave it" if found.planned else ""
    return ["", *_wrapped("; ".join(filter(None, (said, now))))] if said or now else []


def _because(cause: Cause) -> str:
    return "nothing is known of that time" if cause is Cause.UNKNOWN else cause.value
