"""The traps on environments: create, destroy, signal; names, boot information, charges of servers."""

from typing import TYPE_CHECKING

from hwmodel.machine import Exhausted
from kernel.abi import traps
from kernel.abi.budget import CHARGEABLE, Item, default_limits, from_pairs
from kernel.abi.errors import Fault, Refusal
from kernel.abi.ids import FIRST_PROGRAM, NIL_HANDLE, NIL_THREAD, thread_number
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_ENVIRONMENTS, MAX_NAMES
from kernel.abi.rights import Rights
from kernel.budget import Budget
from kernel.capability import give
from kernel.dispatch import Call, CallTo, Handlers
from kernel.environment import Environment
from kernel.errors import Refused
from kernel.names import check_name
from kernel.programs import check_program

if TYPE_CHECKING:
    from kernel.jobs import Steps
    from kernel.kernel import Kernel

_LAST_SIGNAL = 64


def _environment_create(
    kernel: "Kernel", call: Call[traps.EnvironmentCreate]
) -> "traps.Created | Steps[traps.Created]":
    trap, creator = call.trap, call.caller
    check_program(trap.program, len(call.descriptors))
    creator.table.check_room(creator)
    if trap.succeeds != NIL_HANDLE:
        return _succeed_to(kernel, call)
    if trap.cpu >= len(kernel.processors):
        raise Refused(Refusal.BAD_ARGUMENT, f"processor {trap.cpu} of {len(kernel.processors)}")
    return _created(kernel, creator, _begin(kernel, call))


def _begin(kernel: "Kernel", call: Call[traps.EnvironmentCreate]) -> Environment:
    trap, name, peers = call.trap, check_name(call.trap.name), frozenset(call.trap.may_bind)
    part, create = _budget(kernel, call), kernel.environments.create
    try:
        return create(
            name, trap.program, call.descriptors, cpu=trap.cpu, may_bind=peers, keeps=trap.keeps, budget=part
        )
    except (Refused, Exhausted):
        part.end()
        raise


def _budget(kernel: "Kernel", call: Call[traps.EnvironmentCreate]) -> Budget:
    """Return the budget of the new environment: out of its payer's, or the system's. Raises Refused."""
    trap = call.trap
    try:
        wished = from_pairs(trap.limits)
    except ValueError as error:
        raise Refused(Refusal.BAD_ARGUMENT, str(error)) from None
    if trap.payer == NIL_THREAD:
        return Budget(trap.name, default_limits(server=False, wished=wished))
    costs = {Item.CHILDREN: 1}
    if trap.keeps:
        program = trap.program
        texts = (*program.argv, *(text for pair in program.environ for text in pair))
        costs |= {Item.RESTARTS: 1, Item.KEPT: sum(len(text.encode(errors="replace")) for text in texts)}
    return kernel.threads.living(trap.payer).budget.divide(trap.name, wished, costs)


def _succeed_to(kernel: "Kernel", call: Call[traps.EnvironmentCreate]) -> "Steps[traps.Created]":
    """Start a successor, once the end of its predecessor is complete."""
    dead, trap = _predecessor(call), call.trap
    while not dead.over:
        yield dead.ended
    call.caller.table.check_room(call.caller)
    dead = _predecessor(call)
    heir = kernel.environments.succeed(dead, trap.program, call.descriptors, trap.back)
    return _created(kernel, call.caller, heir)


def _created(kernel: "Kernel", creator: Environment, environment: Environment) -> traps.Created:
    return traps.Created(give(kernel.exposure, creator, environment).handle, environment.thread)


def _predecessor(call: Call[traps.EnvironmentCreate]) -> Environment:
    """Return the environment that the trap names to be succeeded. Raises Refused."""
    capability = call.caller.table.lookup(call.trap.succeeds)
    dead = capability.resource
    if not isinstance(dead, Environment):
        raise Refused(Refusal.WRONG_KIND, f"handle {call.trap.succeeds:#x} names no environment")
    if not capability.rights & Rights.CONTROL:
        raise Refused(Refusal.MISSING_RIGHT, f"handle {call.trap.succeeds:#x} only watches")
    if dead.alive or not dead.keeps:
        raise Refused(Refusal.STILL_ALIVE, f"{dead.name} lives, or left nothing to a successor")
    return dead


def _living(
    call: CallTo[traps.EnvironmentDestroy, Environment] | CallTo[traps.EnvironmentSignal, Environment],
) -> Environment:
    if not call.resource.alive:
        raise Refused(Refusal.GONE, call.resource.name)
    return call.resource


def _environment_destroy(kernel: "Kernel", call: CallTo[traps.EnvironmentDestroy, Environment]) -> None:
    environment, trap = _living(call), call.trap
    if not trap.fault:
        kernel.environments.kill(environment)
        return
    kernel.exposure.count(Counter.UNRESPONSIVE)
    kernel.environments.fault(environment, Fault(trap.fault), trap.text)


def _environment_signal(_kernel: "Kernel", call: CallTo[traps.EnvironmentSignal, Environment]) -> None:
    if not 1 <= call.trap.signal <= _LAST_SIGNAL:
        raise Refused(Refusal.BAD_ARGUMENT, f"signal {call.trap.signal}")
    _living(call).body.signal(call.trap.signal)


def _name_publish(kernel: "Kernel", call: Call[traps.NamePublish]) -> None:
    name, thread, kip = check_name(call.trap.name), call.trap.thread, kernel.kip
    if not thread:
        kip.publish(name, 0)
        return
    environment = kernel.threads.living(thread)
    if kip.owner(name) == thread:
        return
    if name != environment.name or environment.first.id != thread:
        kernel.environments.names.check_free(name)
    if len(kip.payers) >= MAX_NAMES - MAX_ENVIRONMENTS:
        raise Refused(
            Refusal.TABLE_FULL, f"{len(kip.payers)} names are published beside those of environments"
        )
    environment.budget.charge(Item.NAMES)
    kip.publish(name, thread)
    kip.payers[name] = environment.budget


def _boot_info(kernel: "Kernel", call: Call[traps.BootInfo]) -> traps.Booted:
    call.gives.append(kernel.machine.console())
    return kernel.boot_info


def _charge(kernel: "Kernel", call: Call[traps.Charge]) -> None:
    trap, server = call.trap, call.caller
    if thread_number(server.thread) >= FIRST_PROGRAM and not server.privileged:
        raise Refused(Refusal.NO_PRIVILEGE, f"{server.name} is no server of the topology")
    if trap.item not in CHARGEABLE:
        raise Refused(Refusal.BAD_ARGUMENT, f"item {trap.item}: servers hold none of it for others")
    budget, key = kernel.threads.living(trap.thread).budget, (server, Item(trap.item))
    more = trap.amount - budget.charges.get(key, 0)
    if more > 0:
        budget.check(key[1], more)
    budget.hold(key[1], more)
    budget.charges[key] = trap.amount
    if not trap.amount:
        del budget.charges[key]


HANDLERS: Handlers = {
    traps.EnvironmentCreate: _environment_create,
    traps.EnvironmentDestroy: _environment_destroy,
    traps.EnvironmentSignal: _environment_signal,
    traps.NamePublish: _name_publish,
    traps.BootInfo: _boot_info,
    traps.Charge: _charge,
}
