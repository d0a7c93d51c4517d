"""Places under the processors: under each as many as its plan has slices, and under one that is out none.

The dead that await successors have places, too. Where the kernel has to choose a processor, since nobody was
asked, it is the one with the fewest.
"""

from typing import TYPE_CHECKING

from kernel.abi.errors import Refusal
from kernel.abi.limits import MAX_SLICES
from kernel.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kernel.environment import Environment
    from kernel.processor import Processor


class Places:
    """The places under all processors."""

    def __init__(self, processors: "Sequence[Processor]", environments: "Collection[Environment]") -> None:
        """Count *environments* under *processors*."""
        self._processors, self._environments = processors, environments

    def _taken(self, cpu: int) -> int:
        return sum(e.cpu == cpu and (e.alive or e.keeps) for e in self._environments)

    def check(self, cpu: int) -> None:
        """Refuse one more under processor *cpu*, if that is out, or its plan has no slice for it."""
        if self._processors[cpu].gone:
            raise Refused(Refusal.PROCESSOR_OFF, f"processor {cpu}: 'exo cpu' lists those that are on")
        count = self._taken(cpu)
        if count >= MAX_SLICES:
            raise Refused(
                Refusal.PLAN_FULL, f"processor {cpu} has {count}: start it on another, or outside the plan"
            )

    def check_removal(self, cpu: int) -> None:
        """Refuse to take out processor *cpu*, if the others have no room for those under it."""
        others = [each.number for each in self._processors if not each.gone and each.number != cpu]
        if not others:
            raise Refused(Refusal.PROCESSOR_NEEDED, f"processor {cpu} is the last one that is on")
        room, count = sum(MAX_SLICES - self._taken(each) for each in others), self._taken(cpu)
        if count > room:
            raise Refused(
                Refusal.PROCESSOR_NEEDED, f"processor {cpu} has {count}, and the others have room for {room}"
            )

    def near(self, cpu: int) -> int:
        """Return *cpu*, or, if that is out, the processor with the fewest; outside all (-1) it stays there."""
        if cpu < 0 or not self._processors[cpu].gone:
            return cpu
        return min((each.number for each in self._processors if not each.gone), key=self._taken)
