"""A memory with a ring in it, and each architecture's queue on that, for tests."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hwmodel.iommu import amdvi, smmu, vtd
from hwmodel.iommu.amdvi import queue as amd
from hwmodel.iommu.layout import Inputs, Values
from hwmodel.iommu.memory import Image
from hwmodel.iommu.smmu import queue as arm
from hwmodel.iommu.vtd import queue as intel

BASE, WORD = 0x10000, 0x30000
"""Where the ring lies, and where completions are stored."""
RAM = range(0x8000, 0x40000)

LEGACY = vtd.Unit(mode=vtd.Mode.LEGACY)
FLUSH = {"type": 2, "granularity": 1}
PAGES = {"op": 3, "domid": 1, "address": 0x1000}
DEVICE = {"op": 4, "devid": 0x310, "address": 0}
BY_VMID = {"op": 0x28, "vmid": 7}
SYNC = {"op": 0x46, "cs": 1, "msiaddr": WORD, "msidata": 0x51}


def wait(value: int = 2, **more: int) -> Inputs:
    return {"type": 5, "SW": 1, "status_data": value, "status_addr": WORD, **more}


def completion(value: int = 7, **more: int) -> Inputs:
    return {"op": 1, "s": 1, "store_addr": WORD, "store_data": value, **more}


@dataclass
class Bench:
    """A memory, what was carried out in it, which interrupts came, and whether devices answer."""

    memory: Image = field(default_factory=lambda: Image(RAM))
    done: list[Values] = field(default_factory=list)
    interrupts: list[bytes] = field(default_factory=list)
    """What the completion word was at each."""
    answers: bool = True

    def carry_out(self, values: Values) -> bool:
        self.done.append(values)
        return self.answers

    def interrupt(self) -> None:
        self.interrupts.append(self.memory.read(WORD, 4))

    @property
    def word(self) -> int:
        return int.from_bytes(self.memory.read(WORD, 8), "little")

    def put(
        self, at: int, *entries: Inputs, of: Callable[[Inputs], bytes], every: int = 16, size: int = 4096
    ) -> int:
        """Write entries from byte *at* of the ring on, and return the byte behind them, both around its end."""
        for entry in entries:
            self.memory.write(BASE + at, of(entry).ljust(every, b"\0"))
            at = (at + every) % size
        return at

    def vtd(self, unit: vtd.Unit = LEGACY, base: int = BASE) -> intel.InvalidationQueue:
        made = intel.InvalidationQueue(self.memory, self.carry_out, self.interrupt, unit)
        made.write(intel.IQA, base)
        made.write(intel.GCMD, intel.QIE)
        return made

    def amd(self, control: int = 0) -> amd.CommandBuffer:
        made = amd.CommandBuffer(self.memory, self.carry_out, self.interrupt)
        made.write(amd.COMMAND_BASE, 8 << 56 | BASE)
        made.write(amd.EVENT_BASE, 8 << 56 | 0x20000)
        made.write(amd.CONTROL, amd.IOMMU_ON | amd.COMMANDS_ON | amd.LOG_ON | control)
        return made

    def arm(self, logarithm: int = 8) -> arm.CommandQueue:
        made = arm.CommandQueue(self.memory, self.carry_out, self.interrupt)
        made.write(arm.CMDQ_BASE, BASE | logarithm)
        made.write(arm.CR0, arm.CMDQEN)
        return made

    def event(self, number: int = 0) -> Values:
        return amdvi.decode(self.memory.read(0x20000 + 16 * number, 16), "event")


def submit_vtd(bench: Bench, queue: intel.InvalidationQueue, *entries: Inputs) -> None:
    queue.write(intel.IQT, bench.put(queue.read(intel.IQT), *entries, of=vtd.encode))
    queue.run()


def submit_amd(bench: Bench, queue: amd.CommandBuffer, *entries: Inputs) -> None:
    queue.write(amd.COMMAND_TAIL, bench.put(queue.read(amd.COMMAND_TAIL), *entries, of=amdvi.encode))
    queue.run()


def submit_arm(bench: Bench, queue: arm.CommandQueue, *entries: Inputs) -> None:
    prod = queue.read(arm.CMDQ_PROD)
    bench.put(prod % queue.entries * 16, *entries, of=smmu.encode, size=queue.entries * 16)
    queue.write(arm.CMDQ_PROD, (prod + len(entries)) % (2 * queue.entries))
    queue.run()
