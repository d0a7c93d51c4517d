"""The face of the kernel to all, and to each: rows, counters, events, upcalls; and lines for the operator."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.tracing import Trace
from kernel.upcalls import Upcalls

if TYPE_CHECKING:
    from hwmodel.machine import Machine
    from kernel.jobs import Jobs
    from kernel.kip import Kip


class Exposure:
    """One object of each kind that shows or tells; the other objects of the kernel are given this one."""

    def __init__(self, machine: "Machine", kip: "Kip", jobs: "Jobs", log: Callable[[str], None]) -> None:
        """Show in *kip* and in a new event ring; *log* takes lines for the operator."""
        self.log = log
        self.kip = kip
        self.trace = Trace(machine)
        self.count = kip.count
        self.tell = Upcalls(machine, kip, self.trace, jobs).send

    def close(self) -> None:
        """Free its memory on the machine."""
        self.trace.close()
        self.kip.close()
