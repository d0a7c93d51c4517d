"""The traps on processors: what a scheduler may have one do, and what no plan may hold."""

from typing import TYPE_CHECKING

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.limits import MAX_SLICE_US, MIN_SLICE_US
from kernel.abi.rights import Kind, Rights
from kernel.cpu import Processor
from kernel.dispatch import Call, handles
from kernel.errors import Refused

if TYPE_CHECKING:
    from kernel.environment import Environment
    from kernel.jobs import Steps
    from kernel.kernel import Kernel


def _check_slice(microseconds: int) -> int:
    if not MIN_SLICE_US <= microseconds <= MAX_SLICE_US:
        raise Refused(Refusal.BAD_SLICE, f"{microseconds} us is not in {MIN_SLICE_US}..{MAX_SLICE_US}")
    return microseconds


@handles(traps.ThreadSwitch)
def _switch(_kernel: "Kernel", call: Call[traps.ThreadSwitch]) -> None:
    trap, processor = call.trap, call.capability.thing
    assert isinstance(processor, Processor)
    if trap.giver:
        giver = processor.member(trap.giver)
        processor.give_up(call.caller, giver, processor.member(trap.thread) if trap.thread else None)
        return
    microseconds = _check_slice(trap.microseconds)
    processor.switch(call.caller, processor.member(trap.thread), microseconds)


@handles(traps.Plan)
def _plan(_kernel: "Kernel", call: Call[traps.Plan]) -> None:
    processor = call.capability.thing
    assert isinstance(processor, Processor)
    plan = [(processor.member(s.thread), _check_slice(s.microseconds)) for s in call.trap.slices]
    processor.install(call.caller, plan)


@handles(traps.Migrate)
def _migrate(kernel: "Kernel", call: Call[traps.Migrate]) -> "Steps[None]":
    processor = call.capability.thing
    assert isinstance(processor, Processor)
    thread = kernel.threads.known(call.trap.thread) or kernel.threads.find(call.trap.thread)
    environment = thread.environment
    if environment.cpu == processor.number:
        return
    _check_movable(environment)
    kernel.environments.check_plan(processor.number)
    if environment.launched:
        moving = environment.body.move(processor.core)
        if environment.pid:
            yield moving
        if not environment.alive or environment.cpu == processor.number:
            return
        kernel.environments.check_plan(processor.number)
        environment.body.pause()
    if environment.cpu >= 0:
        kernel.processors[environment.cpu].leave(environment)
    processor.receive(environment)


def _check_movable(environment: "Environment") -> None:
    """Refuse what no plan may hold: who writes plans would wait for itself; the host schedules who attached."""
    if any(c.thing.kind is Kind.CPU and c.rights & Rights.CONTROL for c in environment.table):
        raise Refused(Refusal.BAD_SLICE, f"{environment.name} holds a processor")
    if environment.launched and not environment.body.owned:
        raise Refused(Refusal.BAD_SLICE, f"{environment.name} attached by itself: the host schedules it")


@handles(traps.ProcessorControl)
def _control(kernel: "Kernel", call: Call[traps.ProcessorControl]) -> None:
    trap = call.trap
    if not call.caller.privileged:
        raise Refused(Refusal.NO_PRIVILEGE, call.caller.name)
    if trap.processor >= len(kernel.processors):
        raise Refused(Refusal.BAD_ARGUMENT, f"processor {trap.processor} of {len(kernel.processors)}")
    kernel.kip.show_processor(trap.processor, internal=trap.internal, external=trap.external)
