"""Rate monotonic, earliest deadline first and fixed priorities beside SimSo, event for event.

Ours walk on an ideal processor. SimSo tells its own trace, of which misses are counted here: its counter is wrong
where late jobs go on. A preemption by nobody, for no time, is none.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from libexo.sched import Policy
from libexo.workload import Described
from servers.scheduler.policies import Edf, Priority, RateMonotonic
from tests.servers.scheduler.ideal import UNIT, Ideal, periodic, spans

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".peers" / "bin" / "python"
SIMSO = next(ROOT.glob(".peers/lib/python3.11/site-packages/simso"), None)

Events = list[tuple[int, str, str, int]]
"""Unit, what, task, number of the job."""


class Task(NamedTuple):
    """A task of a published set; its deadline is its period, where nothing is said."""

    period: int
    work: int
    deadline: int = 0
    offset: int = 0


SETS: Mapping[str, Sequence[Task]] = {
    "Liu and Layland 1973, figure 2 (a)": [Task(2, 1), Task(5, 1)],
    "Liu and Layland 1973, figure 2 (b)": [Task(2, 1), Task(5, 2)],
    "Sha and Goodenough 1990, example 1": [Task(100, 20), Task(150, 40), Task(350, 100)],
    "Sha and Goodenough 1990, example 2": [Task(100, 40), Task(150, 40), Task(350, 100)],
    "Buttazzo 2011, 4.3: only deadlines keep it": [Task(5, 2), Task(7, 4)],
    "Buttazzo 2011, 4.5: deadlines before periods": [Task(4, 1, 3), Task(5, 1, 4), Task(6, 2, 5), Task(11, 1, 10)],
    "Buttazzo 2011, 4.6: processor demand": [Task(6, 2, 4), Task(8, 2, 5), Task(9, 3, 7)],
    "harmonic, all of the processor": [Task(4, 2), Task(8, 4)],
    "with offsets": [Task(6, 2, offset=3), Task(9, 3, offset=1), Task(14, 4)],
}  # fmt: skip
OVERLOADS: Mapping[str, Sequence[Task]] = {
    "two at 117 %": [Task(5, 3), Task(7, 4)],
    "three at 140 %": [Task(4, 2), Task(6, 3), Task(10, 4)],
    "one alone at 150 %": [Task(4, 6)],
}
SPAN = 6
"""Longest periods that are simulated."""


def duration(tasks: Sequence[Task]) -> int:
    """How many units of a set are simulated."""
    return SPAN * max(each.period for each in tasks)


def ranked(tasks: Sequence[Task]) -> list[int]:
    """Return fixed priorities by deadline: the shortest has the highest."""
    order = sorted(range(len(tasks)), key=lambda at: -(tasks[at].deadline or tasks[at].period))
    return [order.index(at) for at in range(len(tasks))]


def simso(scheduler: str, sets: Sequence[Sequence[Task]]) -> Iterator[Events]:
    """Yield the events of SimSo for each of *sets*."""
    cases = [
        {
            "scheduler": scheduler,
            "duration": duration(tasks),
            "tasks": [
                {"name": f"t{at}", "period": each.period, "wcet": each.work, "offset": each.offset,
                 "deadline": each.deadline or each.period, "priority": priority}
                for at, (each, priority) in enumerate(zip(tasks, ranked(tasks), strict=True))
            ],
        }
        for tasks in sets
    ]  # fmt: skip
    script = ROOT / "tests" / "peers" / "simulate.py"
    done = subprocess.run(
        [PYTHON, script], input=json.dumps(cases), capture_output=True, text=True, check=True
    )
    for tasks, events in zip(sets, json.loads(done.stdout), strict=True):
        yield real([(int(at), what, name, job) for at, what, name, job in events], duration(tasks))


def real(events: Events, end: int) -> Events:
    """Leave out what takes no time, and what happens at the very end; order what happens at once."""
    found = set(events)
    for at, _, name, job in events:
        if {(at, "preempted", name, job), (at, "runs", name, job)} <= found:
            found -= {(at, "preempted", name, job), (at, "runs", name, job)}
    return sorted(each for each in found if each[0] < end)


def ours(ideal: Ideal) -> Events:
    """Return the same events of *ideal*: jobs of one program are done in order."""
    events: Events = []
    for name in {each.name for each in ideal.done}:
        jobs = [each for each in ideal.done if each.name == name]
        rest = [(begin, end) for begin, end, who in spans(ideal.ran) if who == name]
        for number, each in enumerate(jobs, 1):
            left = each.job.length // UNIT
            events.append((each.job.release // UNIT, "activated", name, number))
            while left and rest:
                begin, end = rest.pop(0)
                if end - begin > left:
                    rest.insert(0, (begin + left, end))
                    end = begin + left
                left -= end - begin
                events += [
                    (begin, "runs", name, number),
                    (end, "preempted" if left else "done", name, number),
                ]
    return events


def misses(events: Events, tasks: Sequence[Task]) -> set[tuple[str, int]]:
    """Return the jobs that were not done by their deadlines, of those that were due."""
    due = {f"t{at}": each.deadline or each.period for at, each in enumerate(tasks)}
    done = {(name, job): at for at, what, name, job in events if what == "done"}
    end = duration(tasks)
    return {
        (name, job)
        for at, what, name, job in events
        if what == "activated" and at + due[name] < min(done.get((name, job), end), end)
    }


def drawn(random: Random, most: float) -> list[Task]:
    """Return a set by chance that asks for *most* of the processor, or less; no two have one period.

    Of two that are alike in all, and begin at once, any may be the first.
    """
    tasks: list[Task] = []
    for period in random.sample(range(4, 40), random.randint(2, 6)):
        work = random.randint(1, max(period // 2, 1))
        if sum(each.work / each.period for each in tasks) + work / period <= most:
            tasks.append(Task(period, work, offset=random.randint(0, 10)))
    return tasks or [Task(5, 1)]


def described(tasks: Sequence[Task], *, reserved: bool = False) -> list[Described]:
    """Return the programs of a set; their work is *reserved*, or their deadlines are told."""
    found = []
    for at, (each, priority) in enumerate(zip(tasks, ranked(tasks), strict=True)):
        more = {"runtime": each.work} if reserved else {"deadline": each.deadline or each.period}
        found.append(
            periodic(f"t{at}", each.period, each.work, offset=each.offset, priority=priority, **more)
        )
    return found


def compared(
    scheduler: str, policy: Callable[[], Policy], sets: Sequence[Sequence[Task]], *, reserved: bool
) -> int:
    """Check that *policy* does what SimSo's *scheduler* does; return how many misses there are."""
    found = 0
    for tasks, theirs in zip(sets, simso(scheduler, sets), strict=True):
        ideal = Ideal(policy(), described(tasks, reserved=reserved)).run(duration(tasks))
        assert real(ours(ideal), duration(tasks)) == theirs, tasks
        missed = misses(theirs, tasks)
        assert missed == {
            (each.name, number)
            for name in {each.name for each in ideal.done}
            for number, each in enumerate((d for d in ideal.done if d.name == name), 1)
            if each.job.deadline < duration(tasks) * UNIT and (not each.at or each.at > each.job.deadline)
        }
        found += len(missed)
    return found


def longest() -> Priority:
    """Return fixed priorities with slices so long that nothing ends one."""
    return Priority(quantum=10 * UNIT)


def enough() -> Edf:
    """Return deadlines that admit more than there is."""
    return Edf(most=300)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        SIMSO is None or not PYTHON.exists(), reason="SimSo is not there: make peers, on Python 3.11"
    ),
]
EACH = pytest.mark.parametrize(
    ("scheduler", "policy", "reserved"),
    [
        pytest.param("RM_mono", RateMonotonic, False, id="RM"),
        pytest.param("FP", longest, False, id="FP"),
        pytest.param("EDF_mono", Edf, False, id="EDF"),
        pytest.param("EDF_mono", enough, True, id="EDF by reservations"),
    ],
)


@EACH
def test_published_sets(scheduler: str, policy: Callable[[], Policy], reserved: bool) -> None:  # noqa: FBT001 - a row
    """Of published sets all events are the same, and only fixed priorities miss: where deadlines are needed."""
    sets = [tasks for tasks in SETS.values() if not reserved or not any(each.deadline for each in tasks)]
    missed = compared(scheduler, policy, sets, reserved=reserved)

    assert bool(missed) == (scheduler != "EDF_mono")


@EACH
def test_drawn_sets(scheduler: str, policy: Callable[[], Policy], reserved: bool, seed: int) -> None:  # noqa: FBT001
    """Of forty sets by chance, up to all of the processor, too; deadlines miss nothing."""
    random = Random(seed)
    missed = compared(scheduler, policy, [drawn(random, 1.0) for _ in range(40)], reserved=reserved)

    assert not missed or scheduler != "EDF_mono"


@EACH
def test_overload(scheduler: str, policy: Callable[[], Policy], reserved: bool, seed: int) -> None:  # noqa: FBT001
    """With more work than time, who is late goes on, and the same jobs miss.

    Deadlines need reservations then: a program that is late and goes on without sleep tells nobody that its next
    job began, but its runtime does.
    """
    if policy is Edf:
        return
    random = Random(seed)
    sets = [*OVERLOADS.values(), *(drawn(random, 2.0) for _ in range(40))]

    assert compared(scheduler, policy, sets, reserved=reserved)
