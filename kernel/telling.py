"""What a processor tells: the page that all read, the trace, and its scheduler."""

import collections
from typing import TYPE_CHECKING

from kernel.abi.events import ANYBODY, Event
from kernel.abi.ids import NIL_THREAD
from kernel.abi.kip import Counter, EnvironmentState, Page
from kernel.abi.messages import Label, Preemption
from kernel.capability import Resource
from kernel.lending import waits_for
from kernel.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwmodel.machine import Machine
    from kernel.environment import Environment
    from kernel.exposure import Exposure
    from kernel.member import Ended, Member
    from kernel.reservation import Turn

    _Slices = Sequence[tuple[Environment, int]]

EVENT_DELAY = 1_000_000
"""Preemption events are collected this long and sent as one message, in ns."""
_EVENTS_PER_MESSAGE = 21
_WORD, _LOW = (1 << 64) - 1, (1 << 32) - 1


class Telling(Resource):
    """The part of a processor that tells of the rest."""

    def __init__(self, machine: "Machine", exposure: "Exposure", number: int) -> None:
        """Start with nobody to tell."""
        self.number = number
        self.scheduler: Environment | None = None
        self._exposure = exposure
        self._clock = machine.clock
        self._current: Member | None = None
        self._plan = Plan()
        self._interrupted: Turn | None = None
        """The rest of a slice, which comes after the reservations."""
        self._lender: Member | None = None
        """Whose slice it is, if another lent it."""
        self._events: list[int] = []
        self.gone = False
        """It was taken out; it may have members still (`kernel.removal`)."""

    def describe(self) -> tuple[int, int, int, int, str]:
        """Return the processor's number."""
        return self.number, 1, 0, 0, ""

    def _show(self, environment: "Environment", state: EnvironmentState) -> None:
        environment.state = state
        self._exposure.kip.show(environment)
        self._show_running()

    def _show_running(self) -> None:
        later = self._lender or (self._interrupted.member if self._interrupted is not None else None)
        interrupted = later.environment if later is not None else None
        running = self._current.environment if self._current is not None else None
        self._exposure.kip.show_running(self.number, running, interrupted, self._plan.begun)

    def _note(self, what: Event, whose: "Environment", a: int = 0, ns: int = 0, detail: int = 0) -> None:
        b = self.number | (ns // 1000 & _LOW) << 32
        self._exposure.trace.record(what, whose.number, a & _WORD, b, detail)

    def _note_sleep(self, what: Event, member: "Member", used: int, ns: int) -> None:
        environment = member.environment
        member.awaits = waits_for(member)
        self._note(what, environment, used, ns, member.awaits)

    def _look_again(self, sleeper: "Member") -> None:
        """Tell for whom *sleeper* waits if it said so since it fell asleep: awake for less than counts, it did."""
        if waits_for(sleeper) != sleeper.awaits:
            self._note_sleep(Event.BLOCKED, sleeper, 0, 0)
            self._say_waits(sleeper)

    def _note_change(self, before: "_Slices", now: "_Slices") -> None:
        """Note which slices a plan has that the one *before* it had not, and the other way."""
        change = collections.Counter(now)
        change.subtract(before)
        for (environment, microseconds), more in change.items():
            if more:
                self._note(Event.PART, environment, microseconds, detail=more & ANYBODY)

    def _tell_stopped(self, ended: "Ended | None") -> None:
        """Tell that the owner of a slice was stopped at its end."""
        if ended is None:
            return
        environment = ended.member.environment
        self._exposure.count(Counter.PREEMPTIONS)
        if not ended.given_up:
            environment.add(Page.PREEMPTIONS)
        how = ended.given_up | ended.alone << 1
        self._note(Event.PREEMPTED, environment, ended.used, ended.idle, how)
        self._show(environment, EnvironmentState.READY)

    def _say(self, what: Preemption, environment: "Environment", idle: int = 0) -> None:
        self._put(what, environment.thread, idle)

    def _say_asleep(self, member: "Member", idle: int) -> None:
        self._say(Preemption.BLOCKED, member.environment, idle)
        if member.awaits:
            self._say_waits(member)

    def _say_waits(self, member: "Member") -> None:
        """Tell the scheduler for whom *member*, which sleeps, says that it waits; 0: for no single one."""
        self._put(Preemption.WAITS, member.environment.thread, member.awaits % ANYBODY)

    def _repay(self, used: int) -> None:
        """Tell the scheduler of *used* ns of a slice that was lent, which is over: they are the lender's."""
        if self._lender is not None and self._current is not None:
            self._say(Preemption.LENT, self._lender.environment, used)
            self._say(Preemption.BORROWED, self._current.environment, used)
        self._lender = None

    def go(self, *, gone: bool) -> None:
        """Be taken out, or put back, and tell the scheduler."""
        self.gone = gone
        self._put(Preemption.LEAVES if gone else Preemption.RETURNS, NIL_THREAD, self.number)

    def _put(self, what: Preemption, thread: int, number: int) -> None:
        if self.scheduler is None:
            return
        if not self._events:
            self._clock.alarm(self._clock.now() + EVENT_DELAY, self._send_events)
        self._events += (what, thread, number)

    def _send_events(self) -> None:
        words, self._events = self._events, []
        if self.scheduler is None:
            return
        if self._current is not None:
            self._exposure.kip.show(self._current.environment)  # so that the scheduler sees its CPU time
        size = 3 * _EVENTS_PER_MESSAGE
        for at in range(0, len(words), size):
            self._exposure.tell(self.scheduler, Label.PREEMPTION, tuple(words[at : at + size]))
