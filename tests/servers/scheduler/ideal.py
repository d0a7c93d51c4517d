"""A processor that sees everything at once, and walks the plans of a policy over described programs: pure.

It is what a policy is to be judged by: nothing of it is late. `servers.scheduler.trial` has the kernel's own.
"""

from collections.abc import Mapping, Sequence

from libexo.sched import Member, Policy
from libexo.workload import Described, Done
from servers.scheduler.trial.machine import Body, Core, Happening, Ran

UNIT = 1_000_000_000
"""Times of task sets that others published are in units; here one is a second."""


class Ideal:
    """Described programs under one policy."""

    def __init__(self, policy: Policy, programs: Sequence[Described]) -> None:
        """Begin at the time 0."""
        self.done: list[Done] = []
        self.ran: list[Ran] = []
        self.core = Core(self._hear, self.done.append, self._run)
        self._policy, self._programs = policy, list(programs)
        self._since: dict[str, int] = {}
        self._slices: Sequence[tuple[Body, int]] = ()
        self._position = -1
        self._current: Body | None = None
        self._asks = self._ends = self._again = self.core.clock.alarm(0, lambda: None)
        self._end = 0
        self._bodies: dict[int, Body] = {}
        for at, each in enumerate(programs, 1):
            self._bodies[at] = self.core.add(each, 0)

    def run(self, units: int) -> "Ideal":
        """Go on until that time."""
        self.core.run(units * UNIT)
        self.core.close()
        return self

    def _hear(self, happening: Happening) -> None:
        if happening.what == "wakes":
            self._since[happening.name] = happening.at
        if happening.what in ("wakes", "sleeps"):
            self._asks.cancel()
            self._asks = self.core.clock.alarm(happening.at, self._ask)

    def _run(self, ran: Ran) -> None:
        if self.ran and self.ran[-1].name == ran.name and self.ran[-1].end == ran.begin:
            self.ran[-1] = self.ran[-1]._replace(end=ran.end)
        else:
            self.ran.append(ran)

    def members(self) -> list[Member]:
        """Return what the policy is told."""
        return [
            Member(
                thread, said.name, said.weight, not body.left, self._since.get(said.name, 0),
                body.consumed(), said.parameters,
            )
            for said, (thread, body) in zip(self._programs, self._bodies.items(), strict=True)
        ]  # fmt: skip

    def _ask(self) -> None:
        now = self.core.clock.now()
        plan = self._policy.plan(self.members(), now)
        self._slices = [(self._bodies[thread], length * 1000) for thread, length in plan.slices]
        self._position = -1
        self._again.cancel()
        if plan.again:
            self._again = self.core.clock.alarm(now + plan.again * 1000, self._ask)
        planned = {body for body, _ in self._slices}
        current = self._current
        if plan.now or current is None or current not in planned or not current.left:
            self._next()

    def _next(self) -> None:
        """Begin the next slice of one that is awake."""
        self._ends.cancel()
        before, self._current = self._current, None
        for step in range(1, len(self._slices) + 1):
            at = (self._position + step) % len(self._slices)
            body, length = self._slices[at]
            if body.left:
                self._position, self._current = at, body
                self._ends = self.core.clock.alarm(self.core.clock.now() + length, self._next)
                break
        if before is not None and before is not self._current:
            before.pause()
        if self._current is not None:
            self._current.resume()


def periodic(name: str, period: int, work: int, **more: int) -> Described:
    """A periodic program with times in units."""
    times = {key: value * UNIT for key, value in more.items() if key != "priority"}
    rest = {"priority": more["priority"]} if "priority" in more else {}
    return Described(name, "periodic", {"period": period * UNIT, "work": work * UNIT, **times, **rest})


def listed(name: str, jobs: Mapping[int, int], **more: int) -> Described:
    """A program with jobs by their release, in units."""
    text = " ".join(f"{release * 1000}:{length * 1000}" for release, length in jobs.items())
    return Described(name, "listed", {"jobs": text, **{key: value * UNIT for key, value in more.items()}})


def spans(ran: Sequence[Ran]) -> list[tuple[int, int, str]]:
    """Return who had the core from when to when, in units."""
    return [(each.begin // UNIT, each.end // UNIT, each.name) for each in ran]
