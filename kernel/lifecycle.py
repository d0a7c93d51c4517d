"""The traps on environments: create, destroy, signal, name."""

from typing import TYPE_CHECKING

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.ids import NIL_HANDLE
from kernel.abi.limits import MAX_NAME
from kernel.abi.program import Program, ProgramKind, Role
from kernel.abi.rights import Kind, Rights
from kernel.capability import give
from kernel.dispatch import Call, handles
from kernel.environment import Environment
from kernel.errors import Refused
from kernel.thing import Lasting

if TYPE_CHECKING:
    from kernel.jobs import Steps
    from kernel.kernel import Kernel

_LAST_SIGNAL = 64


class Factory(Lasting):
    """The right to create environments and to publish names."""

    kind = Kind.FACTORY


def check_name(name: str) -> str:
    """Return *name* if it can be one. Raises Refused."""
    if not name or len(name.encode()) > MAX_NAME or not name.isprintable() or name != name.strip():
        raise Refused(Refusal.BAD_ARGUMENT, f"{name!r} is no name: 1..{MAX_NAME} printable bytes")
    return name


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
    environment = kernel.environments.create(
        check_name(trap.name),
        trap.program,
        call.descriptors,
        cpu=trap.cpu,
        may_bind=frozenset(trap.may_bind),
        keeps=trap.keeps,
    )
    return _created(kernel, creator, environment)


def _succeed_to(kernel: "Kernel", call: Call[traps.EnvironmentCreate]) -> "Steps[traps.Created]":
    """Start a successor, once its predecessor's end is done with."""
    dead = _predecessor(call)
    while not dead.over:
        yield dead.ended
    call.caller.table.check_room(call.caller)
    return _created(kernel, call.caller, kernel.environments.succeed(_predecessor(call), call.trap.program))


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
    if call.descriptors:
        raise Refused(Refusal.BAD_DESCRIPTORS, "a successor starts with those of its predecessor")
    return dead


def _living(call: Call[traps.EnvironmentDestroy] | Call[traps.EnvironmentSignal]) -> Environment:
    environment = call.capability.thing
    assert isinstance(environment, Environment)
    if not environment.alive:
        raise Refused(Refusal.GONE, environment.name)
    return environment


@handles(traps.EnvironmentDestroy)
def _destroy(kernel: "Kernel", call: Call[traps.EnvironmentDestroy]) -> None:
    kernel.environments.kill(_living(call))


@handles(traps.EnvironmentSignal)
def _signal(_kernel: "Kernel", call: Call[traps.EnvironmentSignal]) -> None:
    if not 1 <= call.trap.signal <= _LAST_SIGNAL:
        raise Refused(Refusal.BAD_ARGUMENT, f"signal {call.trap.signal}")
    _living(call).body.signal(call.trap.signal)


@handles(traps.BootInfo)
def _boot_info(kernel: "Kernel", call: Call[traps.BootInfo]) -> bytes:
    call.gives.append(kernel.machine.console())
    return kernel.boot_info


@handles(traps.NamePublish)
def _publish(kernel: "Kernel", call: Call[traps.NamePublish]) -> None:
    name, thread = check_name(call.trap.name), call.trap.thread
    if not thread:
        kernel.kip.publish(name, 0)
        return
    kernel.threads.living(thread)
    if kernel.kip.owner(name) not in (0, thread):
        raise Refused(Refusal.NAME_TAKEN, name)
    kernel.kip.publish(name, thread)
