"""The kernel: its objects, and what the machine tells it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.abi.errors import Fault, Refusal
from kernel.abi.ids import NIL_THREAD, ThreadId
from kernel.abi.kip import Counter
from kernel.abi.messages import Label
from kernel.abi.traps import Booted
from kernel.bindings import Bindings
from kernel.environment import Environment
from kernel.environments import Environments
from kernel.errors import Refused
from kernel.frames import Frames
from kernel.gate import Gate
from kernel.interrupts import InterruptLines
from kernel.jobs import Jobs
from kernel.kip import Kip
from kernel.processor import Processor
from kernel.threads import Threads
from kernel.tracing import Trace
from kernel.upcalls import Upcalls

if TYPE_CHECKING:
    from hwmodel.machine import Body, Descriptor, Machine


def refuse_heartbeat(environment: Environment) -> None:
    """Nobody asks *environment* whether it is there."""
    raise Refused(Refusal.NO_SUCH_MESSAGE, f"the kernel asks nothing of {environment.name}")


class Kernel:
    """One object of each kind; `Supervisor` of the machine it runs on."""

    def __init__(self, machine: "Machine", log: Callable[[str], None]) -> None:
        """Build the kernel on *machine*; *log* takes lines for the operator."""
        self.machine = machine
        self.log = log
        self.trace = Trace(machine)
        self.kip = Kip(machine)
        self.jobs = Jobs(machine, self.kip.note_cause)
        self.frames = Frames(self)
        self.environments = Environments(self)
        self.threads = Threads(self)
        self.bindings = Bindings(self)
        self.processors = [Processor(self, number, core) for number, core in enumerate(machine.cores)]
        self.interrupts = InterruptLines(self)
        self.upcalls = Upcalls(self)
        self.gate = Gate(self)
        self.boot_info: Booted
        """For the root task; the boot loader puts it here."""
        self.servers: frozenset[str] = frozenset()
        """The names that are those of servers of the topology; the boot loader knows them."""
        self.on_ended: Callable[[Environment], None] = lambda _environment: None
        """Called when an environment ended; the boot loader watches the root task by it."""
        self.on_heartbeat: Callable[[Environment], None] = refuse_heartbeat
        """Called when an environment says that it is there; the boot loader watches the root task by it."""
        self.on_stop: Callable[[], None] = machine.stop
        """Called when the host asks the system to end; the boot loader ends it in order."""
        self.on_attach: Callable[[Body, bytes], None] = lambda body, _data: body.kill()
        """Called when somebody wants to attach; the boot loader knows who may."""

    def count(self, counter: Counter) -> None:
        """Add one to *counter*."""
        self.kip.count(counter)

    def tell(
        self,
        to: Environment,
        label: Label,
        words: tuple[int, ...],
        text: str = "",
        sender: ThreadId | None = None,
        thread: ThreadId = NIL_THREAD,
    ) -> None:
        """Send *to*, or its *thread*, a message from a kernel thread, or from *sender*."""
        self.upcalls.send(to, label, words, text, sender, thread)

    def close(self) -> None:
        """Free what the kernel itself holds on the machine."""
        self.trace.close()
        self.kip.close()

    # What the machine tells.

    def trap(self, body: "Body", data: bytes, descriptors: "list[Descriptor]") -> None:
        """A packet came through a gate."""
        caller = self.environments.of(body)
        if caller is None or caller.fault or caller.ending:
            for descriptor in descriptors:
                descriptor.close()
            return
        self.gate.enter(caller, data, descriptors)

    def overlong(self, body: "Body") -> None:
        """A packet was longer than a trap may be."""
        caller = self.environments.of(body)
        if caller is not None:
            self.environments.fault(caller, Fault.TOO_LONG, "")

    def started(self, body: "Body") -> None:
        """A program runs."""
        environment = self.environments.of(body)
        if environment is not None:
            self.environments.started(environment)

    def failed(self, body: "Body", reason: str) -> None:
        """A program could not be started."""
        environment = self.environments.of(body)
        if environment is not None:
            environment.fault, environment.detail = Fault.NOT_STARTED, reason
            self.log(f"{environment.name}: {reason}")
            self.environments.end(environment, 127)

    def ended(self, body: "Body", status: int) -> None:
        """A body ended, however it came."""
        environment = self.environments.of(body)
        if environment is not None:
            self.environments.end(environment, status)

    def attached(self, body: "Body", data: bytes) -> None:
        """Somebody wants to attach."""
        self.on_attach(body, data)

    def stop(self) -> None:
        """The host asks the system to end."""
        self.on_stop()
