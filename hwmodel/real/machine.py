"""The real machine, assembled: read `RealMachine.__init__` as a table of contents."""

import errno
import os
import socket
import weakref
from collections.abc import Callable, Sequence

from hwmodel.errors import exhausted
from hwmodel.interrupts import MILLISECOND, InterruptController, Ticker
from hwmodel.machine import Deed, Descriptor, Exhausted, Page, Supervisor
from hwmodel.real import blame
from hwmodel.real.bell import Bell
from hwmodel.real.body import RealBody
from hwmodel.real.descriptor import RealDescriptor, lendable, own_numbers, pipe, ticket, unnamed
from hwmodel.real.endpoint import BACKLOG, RealEndpoint, listen
from hwmodel.real.errors import lending
from hwmodel.real.frequencies import frequencies
from hwmodel.real.gate import Gate, Peer
from hwmodel.real.lane import Lane
from hwmodel.real.loop import Loop
from hwmodel.real.meeting import Meeting
from hwmodel.real.memory import RealMemory
from hwmodel.real.nursery import Nursery
from hwmodel.real.page import RealPage
from hwmodel.real.paging import RealSpace
from hwmodel.real.port import RealPort, close_all
from hwmodel.real.process import Process
from hwmodel.real.run import Run
from hwmodel.real.switches import RealSwitches
from hwmodel.real.uids import Uids
from hwmodel.real.worker import Worker
from kernel.abi.errors import Fault
from kernel.abi.limits import FRAME_SIZE, TOKEN_BYTES
from kernel.abi.nursery import Exited, Failed, Launch, Launched, Report
from kernel.abi.program import Program, ProgramKind
from kernel.abi.topology import Topology, TopologyError

_MAPPINGS = (
    "it kept its memory locked, with calls on its mappings, while pages of it were to be shown or taken"
)
_FILE = "it kept memory that was to be taken busy, with calls that write by a descriptor: map it instead"


class RealMachine:
    """A machine on this host; see `hwmodel.machine.Machine`.

    It makes the run directory *run_dir* and removes it at its end. *log* takes the lines for the operator that no
    caller can be told.
    """

    def __init__(self, topology: Topology, run_dir: str, *, log: Callable[[str], None]) -> None:
        self.uid = os.geteuid()
        self.pid = os.getpid()
        self._log = log
        self._may_lack = topology.confinement.may_lack
        self._cores = choose_cores(topology.machine.cpus, os.sched_getaffinity(0))
        check_memory(
            topology.machine.frames() * FRAME_SIZE, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        )
        self._bodies: dict[int, RealBody] = {}
        self._attached: set[RealBody] = set()
        self._launches = self._endpoints = 0
        self._closables: weakref.WeakSet[RealPage] = weakref.WeakSet()
        self._supervisor: Supervisor | None = None
        self._run = Run(run_dir)  # first: it refuses if a system runs there
        self._ipc = self._run.at("ipc")
        self._numbers = own_numbers()
        self._loop = self.clock = Loop()
        self._nursery = Nursery(self._loop, self._run)  # early: its imports take longer than all of ours
        self._process = Process()  # after the nursery, which must inherit none of it
        self._bell = Bell(self._loop)
        self._worker = Worker(self._loop, self._bell, self._hindered, rests=self._process.leads)
        self._loop.closer = self._worker.close_descriptor
        self._lanes: list[Lane] = []
        self._switches: list[RealSwitches] = []
        self._meeting = Meeting(self._loop)
        self._uids = Uids()
        self.memory = RealMemory(topology.machine.frames(), self._close_later)
        self.interrupts = InterruptController()
        period = topology.machine.tick_ms * MILLISECOND
        self._ticker = Ticker(self.clock, self.interrupts, period) if period else None
        self.secret = self._run.secret()  # before the gate, which asks for it
        self._gate = Gate(self._loop, self._run.at("gate"), self._attach, log)

    def _close_later(self, number: int) -> None:
        self._loop.closer(number)

    @property
    def cores(self) -> Sequence[int]:
        """The host core of each processor."""
        return self._cores

    def switches(self, core: int) -> RealSwitches:
        """Return the record of the switches of *core*."""
        self._switches.append(switches := RealSwitches(core))
        return switches

    @property
    def grace(self) -> float | None:
        """Seconds for the end, which `exo down` leaves in the run directory before it asks for the end."""
        return self._run.grace()

    @property
    def frequencies(self) -> Sequence[tuple[int, int]]:
        """Internal and external frequency of each processor in kHz; 0: the host does not tell."""
        return [(internal, 0) for internal in frequencies(self._cores)]

    def soon(self, callback: Callable[[], None]) -> None:
        """Call *callback* in a later turn of the loop."""
        self._loop.soon(callback)

    def late(self) -> bool:
        """Say whether this turn of the loop should end."""
        return self._loop.late()

    def measure(self, turns: memoryview) -> None:
        """Keep in *turns* how long the turns of the loop take."""
        self._loop.measure(turns)

    def work(self, deed: Deed, done: Callable[[Exhausted | None], None]) -> None:
        """Do *deed* on a thread of its own, then call *done* from the loop."""
        self._worker.work(deed, done)

    @lending
    def spare(self) -> None:
        """Raise Exhausted when the host lends hardly more than the restart of a server needs."""
        os.close(lendable(os.eventfd(0, os.EFD_CLOEXEC)))

    def file(self, path: str, size: int = 0) -> RealDescriptor:
        """Return a descriptor by which to read *path*, or of a new file there. Raises OSError."""
        if size:
            return RealDescriptor(lendable(unnamed(path, size)))
        return RealDescriptor(lendable(os.open(path, os.O_RDONLY | os.O_CLOEXEC)))

    def page(self, name: str, size: int) -> RealPage:
        """Return zeroed memory of the kernel."""
        page = RealPage(name, size)
        self._closables.add(page)
        return page

    def publish(self, name: str, page: Page) -> None:
        """Let every user of the host read *page* under *name* in the run directory."""
        if not isinstance(page, RealPage):
            raise TypeError("a page of another machine")
        page.publish(self._run.at(name))

    def endpoint(self, connected: Callable[[], None]) -> RealEndpoint:
        """Return a new listening socket in the run directory's `ipc`, whose content nobody can list."""
        self._endpoints += 1
        return RealEndpoint(self._loop, self._ipc, self._endpoints, connected)

    def console(self) -> RealDescriptor:
        """Return the listening socket that operators connect to; its holder asks the host who they are."""
        with listen(self._run.at("console"), socket.SOCK_SEQPACKET, BACKLOG) as listener:
            return RealDescriptor(listener.detach())

    def ticket(self) -> tuple[RealDescriptor, RealDescriptor]:
        """Return a new ticket: a pipe, opened twice, once for each party. Raises Exhausted."""
        return ticket(self._numbers)

    def bell(self) -> tuple[RealDescriptor, RealDescriptor]:
        """Return a new doorbell: the reading and the writing end of a pipe."""
        return pipe()

    def token(self) -> bytes:
        """Return 16 unguessable bytes, the first not zero."""
        while not (token := os.getrandom(TOKEN_BYTES))[0]:
            pass
        return token

    def launch(
        self,
        number: int,
        name: str,
        program: Program,
        descriptors: list[Descriptor],
        *,
        cpu: int,
        urgent: bool = False,
    ) -> RealBody:
        """Start a program; see `hwmodel.machine.Machine.launch`."""
        with lending:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        uid = self._uids.take()
        held = cpu >= 0
        is_foreign = program.kind == ProgramKind.FOREIGN
        body = RealBody(RealPort(self._loop, ours), uid, owned=True, group=is_foreign, paused=held)
        body.paged = program.paged
        # An environment's number is used again at once, and a report about its last bearer may be on its way.
        self._launches = launch = self._launches + 1
        self._bodies[launch] = body
        body.on_discard = lambda: self._discard(launch, uid)
        core = self._cores[cpu] if held else -1
        request = Launch(launch, name, program, uid, self._run.path, core, held, self._may_lack, urgent)
        self._nursery.launch(request, [RealDescriptor(theirs.detach()), *descriptors])
        return body

    def run(self, supervisor: Supervisor) -> None:
        """Run until `stop`."""
        if self._supervisor is None:
            self._nursery.watch(self._report, self._bereave)
            self._process.settle()
        self._supervisor = supervisor
        self._loop.run(supervisor.stop)

    def stop(self) -> None:
        """Make `run` return."""
        self._loop.stop()

    def close(self) -> None:
        """End every body and remove every trace of the machine from the host."""
        self._gate.close()
        if self._ticker is not None:
            self._ticker.stop()
        for body in self._bodies.values():
            body.kill()
        self._nursery.close()
        self._worker.close()
        for body in [*self._bodies.values(), *self._attached]:
            if body.owned and body.pid:
                _collect(body.pid)
            body.discard()
        for lane in self._lanes:
            lane.join()
        for switches in self._switches:
            switches.close()
        self._bell.close()
        for closable in list(self._closables):
            closable.close()
        self._uids.close()
        self._loop.close()
        self._numbers.close()
        self._run.close()
        self._process.restore()

    def _report(self, report: Report, descriptors: list[Descriptor]) -> None:
        """Pass on the outcome of a launch, unless it has been discarded since."""
        body = self._bodies.get(report.number)
        supervisor = self._supervisor
        if body is None or supervisor is None:
            close_all(descriptors)
            return
        match report:
            case Launched(_, pid):
                own = [each for each in descriptors if isinstance(each, RealDescriptor)]
                if len(own) < 1 + body.paged:
                    close_all(descriptors)
                    supervisor.failed(body, str(exhausted(errno.EMFILE)))
                    return
                body.start(pid, own[0])
                # Its gate is read only from now on, so that the kernel never hears a program before its start.
                # A closed gate is not the end: a program may do without one.
                try:
                    if body.paged:
                        body.page(self._space(body, own[1], supervisor))
                    body.open(supervisor, lambda: None)
                except Exhausted as full:
                    supervisor.failed(body, str(full))
                    return
                supervisor.started(body)
            case Failed(_, reason):
                supervisor.failed(body, reason)
            case Exited(_, status):
                supervisor.ended(body, status)

    def _space(self, body: RealBody, faults: RealDescriptor, supervisor: Supervisor) -> RealSpace:
        """Return the memory of *body*, whose faults come by *faults*. Raises Exhausted."""
        self._lanes = [lane for lane in self._lanes if not lane.over]
        try:
            lane = Lane(self._loop, self._bell, lambda: supervisor.broke(body, Fault.HINDERS, _MAPPINGS))
        except Exhausted:
            faults.close()
            raise
        self._lanes.append(lane)
        return RealSpace(faults, self._loop, lane, self._meeting)

    def _hindered(self, thread: int) -> None:
        """Find who keeps a *thread* of the worker from a file, and have them ended."""
        bodies = [body for body in (*self._bodies.values(), *self._attached) if body.pid]
        if (file := blame.own(thread)) is not None:
            self._worker.work(blame.find(bodies, file, self._bell.tell, self._blamed), lambda _: None)

    def _blamed(self, body: RealBody) -> None:
        if self._supervisor is not None:
            self._supervisor.broke(body, Fault.HINDERS, _FILE)

    def _attach(self, connection: socket.socket, peer: Peer, data: bytes) -> None:
        """Make a body of a program that connected, and present it."""
        supervisor = self._supervisor
        assert supervisor is not None
        body = RealBody(RealPort(self._loop, connection), peer.uid, owned=False, group=False, paused=False)
        body.start(peer.pid, peer.process)
        self._attached.add(body)
        process = peer.process.number

        def discard() -> None:
            self._loop.unwatch(process)
            self._attached.discard(body)

        def ended() -> None:
            if body in self._attached:
                self._loop.unwatch(process)
                supervisor.ended(body, 0)

        body.on_discard = discard
        try:
            body.open(supervisor, ended)
            # It may die while another process holds its end of the gate open.
            self._loop.watch(process, lambda _events: ended())
        except Exhausted as full:
            self._log(f"a program could not attach: {full}")
            body.discard()
            return
        supervisor.attached(body, data)

    def _bereave(self) -> None:
        """Stop: the nursery died, nothing can be started any more, and the host kills what it started."""
        self._log("the nursery has died, and every program with it: the system stops")
        self.stop()  # not the supervisor, which would wait for ends that nobody reports

    def _discard(self, launch: int, uid: int) -> None:
        """Have a process collected, and only then use its uid again: requests are done in order."""
        del self._bodies[launch]
        self._nursery.reap(launch)
        self._uids.put_back(uid)


def choose_cores(wanted: Sequence[int], allowed: set[int]) -> list[int]:
    """Return the host core of each processor; a negative number counts from the last allowed one."""
    cores = sorted(allowed)
    chosen = []
    for number in wanted:
        if number < -len(cores) or (number >= 0 and number not in allowed):
            raise TopologyError(f"machine.cpus names core {number}, but the host lets us use {cores}")
        chosen.append(number if number >= 0 else cores[number])
    if len(set(chosen)) < len(chosen):
        raise TopologyError(f"machine.cpus names a core twice: {list(wanted)} are cores {chosen}")
    return chosen


def check_memory(wanted: int, host: int) -> None:
    """Refuse more RAM than the *host* has, both in bytes. Raises TopologyError."""
    if wanted > host:
        gib = [f"{size / (1 << 30):.4g} GiB" for size in (wanted, host)]
        raise TopologyError(f"machine.memory is {gib[0]}, but this host has {gib[1]}: write less")


def _collect(pid: int) -> None:
    """Collect a program that became our child, because the nursery died before it could."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return
