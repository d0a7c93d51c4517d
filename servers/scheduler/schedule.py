"""X.2's Schedule: the scheduler server's answers to label 0x1234, with their rules of privilege.

- *Privilege.* Servers, which X.2 calls privileged, and every thread in the space of the destination's X.2
  scheduler, as the kernel interface page names it, may schedule. Others get error 1.
- *Bounds.* A priority, or sensitive priority, above the caller's own is error 5. Servers
  have the highest.
- *All or nothing.* A refused request has changed nothing.
- A destination that does not exist is not an error but a state: dead. A word that is no thread's id is error 2.
- *Interrupt threads* can be named, by servers. Their settings are kept, and told back; their messages come when
  they come, as they use no processor, and they cannot be moved to one (error 5).

Settings hold for the destination's environment: its threads share slices.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from kernel.abi.ids import (
    FIRST_PROGRAM,
    NIL_THREAD,
    USER_BASE,
    is_interrupt,
    is_local,
    show_thread,
    thread_number,
)
from kernel.abi.kip import EnvironmentState, ThreadState
from kernel.abi.limits import MAX_SLICE_US, MAX_THREADS, MIN_SLICE_US
from libexo.environment import Environment
from libexo.errors import ExoError, OperationRefused, TrapRefused
from libexo.ipc.message import Message
from libexo.kip import EnvironmentRow, ThreadRow
from libexo.l4.format import controls
from libexo.l4.format.constants import ErrInvalidParam, ErrInvalidThread, ErrNoMem, ErrNoPrivilege, ErrOk
from libexo.l4.format.controls import UNCHANGED, PreemptionControl, TimeControl
from libexo.sched import QUANTUM
from servers.scheduler.settings import DEFAULT_PRIORITY, MAX_PRIORITY, Settings

_STATES: Final = {
    EnvironmentState.STARTING: controls.SCHEDRESULT_INACTIVE,
    EnvironmentState.READY: controls.SCHEDRESULT_RUNNING,
    EnvironmentState.RUNNING: controls.SCHEDRESULT_RUNNING,
    EnvironmentState.BLOCKED: controls.SCHEDRESULT_WAITING,
}


class ScheduleRefused(OperationRefused):
    """The request is refused, with an X.2 error code."""

    def __init__(self, code: int, why: str) -> None:
        """Refuse with *code*."""
        super().__init__(why)
        self.code = code


class Request(NamedTuple):
    """The wishes of a request; None: leave it unchanged."""

    times: TimeControl | None
    processor: int | None
    priority: int | None
    preemption: PreemptionControl | None


def requested(words: tuple[int, ...]) -> Request:
    """Return the wishes in the four control *words*. Raises ScheduleRefused."""
    time, processor, priority, preemption = (None if each == UNCHANGED else each for each in words)
    try:
        times = controls.lengths(time) if time is not None else None
    except ValueError as error:
        raise ScheduleRefused(ErrInvalidParam, str(error)) from error
    told = controls.preemption(preemption) if preemption is not None else None
    return Request(times, processor, priority, told)


def check(request: Request, own: int, processors: int) -> None:
    """Raise ScheduleRefused unless a caller of priority *own* may ask for that on so many *processors*."""
    asked = (request.priority, request.preemption.sensitive if request.preemption is not None else None)
    highest = max(each for each in (*asked, 0) if each is not None)
    if highest > own:
        raise ScheduleRefused(ErrInvalidParam, f"priority {highest} is above the caller's {own}")
    if request.processor is not None and request.processor >= processors:
        raise ScheduleRefused(ErrInvalidParam, f"processor {request.processor} of {processors}")


def apply(request: Request, settings: Settings, used: int | None) -> None:
    """Change *settings* as requested; its environment has *used* so much by now, in ns (None: unknown)."""
    if request.times is not None:
        timeslice = request.times.timeslice
        settings.slice_us = (
            MAX_SLICE_US if timeslice is None else min(max(timeslice, MIN_SLICE_US), MAX_SLICE_US)
        )
        settings.limit(request.times.quantum, used)
    if request.priority is not None:
        settings.priority = request.priority
    if request.preemption is not None:
        settings.sensitive, settings.delay_us = request.preemption


class Members(Protocol):
    """The scheduler server, as Schedule sees it: its members, and their settings."""

    environment: Environment

    @property
    def processors(self) -> int:
        """The number of processors."""

    def row_of(self, thread: int) -> EnvironmentRow | None:
        """Return the environment of *thread*, any of its threads."""

    def settings(self, thread: int) -> Settings:
        """Return the settings of the environment of first thread *thread*."""

    def planned(self, thread: int) -> int:
        """Return the length of the slices of *thread*, in microseconds; 0: it has none."""

    def change(self, thread: int, apply: Callable[[Settings], None]) -> None:
        """Change the settings of *thread*, keep them, and plan again. Raises ExoError: nothing is changed."""

    def migrate(self, thread: int, processor: int) -> None:
        """Move the environment of *thread* under *processor*. Raises TrapRefused."""

    def look(self) -> None:
        """Bring the accounts of running members up to date."""


class Schedule:
    """Answers these messages for the scheduler server."""

    def __init__(self, server: Members) -> None:
        """Change what *server* knows of its members."""
        self._server = server
        self._kip = server.environment.kip

    def answer(self, sender: int, message: Message) -> Message | None:
        """Return the answer to *message* of *sender*: result, old time control, error; None: it is no request."""
        if message.label != controls.SCHEDULE_LABEL:
            return None
        try:
            result, old = self._schedule(sender, message)
            code = ErrOk
        except ScheduleRefused as refused:
            result, old, code = controls.SCHEDRESULT_ERROR, 0, refused.code
        except ExoError:  # nothing changed, as it could not be kept over the server's death
            result, old, code = controls.SCHEDRESULT_ERROR, 0, ErrNoMem
        return Message(controls.SCHEDULE_LABEL, (result, old, code))

    def _schedule(self, sender: int, message: Message) -> tuple[int, int]:
        if len(message.words) != controls.REQUEST_WORDS or message.typed or message.items:
            raise ScheduleRefused(ErrInvalidParam, f"{len(message.words)} words: Schedule has five arguments")
        dest, *words = message.words
        if is_interrupt(dest):
            return self._schedule_interrupt(sender, dest, requested(tuple(words)))
        if is_local(dest) or not USER_BASE <= thread_number(dest) < MAX_THREADS:
            raise ScheduleRefused(ErrInvalidThread, f"{show_thread(dest)} is not the id of a thread")
        thread = self._kip.thread(dest)
        if thread is None:
            return controls.SCHEDRESULT_DEAD, 0
        self._check_privilege(sender, dest, thread.scheduler)
        request = requested(tuple(words))
        check(request, self._priority(sender), self._server.processors)
        return self._change(sender, thread, request)

    def _schedule_interrupt(self, sender: int, dest: int, request: Request) -> tuple[int, int]:
        """Keep the settings of an interrupt thread, which waits for its interrupt."""
        self._check_privilege(sender, dest, NIL_THREAD)
        check(request, self._priority(sender), processors=0)
        said = self._server.settings(dest)
        old = controls.time_control(
            controls.length_time(said.slice_us or None), controls.length_time(said.quantum_us)
        )
        self._server.change(dest, lambda settings: apply(request, settings, None))
        return controls.SCHEDRESULT_WAITING, old

    def _check_privilege(self, sender: int, dest: int, told: int) -> None:
        """Raise ScheduleRefused unless *sender* is a server, or in the space of *told*, the scheduler."""
        scheduler, caller = self._kip.thread(told), self._kip.thread(sender)
        same = caller is not None and scheduler is not None and caller.environment == scheduler.environment
        if thread_number(sender) >= FIRST_PROGRAM and not same:
            raise ScheduleRefused(ErrNoPrivilege, f"{show_thread(sender)} schedules {show_thread(dest)}")

    def _priority(self, sender: int) -> int:
        if thread_number(sender) < FIRST_PROGRAM:
            return MAX_PRIORITY
        row = self._server.row_of(sender)
        return self._server.settings(row.thread).priority if row is not None else DEFAULT_PRIORITY

    def _change(self, sender: int, thread: ThreadRow, request: Request) -> tuple[int, int]:
        """Do the request; return the state before, and the old time control."""
        self._server.look()
        row = self._server.row_of(thread.thread)
        before = self._state(thread, row), self._times(thread, row)
        if before[0] == controls.SCHEDRESULT_DEAD:
            return before
        if request.processor is not None:
            self._migrate(thread.thread, request.processor)
            row = self._server.row_of(thread.thread)
        used = row.consumed if row is not None and row.cpu >= 0 else None
        name = _name(thread, row)
        longest = self._longest(sender, name)

        def change(settings: Settings) -> None:
            apply(request, settings, used)
            settings.slice_us = min(settings.slice_us, longest)

        self._server.change(name, change)
        return before

    def _longest(self, sender: int, name: int) -> int:
        """Return how long the slices of *name* may become: a program gives its own family no more than it has."""
        caller = self._server.row_of(sender)
        if thread_number(sender) < FIRST_PROGRAM or caller is None:
            return MAX_SLICE_US
        mine, its = (self._server.settings(each).family or each for each in (caller.thread, name))
        return (self._server.planned(name) or QUANTUM) if mine == its else MAX_SLICE_US

    def _state(self, thread: ThreadRow, row: "EnvironmentRow | None") -> int:
        if thread.state == ThreadState.INACTIVE or row is None:
            return controls.SCHEDRESULT_INACTIVE
        return _STATES.get(row.state, controls.SCHEDRESULT_DEAD)

    def _times(self, thread: ThreadRow, row: "EnvironmentRow | None") -> int:
        name = _name(thread, row)
        settings = self._server.settings(name)
        left = settings.left(row.consumed) if row is not None and row.cpu >= 0 else None
        quantum = settings.quantum_us if left is None else left // 1000
        timeslice = settings.slice_us or self._server.planned(name) or QUANTUM * settings.share
        return controls.time_control(controls.length_time(timeslice), controls.length_time(quantum))

    def _migrate(self, thread: int, processor: int) -> None:
        try:
            self._server.migrate(thread, processor)
        except TrapRefused as refused:
            raise ScheduleRefused(ErrInvalidThread, str(refused)) from refused


def _name(thread: ThreadRow, row: "EnvironmentRow | None") -> int:
    """Return the thread by which its environment is known."""
    return row.thread if row is not None else thread.thread
