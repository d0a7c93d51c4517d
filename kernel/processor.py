"""Processors: a host core that runs one environment of its plan at a time.

*Theory of operation.* The plan is a vector of slices that the kernel walks round and round. A slice is CPU
time by the host's own account: when the alarm rings early, because something else used the core, the slice goes
on. What its owner slept away in it counts too, since nobody else could use that; the scheduler is told of it.
What was used too much or too little is carried into the next slice of the same environment. A member that
sleeps is not stopped: it wakes by itself, its slices are skipped, and once it has used time again it is back in
the walk. The same goes for one that is stopped by a signal or held by a debugger: the kernel does not
continue it. A slice also ends by the clock, so that a member cannot keep the core by not using it. Without
competition nothing is stopped and no alarm runs.

The author of the plan is the scheduler. Preemption messages tell it what happens. When it is gone, or does
not answer, the kernel walks a fixed round robin over all members and says so: no policy can wedge the system.
"""

import collections
from typing import TYPE_CHECKING

from kernel.abi.errors import Refusal
from kernel.abi.events import ANYBODY, Event
from kernel.abi.kip import Counter, EnvironmentState, Page, awaited
from kernel.abi.messages import Label, Preemption
from kernel.abi.program import Activity
from kernel.abi.rights import Kind
from kernel.capability import Resource
from kernel.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from hwmodel.machine import Alarm, Machine
    from kernel.environment import Environment
    from kernel.exposure import Exposure

_MS = 1_000_000
TICK = 2 * _MS
"""How often a slice is checked while others wait for the core: bounds what a sleeper wastes."""
WAKE_POLL = 5 * _MS
"""How often sleepers are checked under competition; doubles up to MAX_WAKE_POLL without."""
MAX_WAKE_POLL = 40 * _MS
GRAIN = 100_000
"""The shortest rest of a slice worth another alarm: a shorter one is carried."""
WOKE = 20_000
"""CPU time that a sleeper must use to count as awake: less is the host's own work for a stopped sleeper."""
WALL = 3
"""A slice ends after so many times its length by the clock, however little was used; the rest is lost."""
CRITICAL = 1 * _MS
"""How long a critical section may defer the end of a slice."""
ANSWER_TIME = 1000 * _MS
"""How long the scheduler may take to plan a new member before the kernel falls back to round robin."""
FALLBACK_SLICE_US = 10_000
EVENT_DELAY = 1 * _MS
"""Preemption events are collected this long and sent as one message."""
_EVENTS_PER_MESSAGE = 21
_STANDS = (Activity.STOPPED, Activity.TRACED)


class Member:
    """An environment under the plan of a processor."""

    __slots__ = ("asleep", "carry", "environment", "mark")

    def __init__(self, environment: "Environment") -> None:
        """Start with nothing carried."""
        self.environment = environment
        self.carry = 0
        """CPU time owed to it (positive) or overrun by it (negative), in ns."""
        self.mark = environment.body.consumed()
        """Its CPU time when its slice began, then when it ended, or when the member went to sleep."""
        self.asleep = False


class Processor(Resource):
    """One processor; also the resource a CPU capability is to."""

    kind = Kind.CPU

    def __init__(self, machine: "Machine", exposure: "Exposure", number: int, core: int) -> None:
        """Make processor *number* of host core *core*, with an empty plan."""
        self.number = number
        self.core = core
        self.scheduler: Environment | None = None
        self._exposure = exposure
        self._clock = machine.clock
        self._members: dict[Environment, Member] = {}
        self._plan: list[tuple[Environment, int]] = []
        self._position = -1
        self._current: Member | None = None
        self._budget = 0
        self._end = 0
        """When the slice is over by the clock."""
        self._idle = 0
        """How long its owner had the core in this slice, and slept, in ns: it is charged that as well."""
        self._looked_at = (0, 0)
        self._directed = False
        self._deferred = False
        self._alone = False
        """There was no competition at the last check: the current slice has no end."""
        self._poll = WAKE_POLL
        self._alarm: Alarm | None = None
        self._watchdog: Alarm | None = None
        self._events: list[int] = []
        exposure.kip.show_plan(number, core, ())

    def __repr__(self) -> str:
        """Show number and members."""
        return f"<Processor {self.number} core {self.core} {len(self._members)} members>"

    def describe(self) -> tuple[int, int, int, int, str]:
        """Return the processor's number."""
        return self.number, 1, 0, 0, ""

    # ------------------------------------------------------------------------------------------- membership

    def admit(self, environment: "Environment") -> None:
        """Put *environment*, which does not run, under the plan."""
        self._members[environment] = Member(environment)
        self._note(Event.READY, environment)
        self._say(Preemption.READY, environment)
        if self.scheduler is None:
            self._fall_back("no scheduler")
        elif self._watchdog is None:
            self._watchdog = self._clock.alarm(self._clock.now() + ANSWER_TIME, self._no_answer)

    def remove(self, environment: "Environment") -> None:
        """Take *environment*, which is gone, out of the plan."""
        member = self._members.pop(environment, None)
        if member is None:
            return
        if self._current is member:
            self._current = None
        self._set_plan([entry for entry in self._plan if entry[0] is not environment], self._position)
        self._say(Preemption.EXIT, environment)
        self._walk()

    def receive(self, environment: "Environment") -> None:
        """Put *environment*, which does not run and comes from elsewhere, under the plan, once its program runs."""
        environment.cpu = self.number
        runs = environment.state is not EnvironmentState.STARTING
        if runs:
            environment.state = EnvironmentState.READY
        self._exposure.kip.show(environment)
        if runs:
            self.admit(environment)

    def leave(self, environment: "Environment") -> None:
        """Take *environment*, which goes to another processor, out of the plan; the scheduler is told at once.

        One scheduler may have both processors, and must not hear of the arrival first.
        """
        self.remove(environment)
        self._send_events()

    def scheduler_gone(self, environment: "Environment") -> None:
        """If *environment*, which is gone, was the scheduler, walk a round robin until the next one."""
        if environment is self.scheduler:
            self.scheduler = None
            self._events.clear()
            self._fall_back("the scheduler is gone")

    def _no_answer(self) -> None:
        self._watchdog = None
        planned = {environment for environment, _ in self._plan}
        if self.scheduler is not None and not planned.issuperset(self._members):
            self._fall_back("the scheduler does not answer")

    def _fall_back(self, reason: str) -> None:
        self._exposure.count(Counter.WATCHDOG_FALLBACKS)
        self._exposure.trace.record(Event.FALLBACK, 0, self.number)
        self._exposure.log(f"processor {self.number}: {reason}: round robin by the kernel")
        self._set_plan([(environment, FALLBACK_SLICE_US) for environment in self._members], -1)
        self._walk()

    # -------------------------------------------------------------------------------------------------- plan

    def install(self, scheduler: "Environment", plan: "Sequence[tuple[Environment, int]]") -> None:
        """Walk *plan*, from its start; the running slice is finished first, if its owner is still planned."""
        self._follow(scheduler, {environment for environment, _ in plan})
        self._note(Event.PLANNED, scheduler, sum([microseconds for _, microseconds in plan]))
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        self._set_plan(list(plan), -1)
        current = self._current
        if current is not None:
            self._exposure.kip.show(current.environment)  # so that the scheduler sees its CPU time
            if all(environment is not current.environment for environment, _ in plan):
                self._end_slice(self._peek())
        self._walk()

    def switch(self, scheduler: "Environment", environment: "Environment", microseconds: int) -> None:
        """Run *environment* for *microseconds* now, then go on with the plan."""
        self._follow(scheduler)
        member = self._members[environment]
        if self._current is not None:
            self._end_slice(member)
        self._begin(member, microseconds, directed=True)

    def give_up(self, scheduler: "Environment", giver: "Environment", to: "Environment | None") -> None:
        """Have *giver*, if it has the processor, leave the rest of its slice to *to*, or begin the next one."""
        self._follow(scheduler)
        current = self._current
        if current is None or current.environment is not giver:
            return
        rest = max(self._rest(current), 0) // 1000
        heir = self._members[to] if to is not None else None
        self._end_slice(heir or self._peek(), given_up=True)
        if heir is not None:
            self._begin(heir, rest, directed=True)
        else:
            self._walk()

    def _follow(self, scheduler: "Environment", planned: "Container[Environment]" = ()) -> None:
        """Obey *scheduler*; a new one is told of members it has not *planned*, which may have come before it."""
        if scheduler is not self.scheduler:
            self.scheduler = scheduler
            for environment in [each for each in self._members if each not in planned]:
                self._say(Preemption.READY, environment)

    def check_member(self, environment: "Environment") -> None:
        """Refuse an environment that is not under the plan."""
        if environment not in self._members:
            raise Refused(Refusal.BAD_SLICE, f"{environment.name} is not under processor {self.number}")

    def _set_plan(self, plan: "list[tuple[Environment, int]]", position: int) -> None:
        change = collections.Counter(plan)
        change.subtract(self._plan)
        for (environment, microseconds), more in change.items():
            if more:
                self._note(Event.PART, environment, microseconds, detail=more & ANYBODY)
        self._plan, self._position = plan, min(position, len(plan) - 1)
        self._exposure.kip.show_plan(self.number, self.core, plan)
        self._show_running()

    # ------------------------------------------------------------------------------------------------- walk

    def _walk(self) -> None:
        """Give the core to the next in turn, unless a slice is running; set the next alarm."""
        if self._current is None:
            entry = self._next()
            if entry is not None:
                self._begin(*entry)
        self._set_alarm()

    def _next(self) -> tuple[Member, int] | None:
        """Return the next slice of a member that is awake, skipping those of sleepers."""
        for step in range(1, len(self._plan) + 1):
            position = (self._position + step) % len(self._plan)
            environment, microseconds = self._plan[position]
            member = self._members[environment]
            if not member.asleep:
                self._position = position
                return member, microseconds
            self._exposure.count(Counter.SLICES_SKIPPED)
        return None

    def _begin(self, member: Member, microseconds: int, *, directed: bool = False) -> None:
        environment = member.environment
        self._current, self._directed, self._deferred, self._idle = member, directed, False, 0
        consumed = environment.body.consumed()
        # While it ran the host's account was late, by up to a tick; now that it does not run it is exact.
        self._budget = max(microseconds * 1000 + member.carry - (consumed - member.mark), GRAIN)
        member.asleep, member.mark = False, consumed
        self._looked_at = (self._clock.now(), member.mark)
        self._end = self._looked_at[0] + WALL * self._budget
        environment.add(Page.SLICES)
        self._show(environment, EnvironmentState.RUNNING)
        environment.body.resume()
        self._exposure.count(Counter.SWITCHES)
        self._note(Event.SWITCHED, environment, microseconds, self._budget, directed)
        if directed:
            self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        delay = self._next_look()
        if delay:
            self._alarm = self._clock.alarm(self._clock.now() + delay, self._look)

    def _next_look(self) -> int:
        """Return the time to the next check, in ns; 0: none before something else happens."""
        member = self._current
        sleepers = any(other.asleep for other in self._members.values())
        if member is None:
            return self._poll if sleepers else 0
        if not self._directed and not self._contended():
            self._alone = True
            return WAKE_POLL if sleepers else 0
        if self._alone:
            self._alone = False
            self._note(Event.CONTINUED, member.environment, self._used(member), detail=2)
            member.mark = member.environment.body.consumed()
            self._end = self._clock.now() + WALL * self._budget
        return max(min(self._rest(member), self._end - self._clock.now(), TICK), GRAIN)

    def _contended(self) -> bool:
        """Say whether a member other than the current one wants the core.

        It need not be planned: a scheduler may be waiting for the current member to sleep.
        """
        return any(not member.asleep and member is not self._current for member in self._members.values())

    def _used(self, member: Member) -> int:
        return member.environment.body.consumed() - member.mark

    def _rest(self, member: Member) -> int:
        return self._budget - self._used(member) - self._idle

    def _look(self) -> None:
        """Check, at the alarm, which sleepers woke, whether the slice is over, whether its owner sleeps."""
        self._alarm = None
        woken = self._find_woken()
        member = self._current
        if member is not None and (self._directed or self._contended() or woken):
            if self._rest(member) <= GRAIN:
                self._end_or_defer(member)
            elif self._sleeps(member):
                self._put_to_sleep(member, self._used(member))
            elif self._clock.now() >= self._end:
                self._exposure.count(Counter.SLICES_OVERDUE)
                self._end_slice(self._peek(), given_up=True)
        self._poll = WAKE_POLL if woken or self._current else min(2 * self._poll, MAX_WAKE_POLL)
        self._walk()

    def _find_woken(self) -> bool:
        woken = [m for m in self._members.values() if m.asleep and self._used(m) > WOKE]
        for member in woken:
            member.asleep = False
            member.environment.body.pause()
            self._note(Event.READY, member.environment, self._used(member))
            self._show(member.environment, EnvironmentState.READY)
            self._say(Preemption.READY, member.environment)
        return bool(woken)

    def _sleeps(self, member: Member) -> bool:
        """Say whether *member* used next to nothing since the last check, and waits or is stopped.

        One that used less than half of it, and waits, has kept others from the core as long as it slept.
        """
        at, consumed = self._looked_at
        now, latest = self._clock.now(), member.environment.body.consumed()
        self._looked_at = (now, latest)
        idle = now - at - (latest - consumed)
        if 2 * idle < now - at or member.environment.body.activity() is Activity.RUNS:
            return False
        self._idle += idle
        return idle * 16 > (now - at) * 15

    def _put_to_sleep(self, member: Member, used: int) -> None:
        event = Event.STOPPED if member.environment.body.activity() in _STANDS else Event.BLOCKED
        whom = awaited(member.environment.page, member.environment.first.row)
        self._note(event, member.environment, used, self._idle, whom)
        member.asleep, member.carry, member.mark = True, 0, member.environment.body.consumed()
        idle = self._idle if self._current is member else 0
        if self._current is member:
            self._current = None
        self._show(member.environment, EnvironmentState.BLOCKED)
        self._say(Preemption.BLOCKED, member.environment, idle)

    def _end_or_defer(self, member: Member) -> None:
        """End the slice; a critical section may defer that once, for a bounded time."""
        page = member.environment.page
        if page[Page.CRITICAL] and not self._deferred:
            self._deferred = True
            page[Page.OVERDUE] = 1
            self._budget += CRITICAL
            return
        self._end_slice(self._peek())

    def _end_slice(self, following: Member | None, *, given_up: bool = False) -> None:
        """End the slice; its owner is stopped unless it has the processor again at once.

        What is left of it is carried, unless it is *given_up*.
        """
        member = self._current
        assert member is not None
        slice_ns, used = self._budget - (CRITICAL if self._deferred else 0), self._used(member)
        left = slice_ns - used - self._idle
        member.carry = max(min(left, 0 if given_up else slice_ns), -slice_ns)
        member.mark += used
        self._current = None
        if following is member:
            self._note(Event.CONTINUED, member.environment, used, self._idle)
        elif member.environment.body.activity() in _STANDS:
            self._put_to_sleep(member, used)  # stopped by others: to pause and resume it would undo that
        else:
            member.environment.body.pause()
            self._exposure.count(Counter.PREEMPTIONS)
            if not given_up:
                member.environment.add(Page.PREEMPTIONS)
            self._note(Event.PREEMPTED, member.environment, used, self._idle, given_up | self._alone << 1)
            self._show(member.environment, EnvironmentState.READY)
        if self._directed or self._idle:
            self._directed = False
            self._say(Preemption.SLICE_END, member.environment, self._idle)

    def _peek(self) -> Member | None:
        """Return the owner of the next slice."""
        at = self._position + 1
        members = (self._members[environment] for environment, _ in self._plan[at:] + self._plan[:at])
        return next((member for member in members if not member.asleep), None)

    # --------------------------------------------------------------------------------------------- telling

    def _show(self, environment: "Environment", state: EnvironmentState) -> None:
        environment.state = state
        self._exposure.kip.show(environment)
        self._show_running()

    def _show_running(self) -> None:
        running = self._current.environment if self._current is not None else None
        self._exposure.kip.show_running(self.number, running)

    def _note(self, what: Event, whose: "Environment", a: int = 0, ns: int = 0, detail: int = 0) -> None:
        self._exposure.trace.record(what, whose.number, a, self.number | ns // 1000 << 32, detail)

    def _say(self, what: Preemption, environment: "Environment", idle: int = 0) -> None:
        if self.scheduler is None:
            return
        if not self._events:
            self._clock.alarm(self._clock.now() + EVENT_DELAY, self._send_events)
        self._events += (what, environment.thread, idle)

    def _send_events(self) -> None:
        words, self._events = self._events, []
        if self.scheduler is None:
            return
        size = 3 * _EVENTS_PER_MESSAGE
        for at in range(0, len(words), size):
            self._exposure.tell(self.scheduler, Label.PREEMPTION, tuple(words[at : at + size]))
