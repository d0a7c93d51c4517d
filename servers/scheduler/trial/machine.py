"""One host core in virtual time, and bodies of described programs on it. Pure.

Those that the kernel has not stopped and that have work divide the core evenly, as the host would have it: a
sleeper wakes beside whoever runs, until the kernel sees it.
"""

import heapq
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from hwmodel.simulated.clock import VirtualClock
from kernel.abi.program import Activity
from libexo.workload import Described, Done, Job, Jobs, undone


class Happening(NamedTuple):
    """Something that happened to one program."""

    at: int
    """In ns."""
    what: str
    """wakes, goes on (with its next job, without sleep between), sleeps; runs and stops: the kernel lets it."""
    name: str


class Ran(NamedTuple):
    """A program had the core for itself."""

    begin: int
    end: int
    name: str


class Body:
    """One described program: `hwmodel.machine.Body`, as far as a processor asks."""

    presence = None
    """Nobody tells when it leaves the core: the kernel looks."""

    __slots__ = ("_core", "_paused", "_used", "job", "left", "name", "work")

    def __init__(self, core: "Core", program: Described, work: Jobs) -> None:
        """Sleep until the first of its jobs."""
        self.name, self.work = program.name, work
        self.job: Job | None = None
        """What it does, or does next."""
        self.left = 0
        """CPU time its job still needs, in ns; 0: it sleeps."""
        self._core, self._paused, self._used = core, True, 0

    def consumed(self) -> int:
        """Return its CPU time, in ns."""
        return self._used

    def activity(self) -> Activity:
        """Say whether it waits."""
        return Activity.RUNS if self._paused or self.left else Activity.WAITS

    def resume(self) -> None:
        """Let it run."""
        if self._paused:
            self._paused = False
            self._core.tell("runs", self)
            self._core.ready(self)

    def pause(self) -> None:
        """Take the processor from it."""
        if not self._paused:
            self._paused = True
            self._core.tell("stops", self)
            self._core.unready(self)

    @property
    def ready(self) -> bool:
        """Whether it would use the core."""
        return not self._paused and self.left > 0

    def use(self, nanoseconds: int) -> None:
        """Compute for that long."""
        self._used += nanoseconds
        self.left -= nanoseconds


class Untold:
    """No record of who comes to a core, as on a host that refuses one: see `hwmodel.presence.Switches`."""

    def follow(self, body: object) -> None:
        """Do nothing."""

    def leave(self, body: object) -> None:
        """Do nothing."""

    def read(self) -> None:
        """Tell nothing."""


class Core:
    """The clock, who computes, and who sleeps until when."""

    def __init__(
        self,
        told: Callable[[Happening], object],
        done: Callable[[Done], object],
        ran: Callable[[Ran], object] | None = None,
    ) -> None:
        """Tell what happens, each job that is *done*, and who *ran* when."""
        self.clock = VirtualClock()
        self._ran = ran
        self._told, self._done = told, done
        self._ready: list[Body] = []
        self._sleepers: list[tuple[int, int, Body]] = []
        self._serials = count()
        self.bodies: list[Body] = []
        self.users: set[Body] = set()
        """Those that used the core since this was last cleared."""

    def switches(self, _core: int) -> "Untold":
        """Return what tells nothing of the core."""
        return Untold()

    def tell(self, what: str, body: Body) -> None:
        """Tell what happened."""
        self._told(Happening(self.clock.now(), what, body.name))

    def add(self, program: Described, seed: int) -> Body:
        """Make the body of *program*, stopped. Raises ValueError."""
        body = Body(self, program, program.jobs(seed))
        self.bodies.append(body)
        self._sleep(body)
        return body

    def ready(self, body: Body) -> None:
        """Have it use the core, if it would."""
        if body.ready:
            self._ready.append(body)

    def unready(self, body: Body) -> None:
        """Have it use the core no more."""
        if body in self._ready:
            self._ready.remove(body)

    def computes(self, body: Body) -> bool:
        """Say whether it uses the core."""
        return body in self._ready

    def used_by_others(self, body: Body | None) -> bool:
        """Say whether another one than *body* uses the core, or did since `users` was last cleared."""
        return any(each is not body for each in self._ready) or bool(self.users - {body})

    def next_stir(self) -> int | None:
        """Return when a body wakes or sleeps by the passing of time alone."""
        times = [self._sleepers[0][0]] if self._sleepers else []
        if self._ready:
            least = min(each.left for each in self._ready)
            times.append(self.clock.now() + least * len(self._ready))
        return min(times, default=None)

    def run(self, until: int) -> None:
        """Go on until the time *until*."""
        clock = self.clock
        while clock.now() < until:
            stir, alarm = self.next_stir(), clock.next()
            at = min(until if each is None else each for each in (stir, alarm, until))
            self._pass(at - clock.now())
            clock.advance(at)
            self._finish()
            self._wake(at)
            clock.ring()

    def close(self) -> None:
        """Tell the jobs that are not done: those at work, and those with a deadline that wait behind them."""
        now = self.clock.now()
        for each in self.bodies:
            for done in undone(each.job, each.work, each.name, now):
                self._done(done)

    def _pass(self, nanoseconds: int) -> None:
        rest = nanoseconds
        for at, each in enumerate(self._ready):
            part = rest // (len(self._ready) - at)
            each.use(part)
            rest -= part
        self.users.update(self._ready)
        if self._ran is not None and len(self._ready) == 1 and nanoseconds:
            self._ran(Ran(self.clock.now(), self.clock.now() + nanoseconds, self._ready[0].name))

    def _finish(self) -> None:
        for each in [each for each in self._ready if each.left <= 0]:
            self._ready.remove(each)
            self._sleep(each)

    def _sleep(self, body: Body) -> None:
        """Go to the next job: asleep until it is released, or at once."""
        now = self.clock.now()
        before = body.job
        if before is not None:
            self._done(Done(body.name, before, now))
        body.job = body.work.next(now)
        if body.job is None:
            self.tell("sleeps", body)
        elif body.job.release <= now:
            body.left = body.job.length
            self.tell("wakes" if before is None else "goes on", body)
            self.ready(body)
        else:
            self.tell("sleeps", body)
            heapq.heappush(self._sleepers, (body.job.release, next(self._serials), body))

    def _wake(self, now: int) -> None:
        while self._sleepers and self._sleepers[0][0] <= now:
            body = heapq.heappop(self._sleepers)[2]
            assert body.job is not None
            body.left = body.job.length
            self.tell("wakes", body)
            self.ready(body)
