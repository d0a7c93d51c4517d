"""Queues whose contents and registers are hostile; and the memory they lie in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwmodel.iommu import amdvi, smmu, vtd
from hwmodel.iommu.amdvi import queue as amd
from hwmodel.iommu.memory import BusError, Image
from hwmodel.iommu.smmu import queue as arm
from hwmodel.iommu.vtd import queue as intel
from tests.hwmodel.iommu.bench import BASE, BY_VMID, DEVICE, FLUSH, RAM, SYNC, Bench, completion, wait

VALUES = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([0, 0x10, 0x20, 0xFF0, 0x1000, BASE, BASE | 1 << 11, 8 << 56 | BASE, BASE | 8]),
    st.sampled_from([1 << 26, 0x1005, 0x1015, 1 << 12, 1, 8]),
)
CONTENTS = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.sampled_from(
        [vtd.encode(wait()), vtd.encode(FLUSH), amdvi.encode(completion()), amdvi.encode(DEVICE)]
    ),
    st.sampled_from([smmu.encode(SYNC), smmu.encode(BY_VMID), smmu.encode({"op": 0x40, "sid": 1})]),
)


def queues(
    bench: Bench,
) -> list[tuple[intel.InvalidationQueue | amd.CommandBuffer | arm.CommandQueue, list[int]]]:
    """Return each kind of queue, on, with its registers."""
    return [
        (bench.vtd(), [intel.GCMD, intel.FSTS, intel.IQT, intel.IQA, intel.ICS, intel.IECTL]),
        (bench.amd(), [amd.COMMAND_BASE, amd.EVENT_BASE, amd.CONTROL, *range(0x2000, 0x2028, 8)]),
        (bench.arm(), [arm.CR0, arm.GERRORN, arm.CMDQ_BASE, arm.CMDQ_PROD, arm.CMDQ_CONS]),
    ]


@pytest.mark.parametrize("kind", range(3))
@settings(deadline=None)
@given(data=st.data())
def test_nothing_raises_out_of_a_queue(kind: int, data: st.DataObject) -> None:
    """Any bytes in the ring and any values in the registers end in a stop or an empty queue, in bounded steps."""
    bench = Bench(answers=data.draw(st.booleans()))
    for number, entry in enumerate(data.draw(st.lists(CONTENTS, max_size=12))):
        bench.memory.write(BASE + 16 * number, entry)
    queue, registers = queues(bench)[kind]
    for register, value in data.draw(st.lists(st.tuples(st.sampled_from(registers), VALUES), max_size=12)):
        queue.write(register, value)
        steps = sum(1 for _ in iter(queue.step, False))
        assert steps <= 2 * (len(RAM) // 16) + 2


@given(at=st.integers(0, 0x50000), data=st.binary(min_size=1, max_size=9000))
def test_memory_keeps_what_is_written(at: int, data: bytes) -> None:
    """What was stored is read back, across pages; with a byte outside memory nothing is stored."""
    memory = Image(RAM)
    if RAM.start <= at and at + len(data) <= RAM.stop:
        memory.write(at, data)
        assert memory.read(at, len(data)) == data
        return
    with pytest.raises(BusError, match=f"{at:#x}"):
        memory.write(at, data)
    assert not any(memory.read(RAM.start, len(RAM)))
