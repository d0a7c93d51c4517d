"""AMD-Vi's command buffer and event log: wrap, completion, errors and restarts."""

import pytest

from hwmodel.iommu import amdvi
from hwmodel.iommu.amdvi import queue as amd
from tests.hwmodel.iommu.bench import BASE, DEVICE, PAGES, Bench, completion, submit_amd


def test_amdvi_wraps_at_the_last_slot() -> None:
    """At 256 entries the pointers go 254, 255, 0; the entries of one synchronisation lie on both sides."""
    bench = Bench()
    queue = bench.amd()
    submit_amd(bench, queue, *[PAGES] * 255)
    assert queue.read(amd.COMMAND_HEAD) == 0xFF0
    submit_amd(bench, queue, PAGES, DEVICE, completion(0x1122334455667788))
    assert (queue.read(amd.COMMAND_TAIL), queue.read(amd.COMMAND_HEAD)) == (0x20, 0x20)
    assert (len(bench.done), bench.word) == (257, 0x1122334455667788)


def test_amdvi_head_moves_before_the_work_is_done() -> None:
    """The head has passed a command that is not done yet."""
    bench = Bench()
    queue = bench.amd()
    queue.write(amd.COMMAND_TAIL, bench.put(0, PAGES, of=amdvi.encode))
    queue.step()
    assert (queue.read(amd.COMMAND_HEAD), bench.done) == (16, [])
    queue.step()
    assert len(bench.done) == 1


def test_amdvi_status_without_interrupt() -> None:
    """ComWaitInt is set for every wait with i; ComWaitIntEn decides only whether that interrupts."""
    for control, interrupts in ((0, []), (amd.WAIT_INTERRUPT, [bytes([7, 0, 0, 0])])):
        bench = Bench()
        queue = bench.amd(control)
        submit_amd(bench, queue, completion(i=1))
        assert (queue.read(amd.STATUS) & amd.WAITED, bench.interrupts) == (amd.WAITED, interrupts)
        queue.write(amd.STATUS, amd.WAITED)
        assert not queue.read(amd.STATUS) & amd.WAITED


@pytest.mark.parametrize("bad", ["1000010000000020", "0000000000000090", "0000000000000000"])
def test_amdvi_stops_on_an_illegal_command_and_goes_on_when_enabled(bad: str) -> None:
    """It is logged with its address, CmdBufRun is 0 and the head on it; mended and enabled, the buffer goes on."""
    bench = Bench()
    queue = bench.amd(amd.LOG_INTERRUPT)
    queue.write(amd.COMMAND_TAIL, bench.put(0, PAGES, completion(1), PAGES, completion(2), of=amdvi.encode))
    bench.memory.write(BASE + 32, bytes.fromhex(bad).ljust(16, b"\0"))
    queue.run()
    assert (queue.read(amd.COMMAND_HEAD), len(bench.done), bench.word) == (32, 1, 1)
    assert not queue.read(amd.STATUS) & amd.COMMANDS_RUN
    assert (bench.event()["code"], bench.event()["address"]) == (5, BASE + 32)
    assert (queue.read(amd.STATUS) & amd.LOGGED, len(bench.interrupts)) == (amd.LOGGED, 1)
    bench.put(32, PAGES, of=amdvi.encode)
    queue.run()
    assert bench.word == 1
    queue.write(amd.CONTROL, amd.IOMMU_ON | amd.LOG_ON)
    queue.write(amd.CONTROL, amd.IOMMU_ON | amd.LOG_ON | amd.COMMANDS_ON)
    queue.run()
    assert (queue.read(amd.COMMAND_HEAD), bench.word) == (64, 2)


def test_amdvi_command_without_memory() -> None:
    """A command that cannot be read, or whose store fails, is COMMAND_HARDWARE_ERROR with its address."""
    bench = Bench()
    queue = bench.amd()
    submit_amd(bench, queue, {"op": 1, "s": 1, "store_addr": 0x9000_0000})
    assert (bench.event()["code"], bench.event()["address"], queue.read(amd.COMMAND_HEAD)) == (6, BASE, 0)
    queue.write(amd.COMMAND_BASE, 8 << 56 | 0x7000_0000)
    queue.write(amd.CONTROL, amd.IOMMU_ON | amd.LOG_ON)
    queue.write(amd.CONTROL, amd.IOMMU_ON | amd.LOG_ON | amd.COMMANDS_ON)
    queue.write(amd.COMMAND_TAIL, 16)
    queue.run()
    assert (bench.event(1)["code"], bench.event(1)["address"]) == (6, 0x7000_0000)


def test_amdvi_silent_device_starves_the_waits() -> None:
    """After a device that does not answer no wait is done until the buffer is enabled anew."""
    bench = Bench(answers=False)
    queue = bench.amd(2 << 5)
    submit_amd(bench, queue, DEVICE, completion())
    queue.run()
    assert (bench.word, bench.event()["code"], bench.event()["address"]) == (0, 7, BASE)
    assert queue.read(amd.STATUS) & amd.COMMANDS_RUN
    bench.answers = True
    queue.write(amd.CONTROL, amd.IOMMU_ON)
    queue.write(amd.CONTROL, amd.IOMMU_ON | amd.COMMANDS_ON)
    submit_amd(bench, queue, completion(8))
    assert bench.word == 8


def test_amdvi_no_time_out_no_event() -> None:
    """With InvTimeout 0 a silent device is not logged; the wait is not done all the same."""
    bench = Bench(answers=False)
    queue = bench.amd()
    submit_amd(bench, queue, DEVICE, completion())
    assert (bench.word, queue.read(amd.EVENT_TAIL)) == (0, 0)


def test_amdvi_registers_are_guarded_while_it_runs() -> None:
    """Base and head stay as they are while CmdBufRun is 1; a base written later zeroes head and tail."""
    bench = Bench()
    queue = bench.amd()
    submit_amd(bench, queue, PAGES)
    queue.write(amd.COMMAND_BASE, 0)
    queue.write(amd.COMMAND_HEAD, 0x40)
    assert (queue.read(amd.COMMAND_BASE), queue.read(amd.COMMAND_HEAD)) == (8 << 56 | BASE, 16)
    queue.write(amd.CONTROL, 0)
    queue.write(amd.COMMAND_BASE, 7 << 56 | BASE)
    queue.write(amd.CONTROL, amd.IOMMU_ON | amd.COMMANDS_ON)
    assert (queue.read(amd.COMMAND_TAIL), queue.read(amd.STATUS) & amd.COMMANDS_RUN) == (0, 0)


def test_amdvi_full_log_overflows() -> None:
    """A log of 256 holds 255 events; the next sets EventOverflow and stops the log; what was logged stays."""
    bench = Bench()
    queue = bench.amd()
    for number in range(256):
        queue.log({"code": 2, "address": number})
    assert (queue.read(amd.EVENT_TAIL), bench.event(254)["address"]) == (0xFF0, 254)
    assert queue.read(amd.STATUS) & (amd.OVERFLOW | amd.LOG_RUNS) == amd.OVERFLOW
    queue.write(amd.STATUS, amd.OVERFLOW)
    queue.write(amd.EVENT_HEAD, 0xFF0)
    queue.write(amd.CONTROL, amd.IOMMU_ON)
    queue.write(amd.CONTROL, amd.IOMMU_ON | amd.LOG_ON)
    queue.log({"code": 2, "address": 300})
    assert (bench.event(255)["address"], queue.read(amd.EVENT_TAIL)) == (300, 0)
