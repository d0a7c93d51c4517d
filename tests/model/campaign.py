"""Campaigns: scripts from one seed after another, until so many steps were taken or one fails.

A failing script is shrunk, and raised as code that can be pasted into a regression test: `judge` of it is None.
"""

from dataclasses import dataclass
from itertools import count

from libexo.transport.faulty import Odds
from tests.model.checker import check, conservation
from tests.model.history import Invoked
from tests.model.running import run
from tests.model.script import Redirect, Script, Taste, generate
from tests.model.shrinking import shrink

KINDS = {
    "plain": Taste(),
    "redirected": Taste(deaths=0.1, redirection=1.0),
    "delayed": Taste(odds=Odds(delay=0.08, duplicate=0.08)),
    "native": Taste(native=0.5),
    "cut": Taste(propagation=0.0, odds=Odds(cut=0.02, duplicate=0.05)),
}
"""What a campaign's scripts hold, and what befalls their messages."""
SHRINKING = 240
"""Runs that shrinking may take: at most some twenty seconds, so that a failure is soon on the screen."""


class Refuted(AssertionError):
    """A script does what the model does not allow."""


@dataclass
class Tally:
    """The outcome of a campaign."""

    scripts: int = 0
    steps: int = 0
    """Operations that were begun."""


def judge(script: Script, tally: Tally | None = None) -> str | None:
    """Run *script*; return what was wrong with it, or None.

    Where messages were cut on their way, only the laws of conservation are checked: a partner that cannot have
    got one is given up after a second, and how both go on then is more than the model knows.
    """
    try:
        history = run(script)
    except Exception as error:  # noqa: BLE001 - whatever it was, the script made it happen
        return f"{type(error).__name__}: {error} {getattr(error, '__notes__', '')}"
    if tally is not None:
        tally.scripts += 1
        tally.steps += sum(isinstance(event, Invoked) for event in history.events)
    polls = any(isinstance(operation, Redirect) for each in script.threads for operation in each)
    if not history.settled and not polls:  # a thread that is not told of a partner's end polls
        return "it does not come to rest: something goes on for ever"
    violation = conservation(history) if history.cuts else check(history)
    return None if violation is None else str(violation)


def campaign(seed: int, steps: int, taste: Taste) -> Tally:
    """Run scripts of *taste* until *steps* operations were begun. Raises Refuted."""
    tally = Tally()
    for number in count(seed):
        script = generate(number, taste=taste)
        if (why := judge(script, tally)) is not None:
            raise Refuted(report(script, why))
        if tally.steps >= steps:
            break
    return tally


def report(script: Script, why: str) -> str:
    """Shrink *script*, which failed because of *why*; say how the smallest one fails, and print it."""
    smallest = shrink(script, lambda smaller: judge(smaller) is not None, SHRINKING)
    first = f"(the first: seed {script.seed}, {why.splitlines()[0]})"
    return "\n\n".join((judge(smallest) or why, smallest.code(), first))
