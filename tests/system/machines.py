"""A real machine with a supervisor that notes what it is told: what the tests of this folder share."""

import os
import select
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hwmodel.machine import Body, Descriptor, PageFault
from hwmodel.real.body import RealBody
from hwmodel.real.descriptor import RealDescriptor
from hwmodel.real.machine import RealMachine
from hwmodel.real.port import close_all
from kernel.abi.errors import Fault
from kernel.abi.program import Program, ProgramKind, Role
from kernel.abi.topology import Confinement, MachineConfig, Topology

PATIENCE_NS = 10_000_000_000
MS = 1_000_000
PYTHON, SERVER, FOREIGN = ProgramKind.PYTHON, ProgramKind.SERVER, ProgramKind.FOREIGN
TOPOLOGY = Topology(
    machine=MachineConfig(memory="64 KiB"),
    confinement=Confinement() if os.geteuid() == 0 else Confinement(may_lack=("uid",)),
)
TRAP = "import os, socket; gate = socket.socket(fileno=int(os.environ['EXO_TRAP_FD'])); gate.send(b'here');"
"""The beginning of programs that say when they are there, and go on when they are answered."""


@dataclass
class System:
    """A machine, and a supervisor that notes what the machine tells it."""

    machine: RealMachine
    run: Path
    log: list[str]
    events: list[tuple[str, Body | None, object]] = field(default_factory=list)
    until: Callable[[], bool] = bool

    # ------------------------------------------------------------------------------- the supervisor's side

    def note(self, what: str, body: Body | None, detail: object = None) -> None:
        self.events.append((what, body, detail))
        if self.until():
            self.machine.stop()

    def trap(self, body: Body, data: bytes, descriptors: list[Descriptor]) -> None:
        close_all(descriptors)
        self.note("trap", body, data)

    def broke(self, body: Body, fault: Fault, detail: str) -> None:
        self.note("broke", body, fault)

    def started(self, body: Body) -> None:
        self.note("started", body)

    def failed(self, body: Body, reason: str) -> None:
        self.note("failed", body, reason)

    def ended(self, body: Body, status: int) -> None:
        self.note("ended", body, status)

    def faulted(self, body: Body, fault: PageFault) -> None:
        self.note("faulted", body, fault)

    def attached(self, body: Body, data: bytes) -> None:
        self.note("attached", body, data)

    def stop(self) -> None:
        self.note("stop", None)

    # ------------------------------------------------------------------------------------ the test's side

    def run_until(self, holds: Callable[[], bool]) -> None:
        """Run the machine until *holds*; the test fails if that takes too long."""
        if holds():
            return
        self.until = holds
        limit = self.machine.clock.alarm(self.machine.clock.now() + PATIENCE_NS, self.machine.stop)
        self.machine.run(self)
        self.until = bool
        limit.cancel()
        assert holds(), self.events

    def pass_time(self, milliseconds: int) -> None:
        """Run the machine for some time."""
        self.machine.clock.alarm(self.machine.clock.now() + milliseconds * MS, self.machine.stop)
        self.machine.run(self)

    def told(self, what: str, body: Body | None) -> list[object]:
        """The machine's reports of one kind about *body*."""
        return [detail for kind, about, detail in self.events if kind == what and about is body]

    def wait(self, what: str, body: Body | None) -> object:
        """Run until the machine says it, and return the detail."""
        self.run_until(lambda: bool(self.told(what, body)))
        return self.told(what, body)[-1]

    def start(
        self,
        *argv: str,
        kind: ProgramKind = PYTHON,
        source: str | None = None,
        cpu: int = -1,
        environ: dict[str, str] | None = None,
        roles: dict[Role, int] | None = None,
    ) -> RealBody:
        """Launch a program; *source* is its text; the descriptors of *roles* are consumed."""
        files = dict(roles or {})
        if source is not None:
            files[Role.SOURCE] = os.memfd_create("source")
            os.write(files[Role.SOURCE], source.encode())
            argv = ("program.py", *argv)
        program = Program(kind, argv, tuple((environ or {}).items()), tuple(files))
        return self.machine.launch(7, "test", program, [RealDescriptor(n) for n in files.values()], cpu=cpu)

    def finish(self, source: str, *argv: str, environ: dict[str, str] | None = None) -> tuple[object, str]:
        """Run a Python program to its end; return its status and what its log holds."""
        body = self.start(*argv, source=source, environ=environ)
        status = self.wait("ended", body)
        body.discard()
        return status, self.output()

    def output(self) -> str:
        return (self.run / "log" / "test.log").read_text()


def wait_for_end(pid: int) -> None:
    """Wait until a process, not necessarily a child of ours, has ended."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(process, select.POLLIN)
    ended = poll.poll(10_000)
    os.close(process)
    assert ended, f"{pid} lives"


@contextmanager
def booted_machine() -> Iterator[System]:
    """A machine in a run directory of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="exo-") as folder:
        run = Path(folder) / "run"
        log: list[str] = []
        system = System(RealMachine(TOPOLOGY, str(run), log=log.append), run, log)
        try:
            yield system
        finally:
            system.machine.close()
        assert not run.exists()
