"""Bodies of the simulated machine: programs, each with what its host process would have.

A body's program runs in strands. One, the main strand, is there from the start, and the body ends with it, as a
process ends with its main thread. A kill takes effect where strands hand over: the next call into the host
raises Killed in each of them, and so does every later one while it unwinds. The strands of a body share its one
processor, as threads of a Python process do.
"""

import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from hwmodel.machine import AddressSpace, Deed, Port
from hwmodel.presence import Presence
from hwmodel.simulated.calls import HostCalls
from hwmodel.simulated.clock import VirtualClock
from hwmodel.simulated.descriptors import (
    KERNEL,
    Bell,
    FileTarget,
    Ledger,
    MemoryTarget,
    SimulatedDescriptor,
    TicketTarget,
    consume,
)
from hwmodel.simulated.mmu import Mapping, Part, is_bus_error, revoke, whole_frames
from hwmodel.simulated.paging import SimulatedSpace
from hwmodel.simulated.ports import Packet, SimulatedPort
from hwmodel.simulated.strands import Baton, Killed, Strand, compute, next_event
from kernel.abi.program import Activity, Program

STEP_NS = 1_000
"""CPU time of every trap and every wait."""
LOOK_NS = 100
"""CPU time of reading the clock."""
LOOKS_PER_STEP = 10
"""Readings of the clock without a step between that make a step: a program that spins on it lets others run."""
_IGNORED = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
_STOPPING = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


class World(Baton, Protocol):
    """The machine, as bodies see it."""

    virtual: VirtualClock
    calls: HostCalls
    ledger: Ledger
    log: list[str]
    """Tracebacks of programs that raised."""
    enter: "Callable[[SimulatedBody], AbstractContextManager[object]]"
    """Wraps every program, in its thread."""

    def pass_time(self, to: int) -> None:
        """Move the clock, and account the time to every body that computes."""

    def handed_over(self, body: "SimulatedBody") -> None:
        """Inject the failures that are due at this handover of *body*."""

    def never_ran(self, body: "SimulatedBody") -> None:
        """Note that *body* was killed before its start."""

    def forget(self, body: "SimulatedBody") -> None:
        """Forget *body*, once it has ended."""


class SimulatedBody:
    """One program on the machine: `hwmodel.machine.Body` to the kernel, the ground to its own host layer."""

    attached = False
    """Of a body that attached: its first packet was delivered."""
    discarded = False
    handovers = 0
    paused = False
    """The kernel has its processor."""
    stopped = False
    """A signal stopped it."""
    tracer = False
    """A debugger has it; a test sets this."""
    core = -1
    """Number of its processor; -1: it is under no plan."""
    presence: Presence | None = None
    killer = 0
    """The signal that ends it at its next handover."""

    def __init__(
        self,
        machine: World,
        number: int,
        name: str,
        entry: Callable[[], object],
        *,
        program: Program,
        owned: bool = True,
        uid: int = 0,
    ) -> None:
        """Make the body of environment *number*; `start` lets it run."""
        self._machine = machine
        self.number = number
        self.name = name
        self.program = program
        self.owned = owned
        self.uid = uid
        self.pid = 0
        self.holder = f"{number}:{name}"
        """Its name in the ledger of descriptors."""
        self.pipe = SimulatedPort(self.holder, machine.calls)
        self.port: Port = self.pipe
        self.error: BaseException | None = None
        """The exception that ended the program, if one did."""
        self.strand_errors: list[BaseException] = []
        """Exceptions that ended strands other than the main one, and only them."""
        self.result: object = None
        """The result of the program."""
        self.status: int | None = None
        """Its exit status, once it has ended."""
        self.handlers: dict[int, Callable[[], None]] = {}
        """Handler of signals that do not just end it."""
        self.dying: list[Callable[[], None]] = []
        """Called at its kill: closes what the host closes at once, while the program still unwinds."""
        self.entry = entry
        self.main = Strand(machine, self, self.holder, self._main)
        self.strands = [self.main]
        """Strands that have not ended, oldest first."""
        self.running = self.main
        """The strand that has the baton, or had it last."""
        self._outcome: int | None = None
        """Its exit status once its last strand is gone: decided when the main one ends."""
        self._used = 0
        self._is_stepping = False
        self._looks = 0
        self._mappings: list[Mapping] = []
        self.table = SimulatedSpace(machine.calls)
        self.space: AddressSpace | None = self.table if program.paged else None
        self._given: dict[int, SimulatedDescriptor] = {}

    def __repr__(self) -> str:
        return f"<body {self.holder} {'running' if self.status is None else self.status}>"

    # ----------------------------------------------------------------------------------- the kernel's side

    def pause(self) -> None:
        """Take its processor away until `resume`."""
        self.paused = True

    def resume(self) -> None:
        """Let it run."""
        self.paused = False

    def move(self, core: int) -> Deed:
        """Confine it to host *core*: only a number here."""
        self._machine.calls.make("sched_setaffinity")
        self.core = core
        return iter(())

    def signal(self, number: int) -> None:
        """Do what the host's signal does to a program without a handler."""
        if number in self.handlers:
            self.handlers[number]()
        elif number in _STOPPING:
            self.stopped = True
        elif number == signal.SIGCONT:
            self.stopped = False
        elif number not in _IGNORED:
            self._end(number)

    def kill(self) -> None:
        """End it, whatever it is doing."""
        self._end(signal.SIGKILL)

    def consumed(self) -> int:
        """Return the CPU time it used, in nanoseconds."""
        return self._used

    def activity(self) -> Activity:
        """The joint activity of its strands."""
        if self.stopped or self.paused:
            return Activity.STOPPED if self.stopped else Activity.RUNS
        now = self._machine.virtual.now()
        waits = self.status is not None or not any(s.remaining or s.awake(now) for s in self.strands)
        return Activity.WAITS if waits else Activity.RUNS

    def traced(self) -> bool:
        """Whether a debugger has it."""
        return self.tracer

    @property
    def halted(self) -> bool:
        """Whether it cannot run, whatever there is to do."""
        return self.paused or self.stopped

    def discard(self) -> None:
        """Forget it."""
        self.port.close()
        self._machine.forget(self)

    def _end(self, number: int) -> None:
        if self.status is not None or self.ending:
            return
        self.killer = number
        self._close_at_once()
        if not self.pid:  # it never ran: nothing will unwind
            self._machine.never_ran(self)

    # ----------------------------------------------------------------------------------- the machine's side

    def give(self, descriptors: Sequence[SimulatedDescriptor]) -> None:
        """Make it the owner of the descriptors it starts with."""
        for role, descriptor in zip(self.program.roles, descriptors, strict=True):
            descriptor.owner = self.holder
            self._given[role] = descriptor

    def start(self, pid: int) -> None:
        """Give it a process id; its main strand runs when it gets the baton."""
        self.pid = pid
        self.main.start()

    @property
    def ending(self) -> bool:
        """Whether its strands unwind: it was killed, or its main strand ended."""
        return bool(self.killer) or self._outcome is not None

    def runnable(self, now: int) -> list[Strand]:
        """Return the strands that would use the baton, oldest first."""
        return [strand for strand in self.strands if strand.can_run(now)] if self.pid else []

    def next_event(self, now: int) -> int | None:
        """Return when it can run by the passing of time alone, or None."""
        return None if self.halted else next_event(self.strands, now)

    def compute(self, nanoseconds: int) -> None:
        """Account time that passed while it had its processor, if it computes."""
        if not self.halted and not self._is_stepping:
            self._used += compute(self.strands, nanoseconds)

    def lose(self, strand: Strand) -> None:
        """Remove *strand*, which ended; with its last strand the body ends."""
        self.strands.remove(strand)
        if not self.strands:
            self.status = self._outcome

    def finish(self) -> None:
        """Take back what the host takes back from an ended program."""
        self.pipe.cut = True
        revoke(self._mappings)
        self._mappings.clear()
        self.table.close()
        self._machine.ledger.close_all(self.holder)

    def _main(self) -> None:
        """Run the program: the main strand, from beginning to end."""
        status = 0
        try:
            self._check()
            with self._machine.enter(self):
                self.result = self.entry()
        except Killed:
            status = -self.killer
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException as error:  # noqa: BLE001 - as in a process, it ends this program only
            self.error = error
            status = -signal.SIGBUS if is_bus_error(error) else 1
            self._report(error, f"program {self.holder}")
        self._conclude(status)

    def _beside(self, strand: str, function: Callable[[], object]) -> None:
        """Run *function*: another strand, from beginning to end."""
        try:
            self._check()
            function()
        except (Killed, SystemExit):  # SystemExit ends its thread only, as in a process
            return
        except BaseException as error:  # noqa: BLE001 - as in a thread, it ends this strand only
            self._report(error, f"strand {strand}")
            if is_bus_error(error):  # the host's signal ends the process, whichever thread it hits
                self.error = error
                self._conclude(-signal.SIGBUS)
                self._close_at_once()
            else:
                self.strand_errors.append(error)

    def _report(self, error: BaseException, where: str) -> None:
        error.add_note(f"in {where} of the simulated machine")
        self._machine.log.append("".join(traceback.format_exception(error)))

    def _conclude(self, status: int) -> None:
        if self._outcome is None:
            self._outcome = -self.killer if self.killer else status

    def _close_at_once(self) -> None:
        for close in self.dying:
            close()

    # ----------------------------------------------------------------------------------- the program's side

    def given(self, role: int) -> SimulatedDescriptor | None:
        """Return the descriptor it was started with for *role*, if any."""
        return self._given.get(role)

    def file(self, role: int) -> FileTarget | None:
        """Return the file it was started with for *role*, if any."""
        given = self._given.get(role)
        return given.target if given is not None and isinstance(given.target, FileTarget) else None

    @property
    def closed(self) -> bool:
        """Say whether the kernel has closed the other end of the gate."""
        return self.pipe.closed or self.pipe.cut

    def send(self, data: bytes, descriptors: Sequence[object] = ()) -> None:
        """Put a packet into the gate; the kernel takes it when the program waits."""
        self._check()
        given = [d for d in descriptors if isinstance(d, SimulatedDescriptor)]
        for descriptor in given:
            descriptor.owner = KERNEL
        self.pipe.to_kernel.append((data, given))
        if self.closed:
            self.pipe.drain()

    def receive(self) -> Packet | None:
        """Return the next packet from the kernel, or None."""
        self._check()
        return self.pipe.to_program.popleft() if self.pipe.to_program else None

    def arrived(self) -> bool:
        """Say whether `receive` would return a packet, or never will again."""
        return bool(self.pipe.to_program) or self.closed

    def leave(self) -> None:
        """Close the program's end of the gate."""
        self.pipe.cut = True

    def start_strand(self, function: Callable[[], object], name: str) -> None:
        """Start another strand, which runs *function*: at the earliest when this one hands over."""
        self._check()
        name = f"{self.holder}/{name}"
        strand = Strand(self._machine, self, name, lambda: self._beside(name, function))
        self.strands.append(strand)
        strand.start()

    def wait(self, ready: Callable[[], bool], deadline: int | None) -> None:
        """Hand over until *ready*, or until *deadline*."""
        self._check()
        self._hand_over(ready, deadline)

    def burn(self, nanoseconds: int) -> None:
        """Compute for that long; a plan may take the processor away meanwhile."""
        self._check()
        self.running.remaining = nanoseconds
        self._hand_over(lambda: True)

    def now(self) -> int:
        """Read the clock, which costs a little, so that a program that spins on it ends."""
        self._check()
        self._spend(LOOK_NS)
        self._looks += 1
        if self._looks >= LOOKS_PER_STEP:
            self._hand_over(lambda: True)
        return self._machine.virtual.now()

    def map(self, descriptor: object, size: int, *, writable: bool) -> memoryview:
        """Map memory; the descriptor is consumed."""
        self._check()
        target = consume(descriptor, MemoryTarget, writable=writable)
        there = len(target.region.data) - target.region.start
        mapping = target.region.map(whole_frames(size, there), writable=writable)
        self._mappings = [known for known in self._mappings if known.used]
        self._mappings.append(mapping)
        view = mapping.take()
        return view if mapping.size == size else view[:size]

    def mapping(self, view: memoryview) -> Mapping:
        """Return the mapping that *view* belongs to. Raises ValueError."""
        return self._find(view)

    def remap(self, mapping: object, descriptor: object, part: Part | None = None, *, writable: bool) -> None:
        """Put new memory where *mapping* is, or part of it; the descriptor is consumed."""
        self._check()
        target = consume(descriptor, MemoryTarget, writable=writable)
        assert isinstance(mapping, Mapping)
        self.table.moved(mapping, part)
        mapping.move(target.region, part, writable=writable)

    def unmap(self, view: memoryview) -> None:
        """End a mapping: every view of it raises from now on."""
        mapping = self._find(view)
        self.table.moved(mapping)
        revoke([mapping])
        self._mappings.remove(mapping)

    def address(self, view: memoryview) -> int:
        """Return the address of the mapping of *view*."""
        return self.table.address(self._find(view))

    def place(self, mapping: object) -> int:
        """Return the address of *mapping*."""
        assert isinstance(mapping, Mapping)
        return self.table.address(mapping)

    def touch(self, view: memoryview, offset: int, *, write: bool) -> Callable[[], bool] | None:
        """Access a byte of the mapping of *view*; None: it is there. Otherwise what to wait for, and try again."""
        self._check()
        return self.table.touch(self._find(view), offset, write=write)

    def unsee(self, view: memoryview, offset: int, size: int) -> None:
        """See pages of the mapping of *view* only when they are touched again."""
        self.table.unsee(self._find(view), offset, size)

    def ticket(self, descriptor: object) -> TicketTarget:
        """Return the ticket of a descriptor, which is consumed."""
        self._check()
        return consume(descriptor, TicketTarget, writable=False)

    def bell(self, wait: object, ring: object) -> Bell:
        """Return the doorbells of two descriptors, which stay open in it."""
        self._check()
        if not isinstance(wait, SimulatedDescriptor) or not isinstance(ring, SimulatedDescriptor):
            raise TypeError(f"{wait!r} or {ring!r} is not a descriptor of this machine")
        return Bell(self._machine.ledger, wait, ring)

    def _find(self, view: memoryview) -> Mapping:
        for mapping in self._mappings:
            if mapping.covers(view):
                return mapping
        raise ValueError("the view is not of a mapping of this program")

    def _check(self) -> None:
        if self.killer or self._outcome is not None:
            raise Killed

    def _spend(self, nanoseconds: int) -> None:
        self._used += nanoseconds
        self._is_stepping = True  # its processor is in use: other strands' computing waits
        self._machine.pass_time(self._machine.virtual.now() + nanoseconds)
        self._is_stepping = False

    def _hand_over(self, ready: Callable[[], bool], deadline: int | None = None) -> None:
        """Give the baton back; return at this strand's next turn at which *ready* or *deadline* holds."""
        strand = self.running
        self._looks = 0
        self._spend(STEP_NS)
        strand.ready, strand.deadline = ready, deadline
        self.handovers += 1
        self._machine.handed_over(self)
        strand.hand_back()
        self._check()
