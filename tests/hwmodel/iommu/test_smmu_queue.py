"""SMMUv3's command queue: wrap, completion, errors and restarts."""

import pytest

from hwmodel.iommu import smmu
from hwmodel.iommu.smmu import queue as arm
from tests.hwmodel.iommu.bench import BASE, BY_VMID, SYNC, Bench, submit_arm


def test_smmu_wraps_and_uses_every_slot() -> None:
    """The wrap bit tells full from empty: all slots are used, and after index 255 comes 0 with it changed."""
    bench = Bench()
    queue = bench.arm()
    submit_arm(bench, queue, *[BY_VMID] * 256)
    assert (queue.read(arm.CMDQ_PROD), queue.read(arm.CMDQ_CONS), len(bench.done)) == (0x100, 0x100, 256)
    submit_arm(bench, queue, *[BY_VMID] * 255, SYNC)
    assert (queue.read(arm.CMDQ_CONS), bench.word) == (0, 0x51)


def test_smmu_stores_before_cons_moves() -> None:
    """A SYNC's message is there before CONS has passed it: whoever sees CONS beyond it sees the message."""
    bench = Bench()
    queue = bench.arm()
    seen: list[int] = []
    write = bench.memory.write

    def watch(address: int, data: bytes) -> None:
        write(address, data)
        seen.append(queue.read(arm.CMDQ_CONS))

    queue.write(arm.CMDQ_PROD, bench.put(0, BY_VMID, SYNC, of=smmu.encode) // 16)
    bench.memory.write = watch  # type: ignore[method-assign]
    queue.run()
    assert (seen, queue.read(arm.CMDQ_CONS)) == ([1], 2)


def test_smmu_signals() -> None:
    """A SYNC without an address interrupts by wire; one that asks for an event sends it; one may do nothing."""
    bench = Bench()
    queue = bench.arm()
    submit_arm(bench, queue, *({"op": 0x46, "cs": signal} for signal in (0, 1, 2)))
    assert (len(bench.interrupts), queue.wakeups, queue.read(arm.CMDQ_CONS)) == (1, 1, 3)


@pytest.mark.parametrize("bad", ["ff", "4630", "1200000000004200015434", "03", "2801"])
def test_smmu_stops_on_an_illegal_command_and_goes_on_when_acknowledged(bad: str) -> None:
    """CONS is on it with CERROR_ILL, GERROR's bit has changed; mended and acknowledged it is read anew."""
    bench = Bench()
    queue = bench.arm()
    bench.put(0, BY_VMID, BY_VMID, SYNC, of=smmu.encode)
    hostile = bytes.fromhex(bad).ljust(16, b"\xff" if bad == "03" else b"\0")
    bench.memory.write(BASE + 16, hostile)
    queue.write(arm.CMDQ_PROD, 3)
    queue.run()
    assert (queue.read(arm.CMDQ_CONS), queue.read(arm.GERROR)) == (1 << 24 | 1, 1)
    assert (len(bench.done), bench.word) == (1, 0)
    bench.put(16, BY_VMID, of=smmu.encode)
    queue.run()
    assert bench.word == 0
    queue.write(arm.GERRORN, 1)
    queue.run()
    assert (queue.read(arm.CMDQ_CONS) & 0xFFFFF, len(bench.done), bench.word) == (3, 2, 0x51)


def test_smmu_tail_may_be_pulled_back_over_a_bad_command() -> None:
    """While the error is active PROD may go back to CONS; acknowledged, the queue is empty and works."""
    bench = Bench()
    queue = bench.arm()
    bench.memory.write(BASE, b"\xff")
    queue.write(arm.CMDQ_PROD, 1)
    queue.run()
    queue.write(arm.CMDQ_PROD, 0)
    queue.write(arm.GERRORN, 1)
    submit_arm(bench, queue, SYNC)
    assert (bench.word, queue.stopped) == (0x51, False)


def test_smmu_command_without_memory() -> None:
    """A command that cannot be read is CERROR_ABT."""
    bench = Bench()
    queue = arm.CommandQueue(bench.memory, bench.carry_out, bench.interrupt)
    queue.write(arm.CMDQ_BASE, 0x7000_0000 | 4)
    queue.write(arm.CMDQ_PROD, 1)
    queue.write(arm.CR0, arm.CMDQEN)
    queue.run()
    assert (queue.read(arm.CMDQ_CONS), queue.read(arm.GERROR)) == (2 << 24, 1)


def test_smmu_message_without_memory_is_an_error_of_its_own() -> None:
    """A message that cannot be stored sets GERROR bit 4; the queue goes on."""
    bench = Bench()
    queue = bench.arm()
    submit_arm(bench, queue, {**SYNC, "msiaddr": 0x9000_0000}, SYNC)
    assert (queue.read(arm.GERROR), queue.read(arm.CMDQ_CONS), bench.word) == (1 << 4, 2, 0x51)


def test_smmu_silent_device_fails_the_sync() -> None:
    """An ATC_INV that was not answered is CERROR_ATC_INV_SYNC at the SYNC, which stores nothing until retried."""
    bench = Bench(answers=False)
    queue = bench.arm()
    submit_arm(bench, queue, {"op": 0x40, "sid": 0x310, "size": 52}, SYNC)
    assert (queue.read(arm.CMDQ_CONS), queue.read(arm.GERROR), bench.word) == (3 << 24 | 1, 1, 0)
    queue.write(arm.GERRORN, 1)
    queue.run()
    assert (queue.read(arm.CMDQ_CONS) & 0xFFFFF, bench.word) == (2, 0x51)


def test_smmu_base_and_cons_are_for_a_queue_that_is_off() -> None:
    """CMDQ_BASE and CMDQ_CONS are guarded by CMDQEN, which CR0ACK follows; the base is aligned to the size."""
    bench = Bench()
    queue = bench.arm()
    queue.write(arm.CMDQ_BASE, 0)
    queue.write(arm.CMDQ_CONS, 5)
    assert (queue.read(arm.CMDQ_BASE), queue.read(arm.CMDQ_CONS), queue.read(arm.CR0ACK)) == (
        BASE | 8,
        0,
        arm.CMDQEN,
    )
    queue.write(arm.CR0, 0)
    queue.write(arm.CMDQ_BASE, BASE | 0x20 | 8)
    queue.write(arm.CR0, arm.CMDQEN)
    submit_arm(bench, queue, SYNC)
    assert bench.word == 0x51
