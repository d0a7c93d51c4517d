"""Environments without a will: a test makes their traps, one after another, from outside.

A puppet is a real environment on the simulated machine whose program only waits. Its traps go through the
machine into the kernel at once, so a test is the schedule: what it writes down happens, in that order.
"""

import signal
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from hwmodel.failures import Failures
from hwmodel.simulated.bodies import SimulatedBody
from hwmodel.simulated.descriptors import KERNEL, SimulatedDescriptor
from hwmodel.simulated.mmu import is_bus_error
from kernel.abi.errors import Refusal
from kernel.abi.gate import Upcall
from kernel.abi.messages import STATUS_BIAS, Label
from kernel.abi.program import Program
from kernel.abi.topology import MachineConfig, Topology
from kernel.capability import Capability
from kernel.environment import Environment as KernelEnvironment
from libexo.attach import stand_on
from libexo.environment import Environment
from libexo.errors import GateClosed, TrapRefused
from libexo.host.simulated import SimulatedHost
from libexo.sys import Sys
from libexo.testing import LeakError, Outcome, System, Task, simulated
from libexo.testing.system import SMALL, Holding
from tests.kernel.invariants import violations

MS = 1_000_000
_UPCALL = msgspec.msgpack.Decoder(Upcall)


class Strings:
    """The ground of a puppet's host layer: its body, moved by the test instead of by a program."""

    def __init__(self, theatre: "Theatre", body: SimulatedBody) -> None:
        self._theatre = theatre
        self._body = body
        self._pipe = body.pipe
        self.number, self.name = body.number, body.name
        self.program: Program = body.program
        self.map, self.remap, self.unmap, self.mapping = body.map, body.remap, body.unmap, body.mapping
        self.address, self.place = body.address, body.place
        self.touch, self.unsee = body.touch, body.unsee
        self.ticket, self.bell, self.given, self.file = body.ticket, body.bell, body.given, body.file
        self.start_strand, self.consumed = body.start_strand, body.consumed

    @property
    def closed(self) -> bool:
        return self._body.closed

    def send(self, data: bytes, descriptors: Sequence[object] = ()) -> None:
        """Have the kernel take the packet now."""
        given = [d for d in descriptors if isinstance(d, SimulatedDescriptor)]
        for descriptor in given:
            descriptor.owner = KERNEL
        if self.closed:
            return
        self._pipe.to_kernel.append((data, given))
        self._theatre.machine._trap(self._body, self._theatre.supervisor)

    def receive(self) -> tuple[bytes, Sequence[object]] | None:
        return self._pipe.to_program.popleft() if self._pipe.to_program else None

    def arrived(self) -> bool:
        return self._body.arrived()

    def leave(self) -> None:
        self._body.leave()

    def wait(self, ready: Callable[[], bool], deadline: int | None) -> None:
        """Let everybody else go on until *ready* or *deadline*."""
        clock = self._theatre.machine.clock

        def over() -> bool:
            return ready() or (deadline is not None and clock.now() >= deadline)

        if self._theatre.machine.drive(self._theatre.supervisor, until=over, limit=deadline) is Outcome.IDLE:
            raise AssertionError(f"{self.name} waits for what will never come")

    def burn(self, nanoseconds: int) -> None:
        raise NotImplementedError

    def now(self) -> int:
        return self._theatre.machine.clock.now()


KILLED = (STATUS_BIAS - signal.SIGKILL, 0)
"""What PARTNER_GONE says of an environment that was killed, behind its thread."""


def unbound(receiver: "Puppet", token: bytes) -> tuple[Label, tuple[int, ...]]:
    """Return what the sender is told when the one binding of *token* was ended."""
    return Label.UNBOUND, (receiver.thread, *struct.unpack("<QQ", token))


class Puppet:
    """One environment, and its libexo."""

    def __init__(self, theatre: "Theatre", task: Task) -> None:
        self.task = task
        self.environment, self.body, self.handles = task.environment, task.body, task.handles
        self.transport = theatre.system.hub.transport()
        self.body.dying.append(self.transport.close)
        self.host = SimulatedHost(Strings(theatre, self.body), self.transport, theatre.system.hub.ready)
        self.gate = self.host.gate
        self.sys = Sys(self.gate, self.host.close_descriptor)
        self._env: Environment | None = None

    @property
    def name(self) -> str:
        return self.environment.name

    @property
    def thread(self) -> int:
        return self.environment.thread

    @property
    def env(self) -> Environment:
        """The library OS on top of it, attached when first asked for."""
        self._env = self._env or stand_on(self.host)
        return self._env

    @property
    def alive(self) -> bool:
        return self.environment.alive

    @property
    def caps(self) -> list[Capability]:
        """The capabilities in its table, in slot order."""
        return list(self.environment.table)

    def connect(self, address: str) -> None:
        """Connect to the end point of a binding, and no more."""
        self.task._system.hub.connected(address)

    def upcalls(self) -> list[Upcall]:
        """The kernel's upcalls since the last time."""
        return [_UPCALL.decode(data[1:]) for data in self.gate.upcalls()]

    def told(self) -> list[tuple[Label, tuple[int, ...]]]:
        """The same, as label and words."""
        return [(Label(upcall.label), upcall.words) for upcall in self.upcalls()]

    def raw(self, data: bytes, descriptors: Sequence[object] = ()) -> bytes | None:
        """Send any bytes; return the answer, or None when the caller was ended for it."""
        try:
            answer, given = self.gate.trap(data, descriptors)
        except GateClosed:
            return None
        for descriptor in given:
            self.host.close_descriptor(descriptor)
        return answer

    def kill(self) -> None:
        self.body.kill()


class Theatre:
    """A booted kernel and its puppets."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.machine, self.kernel, self.supervisor = system.machine, system.kernel, system.supervisor
        self.puppets: list[Puppet] = []
        self._servers = list(self.kernel.environments)
        system.hub.connected = self.connect

    def puppet(
        self,
        name: str = "",
        *,
        cpu: int = -1,
        holds: Sequence[Holding] = (),
        may_bind: Sequence[int] = (),
        keeps: bool = False,
        work: Callable[[SimulatedBody], object] | None = None,
    ) -> Puppet:
        """Start one; *work* is what its program does, instead of waiting."""
        spawn = self.system.spawn
        task = spawn(wait_for_ever, name, cpu=cpu, holds=holds, may_bind=may_bind, keeps=keeps, paged=True)
        return self._animate(task, work or idle)

    def heir(self, puppet: Puppet) -> Puppet:
        """Start the successor of one that ended."""
        succeed = self.kernel.environments.succeed
        task = Task(self.system, succeed(puppet.environment, puppet.body.program))
        return self._animate(task, idle)

    def of(self, environment: KernelEnvironment) -> Puppet:
        """Return a puppet for an environment that somebody created just now."""
        return self._animate(Task(self.system, environment), idle)

    def _animate(self, task: Task, does: Callable[[SimulatedBody], object]) -> Puppet:
        body = task.body
        body.entry = lambda: does(body)
        self.settle()
        self.puppets.append(Puppet(self, task))
        return self.puppets[-1]

    def pair(self, *, holds: Sequence[Holding] = ("ram",)) -> tuple[Puppet, Puppet]:
        """Start two; the first holds what *holds* says."""
        return self.puppet("a", holds=holds), self.puppet("b")

    def connect(self, address: str) -> None:
        """Connect a sender to the end point at *address*: kernel and receivers learn of it at once."""
        self.machine.connect(address)
        self.machine.virtual.ring()
        for env in [puppet._env for puppet in self.puppets if puppet._env is not None]:
            for thread in env.threads.values():
                thread.core.bound()

    def settle(self) -> None:
        """Let happen what can happen now."""
        self.machine.drive(self.supervisor, limit=self.machine.clock.now())

    def pass_time(self, milliseconds: float) -> None:
        """Let virtual time pass."""
        end = self.machine.clock.now() + int(milliseconds * MS)
        self.machine.clock.alarm(end, lambda: None)
        self.machine.drive(self.supervisor, until=lambda: self.machine.clock.now() >= end, limit=end)

    def kill(self, *puppets: Puppet) -> None:
        for puppet in puppets:
            puppet.kill()
        self.settle()

    def check(self) -> None:
        """Raise LeakError unless every invariant of the kernel holds."""
        if found := violations(self.kernel, self.machine):
            raise LeakError("\n  ".join(["broken invariants:", *found]))

    def end(self) -> None:
        """End every puppet: then nothing is left."""
        self.check()
        for environment in self.kernel.environments:
            if environment not in self._servers and environment.alive:
                self.kernel.environments.kill(environment)
        self.settle()
        for puppet in self.puppets:
            puppet.transport.close()
        self.check()


def idle(body: SimulatedBody) -> None:
    """Wait for ever."""
    body.wait(lambda: False, None)


def wait_for_ever(env: Environment) -> None:
    """Be the program of those that a test does not move."""
    env.host.wait((), None)


def ram_of(frames: int) -> Topology:
    """A machine with that many frames, and no servers."""
    return Topology(MachineConfig(memory=f"{4 * frames} KiB"))


@contextmanager
def theatre(
    topology: Topology = SMALL, *, seed: int = 0, failures: Failures | None = None
) -> Iterator[Theatre]:
    """Boot; at the end every invariant holds, and with the puppets everything they had is gone."""
    with simulated(topology, seed=seed, failures=failures) as system:
        made = Theatre(system)
        made.settle()
        before = system.ledger()
        yield made
        made.end()
        before.check(system.ledger())


def faults(view: memoryview) -> bool:
    """Say whether touching *view* ends as SIGBUS ends a program."""
    try:
        bytes(view[:1])
    except ValueError as error:
        return is_bus_error(error)
    return False


def refusal(trap: Callable[..., object], *arguments: object, **named: object) -> Refusal | int:
    """Return what the kernel refuses the trap with."""
    try:
        trap(*arguments, **named)
    except TrapRefused as refused:
        return refused.refusal
    raise AssertionError("the kernel did not refuse")
