"""The traps on processors: what a scheduler may have done, and what no plan may hold."""

from typing import TYPE_CHECKING

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.kip import Head
from kernel.abi.limits import MAX_SLICE_US, MIN_SLICE_US
from kernel.abi.messages import Label
from kernel.abi.rights import Kind, Rights
from kernel.capability import Resource
from kernel.dispatch import Call, CallTo, Handlers
from kernel.errors import Refused
from kernel.processor import Processor
from kernel.reservation import Reservation

if TYPE_CHECKING:
    from kernel.environment import Environment
    from kernel.jobs import Steps
    from kernel.kernel import Kernel


def _thread_switch(kernel: "Kernel", call: CallTo[traps.ThreadSwitch, Processor]) -> None:
    trap, processor = call.trap, call.resource
    if trap.giver:
        giver = _member(kernel, processor, trap.giver)
        to = _member(kernel, processor, trap.thread) if trap.thread else None
        processor.give_up(call.caller, giver, to)
        return
    microseconds = _check_slice(trap.microseconds)
    processor.switch(call.caller, _member(kernel, processor, trap.thread), microseconds)


def _member(kernel: "Kernel", processor: Processor, thread: int) -> "Environment":
    """Return the environment under the plan of *processor* whose thread is *thread*. Raises Refused."""
    environment = kernel.threads.living(thread)
    if not processor.has(environment):
        raise Refused(Refusal.BAD_SLICE, f"{environment.name} is not under processor {processor.number}")
    return environment


def _check_slice(microseconds: int) -> int:
    if not MIN_SLICE_US <= microseconds <= MAX_SLICE_US:
        raise Refused(Refusal.BAD_SLICE, f"{microseconds} us is not in {MIN_SLICE_US}..{MAX_SLICE_US}")
    return microseconds


def _plan(kernel: "Kernel", call: CallTo[traps.Plan, Processor]) -> None:
    processor = call.resource
    slices = call.trap.slices
    plan = [(_member(kernel, processor, s.thread), _check_slice(s.microseconds)) for s in slices]
    processor.install(call.caller, plan, call.trap.how)


def _migrate(kernel: "Kernel", call: CallTo[traps.Migrate, Resource]) -> "Steps[None] | None":
    if isinstance(call.resource, Processor):
        return _move(kernel, call, call.resource)
    if not isinstance(call.resource, Reservation):
        raise Refused(Refusal.WRONG_KIND, f"{call.resource.kind.name}, neither CPU nor RESERVATION")
    _bind(kernel, call, call.resource)
    return None


def _bind(kernel: "Kernel", call: CallTo[traps.Migrate, Resource], reservation: Reservation) -> None:
    """Have an environment run by *reservation*: the caller, one that it commands, or any for the scheduler."""
    reserved, environment = reservation.of, None
    if call.trap.thread:
        environment, caller = kernel.threads.living(call.trap.thread), call.caller
        if environment.cpu != reserved.number:
            raise Refused(Refusal.BAD_SLICE, f"{environment.name} is not under processor {reserved.number}")
        scheduler = kernel.processors[reserved.number].scheduler
        if caller not in (environment, scheduler) and not caller.commands(environment):
            raise Refused(Refusal.MISSING_RIGHT, f"{environment.name} is to bind itself: offer it a part")
    reserved.bind(reservation, environment)


def _move(kernel: "Kernel", call: CallTo[traps.Migrate, Resource], processor: Processor) -> "Steps[None]":
    thread = kernel.threads.known(call.trap.thread) or kernel.threads.find(call.trap.thread)
    if thread.environment.cpu != processor.number:
        _check_movable(thread.environment)
        yield from kernel.removal.move(thread.environment, processor)


def _check_movable(environment: "Environment") -> None:
    """Refuse a scheduler, which would wait for itself, and an attached program, which the host schedules."""
    if any(c.resource.kind is Kind.CPU and c.rights & Rights.CONTROL for c in environment.table):
        raise Refused(Refusal.BAD_SLICE, f"{environment.name} holds a processor")
    if environment.launched and not environment.body.owned:
        raise Refused(Refusal.BAD_SLICE, f"{environment.name} attached by itself: the host schedules it")


def _processor_control(kernel: "Kernel", call: Call[traps.ProcessorControl]) -> None:
    trap = call.trap
    if not call.caller.privileged:
        raise Refused(Refusal.NO_PRIVILEGE, call.caller.name)
    if trap.processor >= len(kernel.processors):
        raise Refused(Refusal.BAD_ARGUMENT, f"processor {trap.processor} of {len(kernel.processors)}")
    if trap.power == traps.Power.OFF:
        kernel.removal.take_out(kernel.processors[trap.processor])
    elif trap.power == traps.Power.ON:
        kernel.removal.put_back(kernel.processors[trap.processor])
    else:
        kernel.kip.show_processor(trap.processor, internal=trap.internal, external=trap.external)


def _expire(kernel: "Kernel", call: CallTo[traps.Expire, Processor]) -> None:
    """Send a thread's scheduler the preemption message of X.2: its total quantum is over.

    How much a thread may use is up to the author of the plans, and so is ending its slices. Only the kernel
    can speak for the thread, and reach a scheduler that the author of the plans may not call.
    """
    _member(kernel, call.resource, call.trap.thread)
    thread = kernel.threads.find(call.trap.thread)
    scheduler = kernel.threads.known(thread.scheduler)
    if scheduler is None or scheduler.environment is call.caller:
        return
    words = ((kernel.machine.clock.now() - kernel.kip.head(Head.BOOT_NS)) // 1000, 0)
    kernel.exposure.tell(
        scheduler.environment, Label.PREEMPTION, words, sender=thread.id, thread=scheduler.id
    )


HANDLERS: Handlers = {
    traps.ThreadSwitch: _thread_switch,
    traps.Plan: _plan,
    traps.Migrate: _migrate,
    traps.ProcessorControl: _processor_control,
    traps.Expire: _expire,
}
