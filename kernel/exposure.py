"""The face of the kernel to all, and to each: rows, counters, events, upcalls; and lines for the operator."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.abi.kip import Page
from kernel.abi.messages import Label
from kernel.tracing import Trace
from kernel.upcalls import Upcalls

if TYPE_CHECKING:
    from hwmodel.machine import Machine
    from kernel.jobs import Jobs
    from kernel.kip import Kip
    from kernel.upcalls import Told


class Exposure:
    """One object of each kind that shows or tells; the other objects of the kernel are given this one."""

    def __init__(self, machine: "Machine", kip: "Kip", jobs: "Jobs", log: Callable[[str], None]) -> None:
        """Show in *kip* and in a new event ring; *log* takes lines for the operator."""
        self.log = log
        self.kip = kip
        self.trace = Trace(machine)
        self.count = kip.count
        self.tell = Upcalls(machine, kip, self.trace, jobs).send

    def show_slice(self, to: "Told", began: int, ends: int) -> None:
        """Show *to* the slice that begins, and tell it if it asked, unless it has not read its upcalls."""
        to.page[Page.SLICE_BEGAN], to.page[Page.SLICE_ENDS] = began, ends
        if to.page[Page.SLICE_ASKED] and not to.backlog:
            to.page[Page.SLICE_ASKED] = 0
            self.tell(to, Label.SLICE, (began, ends))

    def close(self) -> None:
        """Free its memory on the machine."""
        self.trace.close()
        self.kip.close()
