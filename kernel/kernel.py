"""The kernel: one object of each kind, wired together."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.abi.errors import Refusal
from kernel.abi.traps import Booted
from kernel.bindings import Bindings
from kernel.environment import Environment
from kernel.environments import Environments
from kernel.errors import Refused
from kernel.exposure import Exposure
from kernel.faults import Faults
from kernel.frames import Frames
from kernel.interrupts import InterruptLines
from kernel.jobs import Jobs
from kernel.kip import Kip
from kernel.predicates import Predicates
from kernel.processor import Processor
from kernel.removal import Removal
from kernel.threads import Threads

if TYPE_CHECKING:
    from hwmodel.machine import Machine


def refuse_heartbeat(environment: Environment) -> None:
    """Refuse: the kernel watches no heartbeat of *environment*."""
    raise Refused(Refusal.NO_SUCH_MESSAGE, f"the kernel asks nothing of {environment.name}")


class Kernel:
    """All objects, as the handlers of traps see them."""

    def __init__(self, machine: "Machine", log: Callable[[str], None]) -> None:
        """Build the kernel on *machine*; *log* takes lines for the operator."""
        self.machine = machine
        self.kip = Kip(machine)
        self.jobs = Jobs(machine, self.kip.note_cause)
        self.exposure = Exposure(machine, self.kip, self.jobs, log)
        self.frames = Frames(machine, self.exposure)
        self.bindings = Bindings(machine, self.exposure)
        self.interrupts = InterruptLines(machine, self.exposure)
        self.predicates = Predicates(machine, self.exposure, self.jobs)
        self.threads = Threads(self.exposure, self.bindings, self.interrupts, self.predicates)
        self.processors = [Processor(machine, self.exposure, n, core) for n, core in enumerate(machine.cores)]
        self.environments = Environments(machine, self.exposure, self.jobs, self.threads, self.processors)
        self.removal = Removal(machine.clock, self.exposure, self.jobs, self.environments, self.processors)
        self.faults = Faults(machine, self.exposure, self.jobs, self.environments.fault)
        self.boot_info: Booted
        """The root task's; the boot loader puts it here."""
        self.on_heartbeat: Callable[[Environment], None] = refuse_heartbeat
        """Called when an environment acknowledges a heartbeat; by it the boot loader watches the root task."""
