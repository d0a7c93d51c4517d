"""The traps on environments: create, destroy, signal."""

from typing import TYPE_CHECKING

from hwmodel.machine import Exhausted
from kernel.abi import traps
from kernel.abi.errors import Fault, Refusal
from kernel.abi.ids import NIL_HANDLE
from kernel.abi.kip import Counter
from kernel.abi.program import Program, ProgramKind, Role
from kernel.abi.rights import Kind, Rights
from kernel.budget import of_program
from kernel.capability import give
from kernel.dispatch import Call, handles
from kernel.environment import Environment
from kernel.errors import Refused
from kernel.names import check_name
from kernel.thing import Lasting

if TYPE_CHECKING:
    from kernel.jobs import Steps
    from kernel.kernel import Kernel

_LAST_SIGNAL = 64


class Factory(Lasting):
    """The right to create environments and to publish names."""

    kind = Kind.FACTORY


def check_program(program: Program, descriptors: int) -> None:
    """Refuse what the host could not start, or what does not fit the number of *descriptors*."""
    if program.kind not in tuple(ProgramKind) or not program.argv:
        raise Refused(Refusal.BAD_ARGUMENT, f"program kind {program.kind}, {len(program.argv)} arguments")
    if any("\0" in text for pair in program.environ for text in pair) or "\0" in "".join(program.argv):
        raise Refused(Refusal.BAD_ARGUMENT, "a null byte in the arguments or the environ")
    if any(not key or "=" in key for key, _ in program.environ):
        raise Refused(Refusal.BAD_ARGUMENT, "a name in the environ is empty or holds '='")
    known = all(role in tuple(Role) for role in program.roles)
    if len(program.roles) != descriptors or not known or len(set(program.roles)) != descriptors:
        raise Refused(Refusal.BAD_DESCRIPTORS, f"{descriptors} came, roles are {program.roles}")


@handles(traps.EnvironmentCreate)
def _create(kernel: "Kernel", call: Call[traps.EnvironmentCreate]) -> "traps.Created | Steps[traps.Created]":
    trap, creator = call.trap, call.caller
    check_program(trap.program, len(call.descriptors))
    creator.table.check_room(creator)
    if trap.succeeds != NIL_HANDLE:
        return _succeed_to(kernel, call)
    if trap.cpu >= len(kernel.processors):
        raise Refused(Refusal.BAD_ARGUMENT, f"processor {trap.cpu} of {len(kernel.processors)}")
    return _created(kernel, creator, _begin(kernel, call))


def _begin(kernel: "Kernel", call: Call[traps.EnvironmentCreate]) -> Environment:
    trap, name = call.trap, check_name(call.trap.name)
    budget = of_program(call, kernel)
    try:
        return kernel.environments.create(
            name,
            trap.program,
            call.descriptors,
            cpu=trap.cpu,
            may_bind=frozenset(trap.may_bind),
            keeps=trap.keeps,
            budget=budget,
        )
    except (Refused, Exhausted):
        budget.end()
        raise


def _succeed_to(kernel: "Kernel", call: Call[traps.EnvironmentCreate]) -> "Steps[traps.Created]":
    """Start a successor, once its predecessor's end is done with."""
    dead, trap = _predecessor(call), call.trap
    while not dead.over:
        yield dead.ended
    call.caller.table.check_room(call.caller)
    dead = _predecessor(call)
    heir = kernel.environments.succeed(dead, trap.program, call.descriptors, trap.back)
    return _created(kernel, call.caller, heir)


def _created(kernel: "Kernel", creator: Environment, environment: Environment) -> traps.Created:
    handle = give(kernel, creator, environment).handle
    return traps.Created(environment=handle, thread=environment.thread)


def _predecessor(call: Call[traps.EnvironmentCreate]) -> Environment:
    """Return whom the trap names to be succeeded. Raises Refused."""
    capability = call.caller.table.lookup(call.trap.succeeds)
    dead = capability.thing
    if not isinstance(dead, Environment):
        raise Refused(Refusal.WRONG_KIND, f"handle {call.trap.succeeds:#x} is to no environment")
    if not capability.rights & Rights.CONTROL:
        raise Refused(Refusal.MISSING_RIGHT, f"handle {call.trap.succeeds:#x} only watches")
    if dead.alive or not dead.keeps:
        raise Refused(Refusal.STILL_ALIVE, f"{dead.name} lives, or left nothing to a successor")
    return dead


def _living(call: Call[traps.EnvironmentDestroy] | Call[traps.EnvironmentSignal]) -> Environment:
    environment = call.capability.thing
    assert isinstance(environment, Environment)
    if not environment.alive:
        raise Refused(Refusal.GONE, environment.name)
    return environment


@handles(traps.EnvironmentDestroy)
def _destroy(kernel: "Kernel", call: Call[traps.EnvironmentDestroy]) -> None:
    environment, trap = _living(call), call.trap
    if not trap.fault:
        kernel.environments.kill(environment)
        return
    kernel.count(Counter.UNRESPONSIVE)
    kernel.environments.fault(environment, Fault(trap.fault), trap.text)


@handles(traps.EnvironmentSignal)
def _signal(_kernel: "Kernel", call: Call[traps.EnvironmentSignal]) -> None:
    if not 1 <= call.trap.signal <= _LAST_SIGNAL:
        raise Refused(Refusal.BAD_ARGUMENT, f"signal {call.trap.signal}")
    _living(call).body.signal(call.trap.signal)


@handles(traps.BootInfo)
def _boot_info(kernel: "Kernel", call: Call[traps.BootInfo]) -> traps.Booted:
    call.gives.append(kernel.machine.console())
    return kernel.boot_info
