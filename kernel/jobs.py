"""Jobs: work of more than one turn of the machine's loop, done in steps.

Work that may take long is a generator. Each `yield None` ends a unit of work, after which the loop may turn.
It may also yield a *deed* (long host calls, which the machine does outside its loop), or a *latch*, which another
job opens: it goes on when the deed is done or the latch open. A job that ends within its first quantum is
done at once. The others have one quantum a turn, in a circle, so none delays another by more than that.
A job is never given up: it ends even when its caller has died.
"""

from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from hwmodel.machine import Deed, Exhausted, Machine

QUANTUM = 32
"""Units of work in one turn; the machine may end the turn before."""

T = TypeVar("T")


class Latch:
    """Keeps jobs waiting until it is opened, once."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        """Make it closed."""
        self.waiting: list[Callable[[], None]] | None = []
        """None: it is open."""

    def open(self) -> None:
        """Let the jobs that wait go on."""
        waiting, self.waiting = self.waiting or (), None
        for go_on in waiting:
            go_on()


Steps = Generator[Deed | Latch | None, None, T]
"""Work, a unit at each step; it returns a T."""


class Job:
    """One generator on its way."""

    __slots__ = ("cause", "done", "failure", "steps")

    def __init__(self, steps: Steps[Any], done: Callable[[], object], cause: int) -> None:
        """Start before the first step."""
        self.steps = steps
        self.done = done
        self.cause = cause
        self.failure: Exhausted | None = None
        """The result of its deed."""


class Jobs:
    """All jobs under way."""

    def __init__(self, machine: Machine, note: Callable[[int], object]) -> None:
        """Start with none; *note* is told the cause (a trap's number, or 0) of every step."""
        self._machine = machine
        self._note = note
        self._ready: deque[Job] = deque()
        self._is_armed = False
        self.under_way = 0

    def begin(self, steps: Steps[Any], done: Callable[[], object] = int, cause: int = 0) -> bool:
        """Do the first quantum of *steps* now, the rest in later turns, then call *done*; True: that was all."""
        self.under_way += 1
        return self._step(Job(steps, done, cause))

    def add(self, steps: Steps[Any]) -> None:
        """Do *steps* from a later turn on."""
        self.under_way += 1
        self._append(Job(steps, int, 0))

    def _append(self, job: Job) -> None:
        self._ready.append(job)
        self._arm()

    def _arm(self) -> None:
        if self._ready and not self._is_armed:
            self._is_armed = True
            self._machine.soon(self._turn)

    def _turn(self) -> None:
        """Do a quantum of the job whose turn it is."""
        self._is_armed = False
        job = self._ready.popleft()
        self._note(job.cause)
        self._step(job)
        self._arm()

    def _step(self, job: Job) -> bool:
        """Do a quantum of *job*; return whether it has ended."""
        late = self._machine.late
        for _ in range(QUANTUM):
            try:
                wanted = self._resume(job)
            except StopIteration:
                self.under_way -= 1
                job.done()
                return True
            if wanted is None:
                if late():
                    break
            elif not isinstance(wanted, Latch):
                self._machine.work(wanted, lambda failure: self._worked(job, failure))
                return False
            elif wanted.waiting is not None:
                wanted.waiting.append(lambda: self._append(job))
                return False
        self._append(job)
        return False

    def _resume(self, job: Job) -> Deed | Latch | None:
        failure, job.failure = job.failure, None
        return next(job.steps) if failure is None else job.steps.throw(failure)

    def _worked(self, job: Job, failure: Exhausted | None) -> None:
        job.failure = failure
        self._append(job)
