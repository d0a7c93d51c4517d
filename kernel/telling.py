"""What a processor tells: the page that all read, the trace, and its scheduler."""

from typing import TYPE_CHECKING

from kernel.abi.events import Event
from kernel.abi.ids import NIL_THREAD
from kernel.abi.kip import Counter, EnvironmentState, Page, awaited
from kernel.abi.messages import Label, Preemption
from kernel.capability import Resource
from kernel.plan import Plan

if TYPE_CHECKING:
    from hwmodel.machine import Machine
    from kernel.environment import Environment
    from kernel.exposure import Exposure
    from kernel.member import Ended, Member
    from kernel.reservation import Turn

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
        self._events: list[int] = []
        self.gone = False
        """It was taken out; it may have members still (`kernel.removal`)."""

    def _show(self, environment: "Environment", state: EnvironmentState) -> None:
        environment.state = state
        self._exposure.kip.show(environment)
        self._show_running()

    def _show_running(self) -> None:
        interrupted = self._interrupted.member.environment if self._interrupted is not None else None
        running = self._current.environment if self._current is not None else None
        self._exposure.kip.show_running(self.number, running, interrupted, self._plan.begun)

    def _note(self, what: Event, whose: "Environment", a: int = 0, ns: int = 0, detail: int = 0) -> None:
        b = self.number | (ns // 1000 & _LOW) << 32
        self._exposure.trace.record(what, whose.number, a & _WORD, b, detail)

    def _note_sleep(self, what: Event, member: "Member", used: int, ns: int) -> None:
        environment = member.environment
        member.awaits = awaited(environment.page, environment.first.row)
        self._note(what, environment, used, ns, member.awaits)

    def _look_again(self, sleeper: "Member") -> None:
        """Tell for whom *sleeper* waits if it said so since it fell asleep: awake for less than counts, it did."""
        if awaited(sleeper.environment.page, sleeper.environment.first.row) != sleeper.awaits:
            self._note_sleep(Event.BLOCKED, sleeper, 0, 0)

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
