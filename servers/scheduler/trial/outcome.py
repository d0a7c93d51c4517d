"""What a trial shows, as a row for each program."""

from collections.abc import Sequence

from libexo.sched import Policy
from libexo.workload import Described, Done, Outcome, row
from servers.scheduler.trial.bench import Trial


def tried(name: str, policy: Policy, programs: Sequence[Described], nanoseconds: int, seed: int) -> Outcome:
    """Return what *programs* have under *policy*. Raises ValueError: a program is none."""
    trial = Trial(policy, programs, seed)
    trial.run(nanoseconds)
    trial.core.close()
    done: dict[str, list[Done]] = {}
    for each in trial.done:
        done.setdefault(each.name, []).append(each)
    used = trial.used
    rows = [row(each, used[each.name], done.get(each.name, []), nanoseconds) for each in programs]
    idle = 1 - sum(used.values()) / nanoseconds
    return Outcome(name, rows, round(idle, 4), trial.counts.get("switches", 0), trial.refused)
