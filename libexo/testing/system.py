"""A whole system in one process: the real kernel on the simulated machine, and programs as functions.

    with simulated(seed=7) as system:
        server = system.spawn(lambda env: serve(CounterServer(), "counter", env), "counter")
        client = system.spawn(lambda env: Counter.connect(env, "counter").add(2))
        system.run(until=client)
        assert client.result == 2

Everything that can vary follows from the seed; `system.trace` is the resulting order. When the system is
closed, frames are counted, and nothing may be left open on the machine.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from hwmodel.failures import Failures
from hwmodel.simulated.bodies import SimulatedBody
from hwmodel.simulated.machine import Chooser, Happening, Outcome, SimulatedMachine
from kernel.abi.ids import show_thread
from kernel.abi.program import Program, ProgramKind
from kernel.abi.topology import MachineConfig, Topology
from kernel.boot import Loader, boot
from kernel.capability import Capability, Resource, give
from kernel.environment import Environment as KernelEnvironment
from kernel.frames import Ram
from kernel.programs import Factory
from libexo.attach import attach
from libexo.environment import Environment
from libexo.host import current
from libexo.host.simulated import SimulatedHost
from libexo.stub import Interface, serve
from libexo.testing.carriers import Carrier, carriers
from libexo.testing.ledger import LeakError, Ledger
from libexo.transport.base import Transport

SECOND = 1_000_000_000
LIMIT = 60.0
"""Virtual seconds that `run` gives the programs by default."""
SMALL = Topology(MachineConfig(memory="1 MiB"))
"""256 frames, one processor, no servers."""

Holding = Literal["ram", "cpus", "factory", "interrupts"]
Function = Callable[[Environment], object]
Wrap = Callable[[Transport, SimulatedMachine], Transport]


class NotFinished(AssertionError):
    """A program was asked for its result, but it has not ended."""


class Task:
    """One program of a test."""

    def __init__(self, system: "System", environment: KernelEnvironment) -> None:
        """Stand for the program of *environment*."""
        body = environment.body
        assert isinstance(body, SimulatedBody)
        self.body = body
        self.environment = environment
        """The kernel's own record."""
        self.handles: list[int] = []
        """Handles of the capabilities the test gave it, in order."""
        self._system = system

    def __repr__(self) -> str:
        """Show name and state."""
        return f"<Task {self.name} {'running' if self.status is None else f'ended: {self.status}'}>"

    @property
    def name(self) -> str:
        """The name it is published under."""
        return self.environment.name

    @property
    def thread(self) -> int:
        """Its thread id."""
        return self.environment.thread

    @property
    def status(self) -> int | None:
        """Its exit status, as of a process; None: it has not ended."""
        return self.body.status

    @property
    def ended(self) -> bool:
        """Whether it ended, and the kernel has cleaned up after it."""
        return self.environment.over

    @property
    def error(self) -> BaseException | None:
        """The exception that ended it, or else one of another strand."""
        return self.body.error or next(iter(self.body.strand_errors), None)

    @property
    def result(self) -> object:
        """Its return value. Raises its exception, or NotFinished."""
        if self.error is not None:
            raise self.error
        if self.status != 0:
            waits = self.status is None
            raise NotFinished(f"{self!r} has no result: it {'has not ended' if waits else 'was ended'}")
        return self.body.result

    def kill(self) -> None:
        """End it, as the kernel does."""
        self.body.kill()


class System:
    """A booted kernel and its programs."""

    def __init__(self, machine: SimulatedMachine, loader: Loader, hub: Carrier, log: list[str]) -> None:
        """Drive *loader*'s kernel on *machine*."""
        self.machine = machine
        self.loader = loader
        self.kernel = loader.kernel
        self.supervisor = loader.supervisor
        self.hub = hub
        self.log = log
        """The kernel's lines for its operator."""
        self.tasks: list[Task] = []
        self._reported: set[int] = set()

    @property
    def now(self) -> float:
        """Virtual seconds since boot."""
        return self.machine.clock.now() / SECOND

    @property
    def trace(self) -> list[Happening]:
        """Everything that happened, in order."""
        return self.machine.trace

    def spawn(
        self,
        function: Function,
        name: str = "",
        *,
        cpu: int = -1,
        holds: Sequence[Holding] = (),
        may_bind: Sequence[int] = (),
        keeps: bool = False,
        paged: bool = False,
    ) -> Task:
        """Start *function* as a program of its own; its argument is its libexo environment.

        *holds* are capabilities to give it, as a server's in `system.toml`. Under a plan when *cpu* >= 0.
        One that is *paged* may have windows onto paged objects.
        """
        name = name or f"program-{len(self.tasks) + 1}"
        self.machine.programs[name] = lambda: function(attach())
        program = Program(kind=ProgramKind.PYTHON, argv=(name,), paged=paged)
        environment = self.kernel.environments.create(
            name, program, [], cpu=cpu, may_bind=frozenset(may_bind)
        )
        environment.keeps = keeps
        task = Task(self, environment)
        task.handles = [self.give(task, resource).handle for kind in holds for resource in self._things(kind)]
        self.tasks.append(task)
        return task

    def give(self, task: Task, resource: Resource) -> Capability:
        """Give *task* a first capability to *resource*, one of the kernel's objects."""
        return give(self.kernel.exposure, task.environment, resource)

    def _things(self, kind: Holding) -> Sequence[Resource]:
        things: dict[str, Sequence[Resource]] = {
            "ram": [Ram(0, self.kernel.frames.total)],
            "cpus": self.kernel.processors,
            "factory": [Factory()],
            "interrupts": self.kernel.interrupts.lines,
        }
        return things[kind]

    def run(
        self,
        *tasks: Task,
        until: Callable[[], bool] | None = None,
        seconds: float = LIMIT,
        errors: bool = True,
    ) -> Outcome:
        """Run until *tasks* (none named: all) have ended, or *until* holds, or nothing is left to do.

        At most for *seconds* of virtual time. With *errors*, exceptions of programs are raised here, once.
        """
        wanted = tasks or tuple(self.tasks)

        def finished() -> bool:
            return all(task.ended for task in wanted) if until is None else until()

        limit = self.machine.clock.now() + int(seconds * SECOND)
        outcome = self.machine.drive(self.supervisor, until=finished, limit=limit)
        if errors:
            self._raise_errors()
        return outcome

    def pass_time(self, seconds: float) -> None:
        """Let *seconds* of virtual time pass, whatever happens meanwhile."""
        end = self.machine.clock.now() + int(seconds * SECOND)
        self.machine.clock.alarm(end, lambda: None)
        self.machine.drive(self.supervisor, until=lambda: self.machine.clock.now() >= end)
        self._raise_errors()

    def ledger(self) -> Ledger:
        """Count what is held: frames, handles, descriptors, environments and their bindings."""
        living = [e for e in self.kernel.environments if e.alive]
        return Ledger.take(
            frames=self.machine.ram.frames_in_use(),
            handles=(f"{c!r}" for e in living for c in e.table),
            endpoints=self.machine.endpoints,
            descriptors=(f"{d.target.kind} of {d.owner}" for d in self.machine.open_descriptors()),
            bindings=(
                f"{e.name} to {show_thread(b.receiver.id)}" for e in living for b in e.outgoing.values()
            ),
            environments=(e.name for e in living),
            queues=(f"at {address}" for address in self.hub.queues()),
        )

    def check(self) -> None:
        """Raise LeakError unless the accounts of kernel and machine agree: free + carved = RAM."""
        frames, carved = self.kernel.frames, self.machine.ram.carved()
        if frames.free + carved != frames.total:
            raise LeakError(f"{frames.free} frames free + {carved} carved are not {frames.total}")

    def close(self) -> None:
        """End every program and the kernel; raise LeakError if anything remains."""
        self.check()
        self.loader.close()
        open_ = self.machine.open_descriptors()
        if open_ or self.hub.open_ends():
            raise LeakError(f"left open: {open_}, {self.hub.open_ends()} ends of bindings")

    def _raise_errors(self) -> None:
        """Raise the exceptions of programs since the last call: the first, with the others as notes."""
        failed = [t for t in self.tasks if t.error is not None and id(t) not in self._reported]
        self._reported.update(id(task) for task in failed)
        for other in failed[1:]:
            assert failed[0].error is not None
            failed[0].error.add_note(f"and {other.name} raised {other.error!r}")
        if failed and failed[0].error is not None:
            raise failed[0].error


@contextmanager
def simulated(
    topology: Topology = SMALL,
    *,
    seed: int = 0,
    choose: Chooser | None = None,
    failures: Failures | None = None,
    wrap: Wrap | None = None,
) -> Iterator[System]:
    """Boot the kernel on a simulated machine, and end it with the context.

    *choose* decides each step instead of the seed (see `explore`); *wrap* may put another transport, such as
    a faulty one, around every program's own.
    """
    hub = carriers[-1]()

    @contextmanager
    def enter(body: SimulatedBody) -> Iterator[None]:
        plain: Transport = hub.transport()
        body.dying.append(plain.close)
        transport = wrap(plain, machine) if wrap is not None else plain
        current.put(SimulatedHost(body, transport, hub.ready))
        try:
            yield
        finally:
            current.put(None)
            transport.close()

    machine = SimulatedMachine(
        topology, seed=seed, choose=choose, failures=failures, enter=enter, serve=_serve
    )
    machine.endpoint_removed, hub.connected = hub.forget, machine.connect
    log: list[str] = []
    system = System(machine, boot(machine, topology, log.append), hub, log)
    try:
        yield system
    except BaseException:
        system.machine.close()
        raise
    system.close()


def _serve(implementation: object, name: str) -> None:
    if not isinstance(implementation, Interface):
        raise TypeError(f"{implementation!r} is not a libexo.stub.Interface: it cannot be served")
    serve(implementation, name)


def burn(nanoseconds: int) -> None:
    """Compute for that long: the simulated machine's stand-in for a loop."""
    host = current.get()
    if not isinstance(host, SimulatedHost):
        raise TypeError("burn is for programs on the simulated machine")
    host.burn(nanoseconds)
