"""VT-d's invalidation queue: wrap, completion, errors and restarts."""

import pytest

from hwmodel.iommu import vtd
from hwmodel.iommu.vtd import queue as intel
from tests.hwmodel.iommu.bench import BASE, FLUSH, WORD, Bench, submit_vtd, wait


def test_vtd_wraps_at_the_last_slot() -> None:
    """From index 254 an invalidation and its wait end the lap: the tail is 0, and so is the head afterwards."""
    bench = Bench()
    queue = bench.vtd()
    submit_vtd(bench, queue, *[FLUSH] * 254)
    submit_vtd(bench, queue, FLUSH, wait())
    assert (queue.read(intel.IQT), queue.read(intel.IQH), bench.word, len(bench.done)) == (0, 0, 2, 255)


def test_vtd_head_moves_before_the_work_is_done() -> None:
    """The head has passed a descriptor that is not done yet; the word of the wait proves that it is."""
    bench = Bench()
    queue = bench.vtd()
    queue.write(intel.IQT, bench.put(0, FLUSH, wait(), of=vtd.encode))
    queue.step()
    assert (queue.read(intel.IQH), bench.done) == (16, [])
    queue.step()
    queue.step()
    assert (queue.read(intel.IQH), len(bench.done), bench.word) == (32, 1, 0)
    queue.step()
    assert bench.word == 2


def test_vtd_stores_before_the_event_and_tells_once() -> None:
    """A wait with both stores first; while IWC is set there is no other event; a masked one is pending."""
    bench = Bench()
    queue = bench.vtd()
    queue.write(intel.IECTL, 0)
    submit_vtd(bench, queue, wait(9, IF=1), wait(10, IF=1))
    assert bench.interrupts == [bytes([9, 0, 0, 0])]
    queue.write(intel.ICS, intel.IWC)
    queue.write(intel.IECTL, intel.IM)
    submit_vtd(bench, queue, wait(11, IF=1))
    assert (len(bench.interrupts), queue.read(intel.IECTL)) == (1, intel.IM | intel.IP)
    queue.write(intel.IECTL, 0)
    assert (len(bench.interrupts), queue.read(intel.IECTL)) == (2, 0)


def test_vtd_acknowledging_clears_what_is_pending() -> None:
    """IWC that is cleared while the event is masked takes the pending event with it."""
    bench = Bench()
    queue = bench.vtd()
    submit_vtd(bench, queue, wait(IF=1))
    queue.write(intel.ICS, intel.IWC)
    queue.write(intel.IECTL, 0)
    assert bench.interrupts == []


def test_vtd_wait_that_asks_for_nothing_is_legal() -> None:
    """A wait without SW and IF is passed, stores nothing and raises nothing."""
    bench = Bench()
    queue = bench.vtd()
    queue.write(intel.IECTL, 0)
    submit_vtd(bench, queue, {"type": 5, "status_addr": WORD, "status_data": 5})
    assert (queue.read(intel.FSTS), bench.word, bench.interrupts) == (0, 0, [])


@pytest.mark.parametrize(
    ("bad", "code"), [("25020000020000000410007f", 3), ("f2014200", 4), ("0200", 4), ("260010004523", 3)]
)
def test_vtd_stops_on_a_bad_descriptor_and_goes_on_when_told(bad: str, code: int) -> None:
    """Before it all is done, behind it nothing; the head is on it; mended, and IQE cleared, the queue goes on."""
    bench = Bench()
    queue = bench.vtd()
    queue.write(intel.IQT, bench.put(0, FLUSH, wait(1), FLUSH, wait(2), of=vtd.encode))
    bench.memory.write(BASE + 32, bytes.fromhex(bad).ljust(16, b"\0"))
    queue.run()
    assert (queue.read(intel.IQH), len(bench.done), bench.word) == (32, 1, 1)
    assert (queue.read(intel.FSTS), queue.read(intel.IQERCD)) == (intel.IQE, code)
    bench.put(32, FLUSH, of=vtd.encode)
    queue.write(intel.IQT, queue.read(intel.IQT))
    queue.run()
    assert bench.word == 1
    queue.write(intel.FSTS, intel.IQE)
    queue.run()
    assert (queue.read(intel.IQH), len(bench.done), bench.word) == (64, 2, 2)


@pytest.mark.parametrize(
    ("base", "tail", "mode", "code"),
    [
        (BASE, 0x1000, vtd.Mode.LEGACY, 1),
        (BASE, 0x80010, vtd.Mode.LEGACY, 1),
        (BASE, 0x18, vtd.Mode.LEGACY, 1),
        (BASE | 8, 0x20, vtd.Mode.LEGACY, 4),
        (BASE, 0x20, vtd.Mode.SCALABLE, 5),
        (BASE | 1 << 11, 0x30, vtd.Mode.SCALABLE, 6),
        (0x7000_0000, 0x20, vtd.Mode.LEGACY, 2),
        (0xFFFF_FFFF_FFFF_F007, 0x20, vtd.Mode.LEGACY, 4),
    ],
)
def test_vtd_refuses_registers_that_describe_no_queue(
    base: int, tail: int, mode: vtd.Mode, code: int
) -> None:
    """A tail, base, width or memory that does not fit is IQE with its code, and nothing is fetched."""
    bench = Bench()
    queue = bench.vtd(vtd.Unit(mode=mode), base)
    queue.write(intel.IQT, tail)
    queue.run()
    assert (queue.read(intel.FSTS), queue.read(intel.IQERCD), queue.read(intel.IQH)) == (intel.IQE, code, 0)


def test_vtd_wide_queue_steps_by_32() -> None:
    """In a 256-bit queue the pointers count 32 bytes a descriptor, and PASID types are legal in scalable mode."""
    bench = Bench()
    queue = bench.vtd(vtd.UNIT, BASE | 1 << 11)
    tail = bench.put(0, {"type": 6, "granularity": 2, "pasid": 5}, wait(), of=vtd.encode, every=32)
    queue.write(intel.IQT, tail)
    queue.run()
    assert (queue.read(intel.IQH), bench.word, bench.done[0]["pasid"]) == (64, 2, 5)


def test_vtd_store_that_fails_is_no_completion() -> None:
    """A wait whose word has no memory is IQE with the head on it, and raises no event."""
    bench = Bench()
    queue = bench.vtd()
    queue.write(intel.IECTL, 0)
    submit_vtd(bench, queue, FLUSH, {"type": 5, "SW": 1, "IF": 1, "status_addr": 0x9000_0000})
    assert (queue.read(intel.IQH), queue.read(intel.FSTS), bench.interrupts) == (16, intel.IQE, [])


def test_vtd_silent_device_drops_the_wait() -> None:
    """A device that does not answer is named in IQERCD at the next wait, which is passed and not stored."""
    bench = Bench(answers=False)
    queue = bench.vtd()
    submit_vtd(bench, queue, {"type": 3, "sid": 0x310}, wait(1), FLUSH, wait(2))
    assert (queue.read(intel.FSTS), queue.read(intel.IQERCD) >> 32, queue.read(intel.IQH)) == (
        intel.ITE,
        0x310,
        32,
    )
    assert bench.word == 0
    queue.write(intel.FSTS, intel.ITE)
    queue.run()
    assert (bench.word, queue.read(intel.IQH)) == (2, 64)


def test_vtd_base_is_for_a_queue_that_is_off() -> None:
    """IQA is not written while the queue is on; a write sets both pointers to 0, switching the head."""
    bench = Bench()
    queue = bench.vtd()
    submit_vtd(bench, queue, FLUSH)
    queue.write(intel.IQA, 0x20000)
    queue.write(intel.IQH, 0x80)
    assert (queue.read(intel.IQA), queue.read(intel.IQH)) == (BASE, 16)
    queue.write(intel.GCMD, 0)
    assert (queue.read(intel.GSTS), queue.read(intel.IQH), queue.read(intel.IQT)) == (0, 0, 16)
    queue.write(intel.IQA, 0x20000)
    assert queue.read(intel.IQT) == 0
