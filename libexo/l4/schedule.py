"""ThreadSwitch and Schedule, and the functions made of them; the helpers of the older scheduler protocol.

Neither is a trap here: programs hold no processor, so both ask the scheduler server, ThreadSwitch by its typed
interface, Schedule by the message of `libexo.l4.format.controls`. Settings of a thread hold for its
environment, whose threads share the slices. Source: L4 X.2 reference manual, rev. 7.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from kernel.abi.kip import Page
from libexo.errors import ExoError, NoPartner
from libexo.ipc.message import Message
from libexo.l4.engine.start import engine
from libexo.l4.format import controls
from libexo.l4.format.constants import ErrInvalidScheduler
from libexo.l4.format.controls import UNCHANGED
from libexo.l4.format.registers import LoadMRs, StoreMRs
from libexo.l4.format.tag import MsgTag
from libexo.l4.format.tcrs import PREEMPTION_PENDING
from libexo.l4.format.threadids import nilthread
from libexo.l4.format.times import Time
from libexo.l4.format.words import word
from libexo.l4.ipc import Call, Wait

if TYPE_CHECKING:
    from libexo.environment import Environment

__all__ = [
    "SchedRequest",
    "Schedule",
    "Set_PreemptionDelay",
    "Set_Priority",
    "Set_ProcessorNo",
    "Set_Timeslice",
    "ThreadSwitch",
    "Timeslice",
    "Yield",
    "sched_get_server",
    "sched_send_request",
    "sched_set_server",
    "sched_switch",
    "sched_wait_request",
]

_NAME = "scheduler"
_PATIENCE = 5.0
"""Seconds to wait for a scheduler server that is being restarted."""
_ATTEMPTS = 3
_PROCESSOR_MASK = 0xFFFF


def ThreadSwitch(dest: int) -> None:
    """Give up the rest of the timeslice: to thread *dest*, if it is awake on the same processor; else to the next.

    Nothing happens for oneself, for a thread of one's own environment, or under no plan. Never fails.
    """
    own = engine()
    dest = own.global_id(word(dest, "thread id"))
    if dest == own.thread.id:
        return
    registers, environment = own.registers, own.environment
    registers.preempt_flags &= ~PREEMPTION_PENDING
    environment.page[Page.OVERDUE] = 0
    row = environment.kip.environment_of(environment.thread.id)
    if row is not None and row.cpu >= 0:
        with suppress(ExoError):
            environment.services.switch(dest)


def Yield() -> None:
    """Give up the rest of the timeslice."""
    ThreadSwitch(nilthread)


def Schedule(
    dest: int, TimeControl: int, ProcessorControl: int, prio: int, PreemptionControl: int
) -> tuple[int, int]:
    """Set how thread *dest* is scheduled; a word of all ones leaves its settings unchanged.

    Returns the old time control, and the state *dest* was in, a SCHEDRESULT; 0: failed, see ErrorCode. Of the slice
    it gives the length, not the rest. Errors: NoPrivilege, InvalidThread, InvalidParam; NoMem; and
    InvalidScheduler when no scheduler answers. Raises ValueError.
    """
    own = engine()
    words = tuple(word(each) for each in (TimeControl, ProcessorControl, prio, PreemptionControl))
    answer = _ask(Message(controls.SCHEDULE_LABEL, (own.global_id(word(dest, "thread id")), *words)))
    result, old, error = answer or (controls.SCHEDRESULT_ERROR, 0, ErrInvalidScheduler)
    if not result:
        own.registers.error_code = error
    return old, result


def _ask(request: Message) -> tuple[int, int, int] | None:
    """Ask the scheduler server, again if it is being restarted: a repeated request has the same effect as one."""
    own = engine()
    for _ in range(_ATTEMPTS):
        try:
            reply = own.thread.call(own.environment.lookup(_NAME, _PATIENCE), request)
        except NoPartner:
            continue
        except ExoError:
            return None
        if len(reply.words) != controls.ANSWER_WORDS or reply.label != request.label:
            return None
        result, old, error = reply.words
        return result, old, error
    return None


def Set_Priority(t: int, prio: int) -> int:
    """Set the priority of thread *t*, of which only the low 8 bits count; return its state, or 0."""
    return Schedule(t, UNCHANGED, UNCHANGED, controls.priority_control(prio), UNCHANGED)[1]


def Set_ProcessorNo(t: int, cpu_no: int) -> int:
    """Move thread *t*, and its environment with it, to processor *cpu_no*; return its state, or 0."""
    return Schedule(t, UNCHANGED, cpu_no & _PROCESSOR_MASK, UNCHANGED, UNCHANGED)[1]


def Set_Timeslice(t: int, ts: int, tq: int) -> int:
    """Set timeslice and total quantum of thread *t*, which are periods; return its state, or 0."""
    return Schedule(t, controls.time_control(ts, tq), UNCHANGED, UNCHANGED, UNCHANGED)[1]


def Timeslice(t: int) -> tuple[Time, Time, int]:
    """Return timeslice and rest of the total quantum of thread *t*, and its state, or 0."""
    old, result = Schedule(t, UNCHANGED, UNCHANGED, UNCHANGED, UNCHANGED)
    return (*controls.times(old), result)


def Set_PreemptionDelay(t: int, sensitivePrio: int, maxDelay: int) -> int:
    """Let thread *t* delay preemptions by no higher priority, by *maxDelay* us; return its state, or 0."""
    control = controls.preemption_control(sensitivePrio, maxDelay)
    return Schedule(t, UNCHANGED, UNCHANGED, UNCHANGED, control)[1]


# ------------------------------------------------------------------------------------------ the older protocol


class SchedRequest(NamedTuple):
    """The arguments of a Schedule, as they travel; missing ones leave their settings unchanged."""

    thread: int
    time_control: int = UNCHANGED
    processor_control: int = UNCHANGED
    prio_control: int = UNCHANGED
    preemption_control: int = UNCHANGED


_SERVERS: "WeakKeyDictionary[Environment, int]" = WeakKeyDictionary()
"""The server an environment asks, if not the scheduler server."""


def sched_set_server(tid: int) -> None:
    """Have this environment ask thread *tid* from now on; nilthread: the scheduler server."""
    _SERVERS[engine().environment] = word(tid, "thread id")


def sched_get_server() -> int:
    """Return the thread that gets requests: the one set, or the scheduler server; nilthread: there is none."""
    environment = engine().environment
    return _SERVERS.get(environment) or environment.kip.lookup(_NAME)


def sched_send_request(req: SchedRequest) -> MsgTag:
    """Call the server with *req*. Its answer is in MR1 to MR3: result, old time control, error code."""
    LoadMRs(0, (MsgTag.of(controls.SCHEDULE_LABEL, u=controls.REQUEST_WORDS), *req))
    return Call(sched_get_server())


def sched_wait_request() -> tuple[SchedRequest, int, MsgTag]:
    """Wait, as a server, for a request: its arguments, its sender, and the tag.

    For any other message the request is of nilthread, and empty.
    """
    sender, tag = Wait()
    if tag.E or tag.label != controls.SCHEDULE_LABEL or tag.u != controls.REQUEST_WORDS:
        return SchedRequest(nilthread), sender, tag
    return SchedRequest(*StoreMRs(1, controls.REQUEST_WORDS)), sender, tag


def sched_switch(next: int) -> None:  # noqa: A002 - its name in the protocol's header
    """Switch to thread *next*."""
    ThreadSwitch(next)
