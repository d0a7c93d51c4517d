"""Programs that are described, not written: what they compute, and when they wake. Pure.

A program is a row of *jobs*: it wakes at a job's release, computes for so long, and sleeps until the next one's.
One that is late does the next at once.
"""

import re
from collections.abc import Iterator, Mapping
from random import Random
from typing import NamedTuple

from libexo.sched import Parameter

MS = 1_000_000
FOREVER = 1 << 62


class Job(NamedTuple):
    """One piece of work. Times in ns."""

    release: int
    """When it can be begun at the earliest; before that its program sleeps."""
    length: int
    """CPU time it needs."""
    deadline: int = 0
    """When it is to be done; 0: whenever."""


class Done(NamedTuple):
    """A job that was done, or is not when all is over."""

    name: str
    job: Job
    at: int
    """When it was done; 0: it is not."""


class Described(NamedTuple):
    """A program: its kind, and times by name, which the policy is told as its parameters."""

    name: str
    kind: str
    parameters: Mapping[str, Parameter] = {}
    weight: int = 1

    def time(self, key: str, default: int = 0) -> int:
        """Return a parameter that is a time, in ns. Raises ValueError."""
        value = self.parameters.get(key, default)
        if not isinstance(value, int) or value <= 0:
            raise ValueError(f"{self.name}: {self.kind} programs have a {key}, as in {key}=20ms")
        return value

    def jobs(self, seed: int) -> "Jobs":
        """Return its work from the time 0 on; what is by chance is by *seed*. Raises ValueError."""
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}: a program is one of {', '.join(KINDS)}, not {self.kind!r}")
        return KINDS[self.kind](self, Random(f"{seed} {self.name}"))


class Jobs:
    """The jobs of one program, one after another."""

    def __init__(self, program: Described, random: Random) -> None:
        """Do the work of *program*."""
        self.program, self.random = program, random
        self.check()

    def check(self) -> None:
        """Raise ValueError unless all is said that the kind needs."""

    def next(self, done: int) -> Job | None:
        """Return the next job, when the one before was *done*; None: it sleeps for ever."""
        raise NotImplementedError


def undone(job: Job | None, work: Jobs, name: str, now: int) -> Iterator[Done]:
    """Yield what *name* had not done by *now*: *job*, and those with a deadline that wait behind it."""
    while job is not None and job.release <= now:
        yield Done(name, job, 0)
        job = work.next(now) if job.deadline else None


class Loop(Jobs):
    """One job without end."""

    def next(self, done: int) -> Job:
        return Job(done, FOREVER)


class Sleeps(Jobs):
    """Computes for `run`, sleeps for `sleep`, in turn."""

    def check(self) -> None:
        self._run, self._sleep = self.program.time("run"), self.program.time("sleep")

    def next(self, done: int) -> Job:
        return Job(done + self._sleep, self._run)


class Bursts(Sleeps):
    """As one that sleeps, with times by chance: exponential, `run` and `sleep` on average."""

    def next(self, done: int) -> Job:
        run = max(int(self.random.expovariate(1 / self._run)), 1000)
        return Job(done + int(self.random.expovariate(1 / self._sleep)), run)


class Periodic(Jobs):
    """A job of `work`, or else `runtime`, at the beginning of each `period`, from `offset` on.

    It is due after a period, or a `deadline`.
    """

    def check(self) -> None:
        program = self.program
        self._period = program.time("period")
        self._work = program.time("work", program.time("runtime", FOREVER))
        if self._work == FOREVER:
            raise ValueError(f"{program.name}: periodic programs have a runtime, as in runtime=5ms")
        self._due = program.time("deadline", self._period)
        offset = program.parameters.get("offset", 0)
        self._next = offset if isinstance(offset, int) else 0

    def next(self, done: int) -> Job:
        release, self._next = self._next, self._next + self._period
        return Job(release, self._work, release + self._due)


class Listed(Jobs):
    """`jobs` as a text: release:length in ms, one after another, as in 0:4 13:2."""

    def check(self) -> None:
        text = str(self.program.parameters.get("jobs", ""))
        if not re.fullmatch(r"\d+:\d+(\s+\d+:\d+)*", text):
            raise ValueError(
                f"{self.program.name}: jobs are release:length in ms, as in 0:4 13:2, not {text!r}"
            )
        pairs = (each.partition(":") for each in text.split())
        self._rest = iter([Job(int(release) * MS, int(length) * MS) for release, _, length in pairs])

    def next(self, done: int) -> Job | None:
        return next(self._rest, None)


KINDS: dict[str, type[Jobs]] = {
    "loop": Loop,
    "sleeps": Sleeps,
    "bursts": Bursts,
    "periodic": Periodic,
    "listed": Listed,
}
"""By name."""

USUAL = (
    Described("loop", "loop"),
    Described("batch", "loop", weight=2),
    Described("editor", "bursts", {"run": 3 * MS, "sleep": 80 * MS, "priority": 2}),
    Described("video", "periodic", {"period": 40 * MS, "runtime": 12 * MS, "work": 8 * MS, "priority": 3}),
    Described("audio", "periodic", {"period": 20 * MS, "runtime": 6 * MS, "work": 1 * MS, "priority": 4}),
)
"""What `exo sched compare` runs where nobody says otherwise: two that compute, three that should be soon."""
