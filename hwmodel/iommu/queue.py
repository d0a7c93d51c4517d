"""What the queues of all three IOMMUs have: registers, memory, and work to do by them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from hwmodel.iommu.layout import Values
from hwmodel.iommu.memory import Memory


class Queue(ABC):
    """A ring in memory in which software puts entries, and from which a unit takes them."""

    def __init__(
        self,
        memory: Memory,
        carry_out: Callable[[Values], bool],
        interrupt: Callable[[], None],
        registers: Mapping[int, int],
    ) -> None:
        """Begin with these *registers*, by offset.

        *carry_out* does what an entry asks for, and says whether the device that was asked has answered;
        *interrupt* is the one of completions.
        """
        self._memory = memory
        self._carry_out = carry_out
        self._interrupt = interrupt
        self._registers = dict(registers)

    def read(self, offset: int) -> int:
        """Return the register at *offset*. Raises KeyError for one that is not the queue's."""
        return self._registers[offset]

    @abstractmethod
    def write(self, offset: int, value: int) -> None:
        """Write it, as software does; what is read-only or out of turn is ignored. `run` takes entries then."""

    def run(self) -> None:
        """Do all there is to do: until the queue is empty, off, stopped, or waits for a device."""
        while self.step():
            pass

    @abstractmethod
    def step(self) -> bool:
        """Take an entry, or do what was taken; return whether there was something. Never raises."""
