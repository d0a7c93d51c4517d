"""The simulated machine: the same kernel, servers and programs, in one process, from a seed.

Its loop does one thing at a time: of everything that could happen next (a trap that waits in a gate, a
strand that could go on, news of a start or an end) the chooser picks one. When nothing can happen, time
jumps to the next alarm, deadline or end of a computation; if there is none, the machine is idle. Every body
outside a plan has a processor to itself; under a plan it computes while it is resumed.
"""

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from functools import partial
from typing import NamedTuple

from hwmodel.failures import FailureKind, Failures
from hwmodel.interrupts import MILLISECOND, InterruptController, Ticker
from hwmodel.machine import Clock, Deed, Descriptor, Exhausted, Interrupts, Memory, Page, Supervisor, do
from hwmodel.simulated.bodies import SimulatedBody
from hwmodel.simulated.calls import HostCalls
from hwmodel.simulated.clock import VirtualClock
from hwmodel.simulated.descriptors import (
    ConsoleTarget,
    FileTarget,
    Ledger,
    SimulatedDescriptor,
    TicketTarget,
    WaitTarget,
)
from hwmodel.simulated.endpoint import SimulatedEndpoint
from hwmodel.simulated.memory import SimulatedMemory, SimulatedPage
from hwmodel.simulated.programs import Entry, NoProgramError, Serve, resolve
from hwmodel.simulated.strands import Strand
from hwmodel.simulated.switches import SimulatedSwitches
from kernel.abi.errors import Fault
from kernel.abi.limits import MAX_TRAP_BYTES
from kernel.abi.program import Program, ProgramKind
from kernel.abi.topology import Topology

STUCK_SECONDS = 60.0
"""Real time after which a strand that holds the baton counts as stuck in an endless loop."""
FIRST_UID = 100_000
FIRST_PID = 1_000
SECRET = b"\x5e" * 32
"""The same for every seed: nobody has a reason to guess it."""

Chooser = Callable[[int], int]
"""Chooser: from the number of things that could happen next (at least 2) to the index of the one that does."""
Enter = Callable[[SimulatedBody], AbstractContextManager[object]]
"""From a body to the context of its program, in its thread."""


class Outcome(Enum):
    """The reason why `drive` returned."""

    STOPPED = "stopped"
    """`stop` was called."""
    DONE = "done"
    """The condition holds."""
    IDLE = "idle"
    """Nothing can ever happen again by itself."""
    LIMIT = "limit"
    """The time is up."""


class Happening(NamedTuple):
    """One entry of the trace: an action of the machine, its environment, and its time."""

    time: int
    what: str
    number: int


class SimulatedMachine:
    """One machine. Implements `hwmodel.machine.Machine`."""

    def __init__(
        self,
        topology: Topology | None = None,
        *,
        seed: int = 0,
        choose: Chooser | None = None,
        failures: Failures | None = None,
        enter: Enter | None = None,
        serve: Serve | None = None,
    ) -> None:
        """Make the machine *topology* describes; *enter* wraps every program, in its thread."""
        config = (topology or Topology()).machine
        self.virtual = VirtualClock()
        self.clock: Clock = self.virtual
        self.failures = failures or Failures()
        self.calls = HostCalls(self.failures)
        self.ledger = Ledger(self.calls)
        self.ram = SimulatedMemory(config.frames(), self.ledger)
        self.memory: Memory = self.ram
        self.interrupts: Interrupts = InterruptController()
        self.grace: float | None = None
        self.uid = 0
        self.pid = FIRST_PID
        self.secret = SECRET
        self.programs: dict[str, Entry] = {}
        """Functions by the argv[0] that starts them."""
        self.published: dict[str, Page] = {}
        self.endpoints: dict[str, SimulatedEndpoint] = {}
        """End points that were neither taken nor removed, by name."""
        self.bodies: list[SimulatedBody] = []
        """Bodies that were not discarded, oldest first."""
        self.trace: list[Happening] = []
        """Everything that happened, in order: the same in two runs of one seed."""
        self.log: list[str] = []
        """Tracebacks of programs that raised."""
        self.endpoint_removed: Callable[[str], object] = lambda name: None
        """Called with the name of every end point that goes before it was taken: the transport drops its queue."""
        self.enter: Enter = enter or (lambda body: nullcontext())
        self._serve = serve
        self.records: list[SimulatedSwitches] = []
        """Of the switches of each core."""
        self._cores = tuple(range(len(config.cpus)))
        self._choose = choose or random.Random(f"{seed}/choices").randrange
        self._entropy = random.Random(f"{seed}/tokens")
        self._baton = threading.Lock()
        self._baton.acquire()
        self._news: deque[tuple[str, SimulatedBody, Callable[[Supervisor], None]]] = deque()
        self._soon: deque[Callable[[], None]] = deque()
        self._deeds: deque[tuple[Deed, Callable[[Exhausted | None], None]]] = deque()
        self._pids = FIRST_PID
        self._names = 0
        self._launches: dict[int, int] = {}
        self._stopping = False
        if config.tick_ms:
            Ticker(self.clock, self.interrupts, config.tick_ms * MILLISECOND)

    # ----------------------------------------------------------------------------------- what the kernel asks

    @property
    def cores(self) -> Sequence[int]:
        """The core of each processor."""
        return self._cores

    def switches(self, core: int) -> SimulatedSwitches:
        """Return the record of the switches of *core*."""
        self.records.append(record := SimulatedSwitches(self.virtual))
        return record

    @property
    def frequencies(self) -> Sequence[tuple[int, int]]:
        """Return zeros: a simulated processor has no frequency, its program says how long it computes."""
        return ((0, 0),) * len(self._cores)

    def soon(self, callback: Callable[[], None]) -> None:
        """Call *callback* in one of the next steps, which the chooser picks."""
        self._soon.append(callback)

    def late(self) -> bool:
        """Return False: a step takes no time."""
        return False

    def measure(self, turns: memoryview) -> None:
        """Write nothing: a step takes no time."""

    def work(self, deed: Deed, done: Callable[[Exhausted | None], None]) -> None:
        """Do *deed* in a step of its own, in any order with other deeds, then call *done*."""
        self._deeds.append((deed, done))

    def spare(self) -> None:
        """Do nothing, unless it is made to fail: there are descriptors enough."""
        self.calls.make("getrlimit")

    def file(self, path: str, size: int = 0) -> SimulatedDescriptor:
        """Return a descriptor of *size* bytes: what a simulated program runs is in `programs`."""
        return SimulatedDescriptor(self.ledger, FileTarget(path, size, self.calls))

    def page(self, name: str, size: int) -> SimulatedPage:
        """Return zeroed memory of the kernel."""
        return SimulatedPage(name, size, self.ledger)

    def publish(self, name: str, page: Page) -> None:
        """Keep *page*, for all to read."""
        self.published[name] = page

    def endpoint(self, connected: Callable[[], None]) -> SimulatedEndpoint:
        """Return a new listening socket."""
        self.calls.make("socket", "bind", "rename", "listen")
        self._names += 1
        endpoint = SimulatedEndpoint(self, f"endpoint-{self._names}", connected)
        self.endpoints[endpoint.name] = endpoint
        return endpoint

    def connect(self, name: str) -> bool:
        """Connect to the end point of that name. False: it is unknown, or taken."""
        endpoint = self.endpoints.get(name)
        return endpoint is not None and endpoint.connect()

    def console(self) -> SimulatedDescriptor:
        """Return the listening socket that operators connect to."""
        self.calls.make("socket", "bind", "listen")
        return SimulatedDescriptor(self.ledger, ConsoleTarget())

    def ticket(self) -> tuple[SimulatedDescriptor, SimulatedDescriptor]:
        """Return a new ticket, for two parties."""
        self.calls.make("pipe2", "fcntl", "open")
        target = TicketTarget()
        return SimulatedDescriptor(self.ledger, target), SimulatedDescriptor(self.ledger, target)

    def bell(self) -> tuple[SimulatedDescriptor, SimulatedDescriptor]:
        """Return both ends of a new doorbell: to wait on, and to ring."""
        self.calls.make("pipe2", "fcntl")
        waiter = WaitTarget()
        return SimulatedDescriptor(self.ledger, waiter), SimulatedDescriptor(self.ledger, waiter.ringer)

    def token(self) -> bytes:
        """Return 16 bytes that the seed decides, the first not zero."""
        return bytes([self._entropy.randint(1, 255)]) + self._entropy.randbytes(15)

    def launch(
        self,
        number: int,
        name: str,
        program: Program,
        descriptors: Sequence[Descriptor],
        *,
        cpu: int,
        urgent: bool = False,
    ) -> SimulatedBody:
        """Start a program as environment *number*. Raises Exhausted: then the descriptors stay the caller's."""
        self.calls.make("socketpair")
        body = SimulatedBody(self, number, name, _nothing, program=program, uid=FIRST_UID + number)
        body.paused = cpu >= 0
        body.core = self._cores[cpu] if cpu >= 0 else -1
        body.give([d for d in descriptors if isinstance(d, SimulatedDescriptor)])
        self.bodies.append(body)
        self._launches[number] = self._launches.get(number, 0) + 1
        if self.failures.due(FailureKind.FAIL_LAUNCH, number, self._launches[number]):
            self._fail(body, "a failure was injected")
            return body
        try:
            body.entry = resolve(program, name, self.programs, self._serve)
        except NoProgramError as error:
            self._fail(body, str(error))
        else:
            self._news.append(("start", body, lambda supervisor: self._start(body, supervisor)))
        return body

    def attach(self, name: str, entry: Entry, *, uid: int) -> SimulatedBody:
        """Start a program beside the kernel; its first packet names it, and the host gives its *uid*."""
        program = Program(kind=ProgramKind.PYTHON, argv=(name,))
        body = SimulatedBody(self, -1, name, entry, program=program, owned=False, uid=uid)
        self.bodies.append(body)
        self._pids += 1
        body.start(self._pids)
        return body

    def open_descriptors(self) -> list[SimulatedDescriptor]:
        """Return every open descriptor, oldest first, for leak tests."""
        return self.ledger.all()

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping = True

    def _stopped(self) -> bool:
        return self._stopping

    def close(self) -> None:
        """End every body and forget everything."""
        for body in self.bodies:
            body.kill()
        for body in self.bodies:
            while body.pid and body.strands:
                body.strands[0].lend_baton()
            body.finish()
        self.bodies.clear()
        self._news.clear()
        self._soon.clear()
        self._deeds.clear()
        for descriptor in self.ledger.all():
            descriptor.close()

    # ----------------------------------------------------------------------------------- the loop

    def run(self, supervisor: Supervisor) -> None:
        """Run until `stop`, or until the machine is idle."""
        self.drive(supervisor)

    def drive(
        self, supervisor: Supervisor, *, until: Callable[[], bool] | None = None, limit: int | None = None
    ) -> Outcome:
        """Run until *until* holds, the clock reaches *limit*, `stop` is called, or nothing is left to do."""
        self._stopping = False
        while not self._stopped():
            self.virtual.ring()
            if until is not None and until():
                return Outcome.DONE
            if self._stopped():
                break
            if not self._step(supervisor) and (end := self._jump(limit)) is not None:
                return end
        return Outcome.STOPPED

    def _step(self, supervisor: Supervisor) -> bool:
        """Do one of the things that could happen now. False: there is none."""
        choices = self._choices(supervisor)
        if not choices:
            return False
        what, number, act = choices[self._choose(len(choices)) if len(choices) > 1 else 0]
        self.trace.append(Happening(self.clock.now(), what, number))
        act()
        return True

    def _choices(self, supervisor: Supervisor) -> list[tuple[str, int, Callable[[], None]]]:
        now = self.clock.now()
        choices: list[tuple[str, int, Callable[[], None]]]
        choices = [
            (w, body.number, lambda: self._news.popleft()[2](supervisor)) for w, body, _ in self._news
        ][:1]
        choices += [("job", -1, self._go_on)][: len(self._soon)]
        choices += [("deed", -1, partial(self._do, each)) for each in self._deeds]
        for body in self.bodies:
            if body.pipe.to_kernel and not body.pipe.held:
                choices.append(("trap", body.number, partial(self._trap, body, supervisor)))
            if body.table.faults:
                choices.append(("fault", body.number, partial(self._fault, body, supervisor)))
        for body in self.bodies:
            choices += [("run", body.number, partial(self._run, body, s)) for s in body.runnable(now)]
        return choices

    def _go_on(self) -> None:
        self._soon.popleft()()

    def _do(self, deed: tuple[Deed, Callable[[Exhausted | None], None]]) -> None:
        """Do a deed, all its pieces at once."""
        self._deeds.remove(deed)
        steps, done = deed
        try:
            do(steps)
        except Exhausted as exhausted:
            done(exhausted)
        else:
            done(None)

    def _jump(self, limit: int | None) -> Outcome | None:
        """Move the clock to the next time at which something can happen, if there is one before *limit*."""
        now = self.clock.now()
        times = [self.virtual.next(), *(body.next_event(now) for body in self.bodies)]
        known = [time for time in times if time is not None]
        if not known:
            return Outcome.IDLE
        if limit is not None and min(known) > limit:
            self.pass_time(limit)
            return Outcome.LIMIT
        self.pass_time(min(known))
        return None

    def _run(self, body: SimulatedBody, strand: Strand) -> None:
        strand.lend_baton()
        if body.status is not None:
            self._collect(body, body.status)

    def _collect(self, body: SimulatedBody, status: int) -> None:
        """Take back what *body* had; tell the kernel, unless it ended the body itself or does not listen to it."""
        body.finish()
        if body.discarded:
            self.bodies.remove(body)
        elif body.owned or not body.killer:
            self._news.append(("end", body, lambda supervisor: supervisor.ended(body, status)))

    def _trap(self, body: SimulatedBody, supervisor: Supervisor) -> None:
        data, descriptors = body.pipe.to_kernel.popleft()
        if len(data) > MAX_TRAP_BYTES:
            for descriptor in descriptors:
                descriptor.close()
            supervisor.broke(body, Fault.TOO_LONG, "")
        elif body.owned or body.attached:
            supervisor.trap(body, data, list(descriptors))
        else:
            body.attached = True
            supervisor.attached(body, data)

    def _fault(self, body: SimulatedBody, supervisor: Supervisor) -> None:
        supervisor.faulted(body, body.table.faults.popleft())

    def _start(self, body: SimulatedBody, supervisor: Supervisor) -> None:
        if body.status is None:
            self._pids += 1
            body.start(self._pids)
            supervisor.started(body)

    def _fail(self, body: SimulatedBody, reason: str) -> None:
        body.status = 1
        body.finish()
        self._news.append(("fail", body, lambda supervisor: supervisor.failed(body, reason)))

    # ----------------------------------------------------------------------------------- what bodies call

    def pass_time(self, to: int) -> None:
        """Move the clock, and account the time to every body that computes."""
        passed = max(0, to - self.clock.now())
        for record in self.records:
            record.write()
        for body in self.bodies:
            body.compute(passed)
        self.virtual.advance(to)

    def handed_over(self, body: SimulatedBody) -> None:
        """Inject the failures that are due at this handover of *body*."""
        if self.failures.due(FailureKind.DROP_PORT, body.number, body.handovers):
            body.pipe.cut = True
            body.pipe.drain()
        if self.failures.due(FailureKind.KILL, body.number, body.handovers):
            body.kill()

    def never_ran(self, body: SimulatedBody) -> None:
        """End *body*, which was killed before its start, without running it."""
        body.status = -body.killer
        self._collect(body, body.status)

    def give_baton(self) -> None:
        """Give the baton, which the calling strand has, back to the loop."""
        self._baton.release()

    def await_baton(self, strand: Strand) -> None:
        """Wait until *strand* gives it back."""
        if not self._baton.acquire(timeout=STUCK_SECONDS):
            raise RuntimeError(f"{strand!r} does not hand over: a program that computes must call burn")

    def forget(self, body: SimulatedBody) -> None:
        """Forget *body*, once it has ended; end one that the machine started."""
        body.discarded = True
        if body.status is None:
            if body.owned:
                body.kill()
        elif body in self.bodies:
            self.bodies.remove(body)


def _nothing() -> None:
    """Stand in for a program until it is resolved."""
