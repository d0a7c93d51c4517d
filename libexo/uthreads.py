"""User-level threads: coroutines of one event loop, of which a policy says which one goes on.

    threads = Threads(env, Stride())
    threads.start(serve(), "server", weight=3)
    threads.start(tidy(), "tidy")
    await threads.end()

A thread is any coroutine: it awaits messages (`libexo.aio`), sleeps, queues, other tasks. Where it awaits, another
one goes on. Which one, says a policy, of the same classes that divide processors (`libexo.sched`) and families
(`libexo.inside`). It is told of all threads, who sleeps and what each used, and asked when that changes. In a long
computation, `await asyncio.sleep(0)` is where a thread may be exchanged; nothing takes the loop from it before.

*Activations* (Anderson et al., 1992). The kernel takes the processor and gives it back where it likes. The next
time that a thread awaits, the policy hears of it, if it has the methods: `slice_begins(now, left)`, for each slice
of the program that it sees, and `slice_ends(now, left)`, when little is left of it, to give that up, perhaps.
Tasks that others start (`asyncio.create_task`) are none of its threads, and go on at once.
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from libexo import slices
from libexo.sched import QUANTUM, Member, Parameter, Policy

if TYPE_CHECKING:
    from libexo.environment import Environment

T = TypeVar("T")


class Started(NamedTuple, Generic[T]):
    """A thread that was started."""

    number: int
    """Names it to the policy, as `Member.thread`."""
    task: asyncio.Task[T]
    """Awaits its end; to cancel that is to cancel the thread."""


class _Thread:
    """One thread: steps of a coroutine, each in its turn."""

    def __init__(self, threads: "Threads", coroutine: Coroutine[Any, Any, Any], told: Member) -> None:
        self._threads, self.coroutine = threads, coroutine
        self.number = told.thread
        self.told = told
        """What the policy is told of it; it sleeps until its first turn."""
        self.turn: asyncio.Future[None] | None = None
        """It is ready, and awaits that."""

    @property
    def is_ready(self) -> bool:
        """Whether it waits for its turn."""
        return self.turn is not None and not self.turn.done()

    def __await__(self) -> Generator[Any, None, Any]:
        """Go on step by step; what the coroutine awaits is awaited here, and then its turn."""
        error: BaseException | None = None
        while True:
            try:
                yield from self._threads.turn_of(self)
            except asyncio.CancelledError as cancelled:  # while it waited for its turn
                error = cancelled
            try:
                awaited = self._step(error)
            except StopIteration as end:
                return end.value
            error = None
            if awaited is None:  # it offers to be exchanged, and is ready
                continue
            self._threads.sleeps(self)
            try:
                yield awaited
            except GeneratorExit:
                self.coroutine.close()
                raise
            except BaseException as raised:  # noqa: BLE001 - the coroutine's to hear, in its turn
                error = raised

    def _step(self, error: BaseException | None) -> Any:  # noqa: ANN401 - what the coroutine awaits
        """Run it to where it awaits next. Raises StopIteration, and what it raises."""
        self._threads.begins(self)
        try:
            return self.coroutine.throw(error) if error is not None else self.coroutine.send(None)
        finally:
            self._threads.stepped(self)


class Threads:
    """The threads of one loop, in which this is made."""

    def __init__(self, environment: "Environment", policy: Policy) -> None:
        """Go by *policy*."""
        self.policy = policy
        """It may be replaced at any time, and is asked when something changes next."""
        self._environment, self._host = environment, environment.host
        self._loop = asyncio.get_running_loop()
        self._threads: dict[int, _Thread] = {}
        self._tasks: dict[asyncio.Task[Any], int] = {}
        self._serial = 0
        self._slices: list[tuple[int, int]] = []
        """Of the plan, in ns."""
        self._again, self._position, self._asked = 0, 0, 0
        self._is_changed = False
        """The policy is to be asked."""
        self._last: _Thread | None = None
        self._left = 0
        """What is left of its slice, in ns."""
        self._next: _Thread | None = None
        """It has its turn, and has not begun its step."""
        self._is_dispatching = False
        self._mark = 0
        self._slice, self._is_ending = slices.begun(environment), False

    def start(
        self, coroutine: Coroutine[Any, Any, T], name: str = "", weight: int = 1, **parameters: Parameter
    ) -> Started[T]:
        """Start a thread. The policy is told *name*, *weight* and *parameters*."""
        self._serial += 1
        name = name or f"thread-{self._serial}"
        told = Member(self._serial, name, weight, asleep=True, since=self._host.now(), parameters=parameters)
        thread = self._threads[self._serial] = _Thread(self, coroutine, told)

        async def body() -> T:
            result: T = await thread
            return result

        task = self._loop.create_task(body(), name=name)
        self._tasks[task] = self._serial
        task.add_done_callback(self._ended)
        return Started(self._serial, task)

    async def end(self) -> None:
        """Wait until all have ended. Raises what one of them raised."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def members(self) -> list[Member]:
        """Return what the policy is told, oldest first."""
        return [thread.told for thread in self._threads.values()]

    def _ended(self, task: asyncio.Task[Any]) -> None:
        thread = self._threads.pop(self._tasks.pop(task))
        thread.coroutine.close()  # it may have been cancelled before its first step
        thread.turn, self._is_changed = None, True
        self._soon()

    # --------------------------------------------------------------------------------------------- its turns

    def turn_of(self, thread: _Thread) -> Generator[Any, None, None]:
        """Wait until it is the turn of *thread*."""
        if thread.told.asleep:
            self._changes(thread, asleep=False)
        thread.turn = self._loop.create_future()
        self._soon()
        yield from thread.turn

    def begins(self, thread: _Thread) -> None:
        """Note that *thread* begins a step."""
        thread.turn = None
        if self._next is thread:
            self._next = None
        self._mark = self._host.consumed()

    def stepped(self, thread: _Thread) -> None:
        """Charge the step of *thread*."""
        used = self._host.consumed() - self._mark
        thread.told = thread.told._replace(used=thread.told.used + used)
        if thread is self._last:
            self._left -= used

    def sleeps(self, thread: _Thread) -> None:
        """Note that *thread* sleeps; the rest of its slice is lost."""
        self._changes(thread, asleep=True)
        if thread is self._last:
            self._left = 0
        self._soon()

    def _changes(self, thread: _Thread, *, asleep: bool) -> None:
        thread.told = thread.told._replace(asleep=asleep, since=self._host.now())
        self._is_changed = True

    def _soon(self) -> None:
        if not self._is_dispatching:
            self._is_dispatching = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Let the next thread go on, unless one is about to."""
        self._is_dispatching = False
        ready = {number: each for number, each in self._threads.items() if each.is_ready}
        if not ready or self._next is not None:
            return
        self._look_at_slice()
        thread = self._last = self._choose(ready)
        if thread.turn is not None:
            self._next = thread
            thread.turn.set_result(None)

    def _choose(self, ready: dict[int, _Thread]) -> _Thread:
        """Return who is next by the plan; what it leaves is for others."""
        now = self._host.now()
        if self._is_changed or (self._again and now - self._asked >= self._again):
            self._ask(now)
        planned = [number for number, _ in self._slices]
        last = self._last
        if last is not None and self._left > 0 and last.number in ready and last.number in planned:
            return last
        for step in range(len(planned)):
            at = (self._position + step) % len(planned)
            if planned[at] in ready:
                self._position, self._left = at + 1, self._slices[at][1]
                return ready[planned[at]]
        self._left = 0
        return next(iter(ready.values()))

    def _ask(self, now: int) -> None:
        """Ask the policy. A plan without end goes on behind who ran; others begin at their first slice."""
        self._is_changed, self._asked = False, now
        try:
            plan = self.policy.plan(self.members(), now)
            self._again, self._slices = plan.again * 1000, [(n, length * 1000) for n, length in plan.slices]
            self._left = 0 if plan.now else self._left
        except Exception as error:  # noqa: BLE001 - a policy may be any code
            self._failed("plan", error)
            self._again, self._slices = 0, [(number, 1000 * QUANTUM) for number in self._threads]
        planned = [number for number, _ in self._slices]
        if self._again:
            self._position = 0
        elif self._last is not None and self._last.number in planned:
            self._position = planned.index(self._last.number) + 1

    # ------------------------------------------------------------------------------------------- activations

    def _look_at_slice(self) -> None:
        """Tell the policy, if it wants to know, that a slice of the program has begun, or is about to end."""
        left = slices.left(self._environment)
        if left is None:
            return
        if (begun := slices.begun(self._environment)) != self._slice:
            self._slice, self._is_ending, self._is_changed = begun, False, True
            self._tell("slice_begins", left)
        elif left < slices.LATE and not self._is_ending:
            self._is_ending = True
            self._tell("slice_ends", left)

    def _tell(self, method: str, left: int) -> None:
        told = getattr(self.policy, method, None)
        if told is None:
            return
        try:
            told(self._host.now(), left)
        except Exception as error:  # noqa: BLE001 - likewise
            self._failed(method, error)

    def _failed(self, method: str, error: Exception) -> None:
        name = f"{type(self.policy).__name__}.{method}"
        told = f"{name} raised {type(error).__name__}: the threads of this loop go on in turn"
        self._loop.call_exception_handler({"message": told, "exception": error})
