"""Processors: a host core that runs one environment of its plan at a time.

*Theory of operation.* The plan is a vector of slices that the kernel walks round and round. A slice is CPU
time by the host's own account: when the alarm rings early, because something else used the core, the slice goes
on. What its owner slept away in it counts too, since nobody else could use that; the scheduler is told of it.
What was used too much or too little is carried into the next slice of the same environment. A member that
sleeps is not stopped: it wakes by itself, its slices are skipped, and once it has used time again it is back in
the walk. The same goes for one that is stopped by a signal or held by a debugger: the kernel does not
continue it. A slice also ends by the clock, so that a member cannot keep the core by not using it. Without
competition nothing is stopped and no alarm runs. A reservation that is ready (`kernel.reservation`) interrupts a
slice of the plan, which goes on afterwards. Who falls asleep, and waits for a member that is stopped, lends it the
rest of its slice (`kernel.lending`), and has back what is left when that one sleeps.

The author of the plan is the scheduler. Preemption messages tell it what happens. When it is gone, or does
not answer, the kernel walks a fixed round robin over all members and says so: no policy can wedge the system.
"""

from typing import TYPE_CHECKING

from kernel.abi.events import DIRECTED, LENT, Event
from kernel.abi.kip import Counter, EnvironmentState, Page
from kernel.abi.messages import Preemption
from kernel.abi.program import Activity
from kernel.abi.rights import Kind
from kernel.abi.traps import How
from kernel.idleness import PAUSE, TICK, UNKNOWN, Idleness, asleep
from kernel.lending import heir
from kernel.member import Ended, Member
from kernel.reservation import FOREVER, GRAIN, Reserved, Turn
from kernel.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from hwmodel.machine import Alarm, Body, Machine
    from kernel.environment import Environment
    from kernel.exposure import Exposure
    from kernel.reservation import Reservation

_MS = 1_000_000
WAKE_POLL = 5 * _MS
"""How often each sleeper is looked at where the machine does not tell; doubles up to MAX_WAKE_POLL in time."""
MAX_WAKE_POLL = 40 * _MS
WOKE = 20_000
"""CPU time that a sleeper must use to count as awake: less is the host's own work for a stopped sleeper."""
NAP = 500_000
"""CPU time that one may use that has woken, and sleeps again at the next look, before it is back in the walk."""
WALL = 3
"""A slice ends after so many times its length by the clock, however little was used; the rest is lost."""
CRITICAL = 1 * _MS
"""How long a critical section may defer the end of a slice."""
ANSWER_TIME = 1000 * _MS
"""How long the scheduler may take to plan a new member before the kernel falls back to round robin."""
FALLBACK_SLICE_US = 10_000
_STANDS = (Activity.STOPPED, Activity.TRACED)


class Processor(Telling):
    """One processor; also the resource a CPU capability is to."""

    kind = Kind.CPU

    def __init__(self, machine: "Machine", exposure: "Exposure", number: int, core: int) -> None:
        """Make processor *number* of host core *core*, with an empty plan."""
        super().__init__(machine, exposure, number)
        self.core = core
        self._switches = machine.switches(core)
        self._bodies: dict[Body, Member] = {}
        self._awake = 0  # how many of the members do not sleep
        self._members: dict[Environment, Member] = {}
        self.reserved = Reserved(number, self._clock, self._members, self._review)
        self._ended: Ended | None = None
        self._budget = 0
        self._end = 0  # of the slice, by the clock
        self._idle = Idleness()  # of the owner of the slice, which is charged that as well
        self._directed = self._deferred = self._tells_ends = False
        self._lent: tuple[Member, int] | None = None  # whose rest of a slice is to be lent, and how many ns
        self._alone = False  # there was no competition at the last look: the slice has no end
        self._poll = TICK
        self._alarm: Alarm | None = None
        self._watchdog: Alarm | None = None
        exposure.kip.show_plan(number, core, ())

    def __repr__(self) -> str:
        """Show number and members."""
        return f"<Processor {self.number} core {self.core} {len(self._members)} members>"

    # ------------------------------------------------------------------------------------------- membership

    def admit(self, environment: "Environment") -> None:
        """Put *environment*, which does not run, under the plan."""
        self._members[environment] = self._bodies[environment.body] = Member(environment)
        self._awake += 1
        self._switches.follow(environment.body)
        self.reserved.arrive(environment)
        self._note(Event.READY, environment)
        self._say(Preemption.READY, environment)
        if self.scheduler is None:
            self._fall_back("no scheduler")
        self._await_plan()

    def remove(self, environment: "Environment") -> None:
        """Take *environment*, which is gone, out of the plan."""
        if self._lender is not None and self._lender.environment is environment:
            self._end_slice(given_up=True)
        member = self._members.pop(environment, None)
        if self._current is not None and self._current is member:
            self.reserved.end(self._budget)
            self._repay(self._budget)
            self._current = None
        if environment in self.reserved.bound:
            self.reserved.bind(self.reserved.bound[environment], None)
        if member is None:
            return
        if self._ended is not None and self._ended.member is member:
            self._ended = None
        if self._interrupted is not None and self._interrupted.member is member:
            self._interrupted = None
        del self._bodies[environment.body]
        self._awake -= not member.asleep
        self._switches.leave(environment.body)
        rest = [entry for entry in self._plan.slices if entry[0] is not environment]
        self._set_plan(rest, self._plan.begun)
        self._say(Preemption.EXIT, environment)
        self._walk()

    def leave(self, environment: "Environment") -> None:
        """Take out *environment*, which goes to another processor: its scheduler hears of that arrival later."""
        self.remove(environment)
        self._send_events()

    def scheduler_gone(self, environment: "Environment") -> None:
        """If *environment*, which is gone, was the scheduler, walk a round robin until the next one."""
        if environment is self.scheduler:
            self.scheduler = None
            self._events.clear()
            self._fall_back("the scheduler is gone")

    def _await_plan(self) -> None:
        if self._watchdog is None:
            self._watchdog = self._clock.alarm(self._clock.now() + ANSWER_TIME, self._no_answer)

    def _no_answer(self) -> None:
        """If somebody awake has no slice, it is the fault of the scheduler, which has sent no plan for so long."""
        self._watchdog = None
        planned = {environment for environment, _ in self._plan.slices} | self.reserved.bound.keys()
        starved = [e.name for e, member in self._members.items() if not member.asleep and e not in planned]
        if self.scheduler is not None and starved:
            self._fall_back(f"{self.scheduler.name} sends no plan, and {starved[0]} has no slice")

    def _fall_back(self, reason: str) -> None:
        self._exposure.count(Counter.WATCHDOG_FALLBACKS)
        guilty = self.scheduler.number if self.scheduler is not None else 0
        self._exposure.trace.record(Event.FALLBACK, guilty, self.number)
        self._exposure.log(f"processor {self.number}: {reason}: round robin by the kernel")
        self._tells_ends = False
        self._set_plan([(environment, FALLBACK_SLICE_US) for environment in self._members], 0)
        self._walk()

    # -------------------------------------------------------------------------------------------------- plan

    def install(self, scheduler: "Environment", plan: "Sequence[tuple[Environment, int]]", how: int) -> None:
        """Walk *plan*, from its start; the running slice is finished first, if its owner is still planned."""
        planned = {environment for environment, _ in plan}
        self._follow(scheduler, planned)
        self._note(Event.PLANNED, scheduler, sum([microseconds for _, microseconds in plan]))
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        self._await_plan()
        self._tells_ends = bool(how & How.ENDS)
        later, now = self._interrupted, how & How.NOW
        if later is not None and (now or later.member.environment not in planned):
            later.member.carry += later.microseconds * 1000 if now else 0
            self._interrupted = None
        self._set_plan(list(plan), 0)
        current = self._current
        if current is not None:
            self._exposure.kip.show(current.environment)  # so that the scheduler sees its CPU time
            owner = (self._lender or current).environment
            if (now or owner not in planned) and self.reserved.running is None:
                self._cut()
        self._walk()

    def switch(self, scheduler: "Environment", environment: "Environment", microseconds: int) -> None:
        """Run *environment* for *microseconds* now, then go on with the plan."""
        self._follow(scheduler)
        self._cut()
        self._begin(Turn(self._members[environment], microseconds, directed=True))
        self._walk()

    def give_up(self, scheduler: "Environment", giver: "Environment", to: "Environment | None") -> None:
        """Have *giver*, if it has the processor, leave the rest of its slice to *to*, or begin the next one."""
        self._follow(scheduler)
        current = self._current
        if current is None or current.environment is not giver:
            return
        rest = max(self._cut(given_up=True), 0) // 1000
        if to is not None:
            self._begin(Turn(self._members[to], rest, directed=True))
        self._walk()

    def _follow(self, scheduler: "Environment", planned: "Container[Environment]" = ()) -> None:
        """Obey *scheduler*; a new one is told of members it has not *planned*, which may have come before it."""
        if scheduler is not self.scheduler:
            self.scheduler = scheduler
            for environment in [each for each in self._members if each not in planned]:
                self._say(Preemption.READY, environment)

    def has(self, environment: "Environment") -> bool:
        """Say whether *environment* is under the plan."""
        return environment in self._members

    def _set_plan(self, plan: "list[tuple[Environment, int]]", begun: int) -> None:
        if plan != self._plan.slices:
            self._note_change(self._plan.slices, plan)
            self._exposure.kip.show_plan(self.number, self.core, plan)
        self._plan.replace(plan, begun, self._members)
        self._show_running()

    # ------------------------------------------------------------------------------------------------- walk

    def _walk(self) -> None:
        """Give the core to a reservation, or the next in turn unless a slice is running; set the next alarm."""
        first = self.reserved.first()
        if first is not None and self._current is not None:
            self._interrupt(self._current)
        if self._current is None and (turn := first or self._next()) is not None:
            self._begin(turn)
        elif self._current is None:
            self._tell_stopped(self._stop_ended())
            self._show_running()
        self._set_alarm(self._next_look())

    def _interrupt(self, member: Member) -> None:
        if self._defers(member):
            return
        reserved, directed, self._directed = self.reserved.running, self._directed, False
        lender, left = self._lender, self._end_slice()
        if lender is not None:
            self._lent = lender, left
        elif reserved is None and member.carry > GRAIN:
            if self._interrupted is not None:  # by a directed slice, which is interrupted itself
                self._interrupted.member.carry += self._interrupted.microseconds * 1000
            self._interrupted, member.carry = Turn(member, member.carry // 1000, directed), 0

    def _review(self, changing: "Reservation") -> None:
        """Charge a reservation that is to change what it used, and look at once who is next."""
        if self.reserved.running is changing:
            self._end_slice()
        self._set_alarm(0)

    def _next(self) -> Turn | None:
        """Return the next slice of a member that is awake, an interrupted one first, skipping those of sleepers."""
        lent, self._lent = self._lent, None
        if lent is not None and lent[1] > GRAIN and lent[0].environment in self._members:
            lender, rest = lent
            if (to := heir(lender, self._members)) is not None:
                return Turn(to, rest // 1000, lender=None if to is lender else lender)
        interrupted, self._interrupted = self._interrupted, None
        if interrupted is not None and not interrupted.member.asleep:
            return interrupted
        if (found := self._plan.next()) is None:
            return None
        (environment, microseconds), skipped = found
        self._exposure.count(Counter.SLICES_SKIPPED, skipped)
        return Turn(self._members[environment], microseconds)

    def _begin(self, turn: Turn) -> None:
        member, microseconds, self._directed, reservation, self._lender = turn
        environment = member.environment
        consumed = environment.body.consumed()
        # While it ran the host's account was late, by up to a tick; now that it does not run it is exact.
        budget, self.reserved.running = microseconds * 1000 - (consumed - member.mark), reservation
        if reservation is None and self._lender is None:
            budget += member.carry
        elif reservation is not None:
            reservation.budget = budget
            self._note(Event.RESERVED, environment, microseconds, max(budget, GRAIN))
        self._budget = max(budget, GRAIN)
        environment.add(Page.SLICES)
        self._exposure.show_slice(environment, self._clock.now(), consumed + self._budget)
        stopped = self._stop_ended(but=member)
        environment.body.resume()  # at once: until now, nobody had the core
        self._current, self._deferred, self._alone = member, False, False
        self._mark(member, asleep=False)
        self._charge_from_now(member, consumed)
        self._tell_stopped(stopped)
        self._show(environment, EnvironmentState.RUNNING)
        self._exposure.count(Counter.SWITCHES)
        how = LENT if self._lender is not None else DIRECTED * self._directed
        self._note(Event.SWITCHED, environment, microseconds, self._budget, how)

    def _set_alarm(self, delay: int) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        at = self._clock.now() + delay
        self._alarm = self._clock.alarm(at, self._look) if delay < FOREVER else None

    def _next_look(self) -> int:
        """Return the time to the next check, in ns; FOREVER: none before something else happens."""
        member, wait = self._current, self.reserved.wait()
        sleepers = self._awake < len(self._members)
        if member is None:
            return min(wait, self._poll if sleepers else FOREVER)
        if not self._directed and not self._contended():
            self._alone = True
            return self._poll if sleepers else FOREVER
        if self._alone:
            self._charge_from_now(member, member.environment.body.consumed())
            self.reserved.arrive(member.environment)
            member.environment.page[Page.SLICE_ENDS] = member.mark + self._budget
        wait = min(wait, CRITICAL if self._deferred else self._idle.due - self._clock.now())
        return max(min(self._rest(member), self._end - self._clock.now(), wait), GRAIN)

    def _charge_from_now(self, member: Member, consumed: int) -> None:
        """Charge the current slice what its owner uses from now on: before, nobody else wanted the core."""
        if self._alone:
            self._note(Event.CONTINUED, member.environment, consumed - member.mark, detail=2)
        now, self._alone, member.mark = self._clock.now(), False, consumed
        self._end = now + WALL * self._budget
        self._idle.begin(member.environment.body, now, consumed)

    def _contended(self) -> bool:
        """Say whether another member wants the core, planned or not: a scheduler may wait for this one to sleep."""
        return self._awake > (self._current is not None)

    def _rest(self, member: Member) -> int:
        return self._budget - member.used() - self._idle.total

    def _look(self) -> None:
        """Check, at the alarm, which sleepers woke, whether the slice is over, whether its owner sleeps."""
        self._alarm = None
        tells, member = self._find_woken(), self._current
        if member is not None and (self._directed or self._contended()):
            now, body = self._clock.now(), member.environment.body
            if self._alone:  # it slept at nobody's cost until now
                self._idle.begin(body, now, body.consumed())
            if self._idle.look(body, now):
                self._put_to_sleep(member, member.used())
            elif self._lender is not None and not self._lender.asleep:
                self._lent = self._lender, self._end_slice()
            elif self._rest(member) <= GRAIN:
                if not self._defers(member):
                    self._end_slice()
            elif now >= self._end:
                self._exposure.count(Counter.SLICES_OVERDUE)
                self._end_slice(given_up=True)
        longer = min(2 * self._poll, MAX_WAKE_POLL) if self._current is None else WAKE_POLL
        self._poll = TICK if tells else longer
        self._walk()

    def _find_woken(self) -> bool:
        """Take up who woke, and stop it until it is its turn; say whether the machine tells of that."""
        came = self._switches.read()
        found = self._members.values() if came is None else map(self._bodies.__getitem__, came)
        for member in [each for each in found if each.asleep]:
            if not self._has_woken(member):
                self._look_again(member)
                continue
            self._mark(member, asleep=False)
            self.reserved.arrive(member.environment)
            member.environment.body.pause()
            self._note(Event.READY, member.environment, member.used())
            self._show(member.environment, EnvironmentState.READY)
            self._say(Preemption.READY, member.environment)
            self._await_plan()
        return came is not None

    def _has_woken(self, member: Member) -> bool:
        since, _ = asleep(member.environment.body, self._clock.now())
        return not since or member.used() > (WOKE if since == UNKNOWN else NAP)

    def _mark(self, member: Member, *, asleep: bool) -> None:
        self._awake += member.asleep - asleep
        member.asleep = asleep
        self._plan.mark(member.environment, awake=not asleep)

    def _put_to_sleep(self, member: Member, used: int) -> None:
        event = Event.STOPPED if member.environment.body.activity() in _STANDS else Event.BLOCKED
        self._note_sleep(event, member, used, self._idle.total)
        idle = self._idle.total if self._current is member else 0
        if self._current is member:
            if not self.reserved.end(used + idle):
                self._lent = self._lender or member, self._budget - used - idle
            self._repay(used + idle)
            self._current = None
        self._mark(member, asleep=True)
        member.carry, member.mark = 0, member.environment.body.consumed()
        self._show(member.environment, EnvironmentState.BLOCKED)
        self._say_asleep(member, idle)

    def _defers(self, member: Member) -> bool:
        """Say whether a critical section defers the end of the slice, as it may once, for a bounded time."""
        page = member.environment.page
        if self._deferred or not page[Page.CRITICAL]:
            return False
        self._deferred, page[Page.OVERDUE] = True, 1
        self._budget += CRITICAL
        return True

    def _cut(self, *, given_up: bool = False) -> int:
        """End the slice, if any, before its time.

        What its owner slept since the last look is charged as well; and who gave it up pays for the switch.
        """
        self._find_woken()
        if self._current is not None and not self._alone:
            self._idle.look(self._current.environment.body, self._clock.now())
            self._idle.total += PAUSE * given_up
        return self._end_slice(given_up=given_up) if self._current is not None else 0

    def _end_slice(self, *, given_up: bool = False) -> int:
        """End the slice, and return what is left of it; its owner is stopped when another one's begins.

        What is left of it is carried, unless it is *given_up*.
        """
        member = self._current
        assert member is not None
        slice_ns, used = self._budget - (CRITICAL if self._deferred else 0), member.used()
        left = slice_ns - used - self._idle.total
        owner = self._lender or member
        if not self.reserved.end(max(slice_ns - left, slice_ns if given_up else 0)):
            least = 0 if given_up or owner is not member else slice_ns
            owner.carry = max(min(left, least), -slice_ns)
        self._repay(slice_ns - left)
        member.mark += used
        self._current = None
        self._ended = Ended(member, used, self._idle.total, given_up, self._alone)
        if self._directed or self._idle.total or self._tells_ends:
            self._directed = False
            self._say(Preemption.SLICE_END, member.environment, self._idle.total)
        return left

    def _stop_ended(self, but: Member | None = None) -> Ended | None:
        """Stop the owner of the slice that ended, if it is another one; return that slice if it was."""
        ended, self._ended = self._ended, None
        if ended is None:
            return None
        body = ended.member.environment.body
        if ended.member is but:
            self._note(Event.CONTINUED, ended.member.environment, ended.used, ended.idle)
        elif body.activity() in _STANDS:
            self._put_to_sleep(ended.member, ended.used)  # stopped by others: to pause it would undo that
        else:
            body.pause()
            return ended
        return None
