"""Memory of the real machine: what a holder can, and cannot, do to it."""

import faulthandler
import fcntl
import mmap
import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from hwmodel.machine import Exhausted, do
from hwmodel.real.descriptor import RealDescriptor
from hwmodel.real.memory import JUNK, RealBacking, RealMemory
from hwmodel.real.page import RealPage
from kernel.abi.limits import FRAME_SIZE

pytestmark = pytest.mark.system
NOBODY = 65534


def seal(extent: RealBacking) -> None:
    """Seal it, and take the old memory from everybody."""
    descriptor, cut = extent.seal()
    descriptor.close()
    do(cut)


def mapped(descriptor: RealDescriptor, size: int, *, writable: bool = True) -> mmap.mmap:
    """Map, as a program does: the descriptor is consumed."""
    try:
        return mmap.mmap(descriptor.number, size, prot=mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0))
    finally:
        descriptor.close()


def in_child(work: Callable[[], object]) -> int:
    """Do *work* in a child; return its exit status, or minus the signal it died of."""
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()
        code = 0
        try:
            work()
        except BaseException:  # noqa: BLE001 - any failure is a status
            code = 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def as_nobody(work: Callable[[], object]) -> int:
    def change_and_work() -> None:
        os.setresuid(NOBODY, NOBODY, NOBODY)
        work()

    return in_child(change_and_work)


def test_all_holders_see_the_same_bytes() -> None:
    """Two mappings of one extent are one memory."""
    extent = RealMemory(4).carve(0, 2, zero=True)
    with (
        mapped(extent.descriptor(writable=True), 2 * FRAME_SIZE) as one,
        mapped(extent.descriptor(writable=False), 2 * FRAME_SIZE, writable=False) as other,
    ):
        one[FRAME_SIZE] = 7

        assert other[FRAME_SIZE] == 7


def test_a_read_only_descriptor_cannot_be_mapped_for_writing() -> None:
    """The host refuses the mapping."""
    extent = RealMemory(1).carve(0, 1, zero=True)

    with pytest.raises(PermissionError):
        mapped(extent.descriptor(writable=False), FRAME_SIZE)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second uid")
def test_another_uid_cannot_open_a_read_only_descriptor_again_for_writing() -> None:
    """The way round through /proc/self/fd is shut by the file's owner and mode."""
    extent = RealMemory(1).carve(0, 1, zero=True)
    descriptor = extent.descriptor(writable=False)

    status = as_nobody(lambda: os.open(f"/proc/self/fd/{descriptor.number}", os.O_RDWR))

    assert status == 1
    descriptor.close()


def test_a_holder_cannot_make_an_extent_grow() -> None:
    """Neither by its size nor by writing behind its end."""
    extent = RealMemory(1).carve(0, 1, zero=True)
    descriptor = extent.descriptor(writable=True)

    with pytest.raises(PermissionError):
        os.ftruncate(descriptor.number, 1 << 30)
    with pytest.raises(PermissionError):
        os.pwrite(descriptor.number, b"x", FRAME_SIZE)
    descriptor.close()


def test_released_memory_is_a_bus_error_for_every_holder() -> None:
    """Forced revocation needs no help of the holder's."""
    extent = RealMemory(1).carve(0, 1, zero=True)
    with mapped(extent.descriptor(writable=True), FRAME_SIZE) as memory:
        memory[0] = 1
        do(extent.release())

        assert in_child(lambda: memory[0]) == -signal.SIGBUS


def test_replaced_memory_keeps_its_contents_and_loses_its_holders() -> None:
    """A new mapping reads what was there; the old one is a bus error."""
    extent = RealMemory(1024).carve(0, 1024, zero=True)
    size = 1024 * FRAME_SIZE
    with mapped(extent.descriptor(writable=True), size) as old:
        old[5 * FRAME_SIZE : 5 * FRAME_SIZE + 3] = b"abc"
        old[size - 1] = 9
        do(extent.copy())
        do(extent.replace())
        with mapped(extent.descriptor(writable=True), size) as new:
            found = new[5 * FRAME_SIZE : 5 * FRAME_SIZE + 3], new[size - 1], new[0]

        assert found == (b"abc", 9, 0)
        assert in_child(lambda: old[0]) == -signal.SIGBUS


def test_memory_that_a_holder_cut_short_can_still_be_replaced() -> None:
    """The part that a holder cut off reads as zeros."""
    extent = RealMemory(2).carve(0, 2, zero=True)
    descriptor = extent.descriptor(writable=True)
    os.ftruncate(descriptor.number, FRAME_SIZE)
    descriptor.close()

    do(extent.copy())
    do(extent.replace())

    with mapped(extent.descriptor(writable=True), 2 * FRAME_SIZE) as memory:
        assert memory[2 * FRAME_SIZE - 1] == 0


def test_sealed_memory_cannot_be_cut_by_a_holder() -> None:
    """Neither by its size, nor by opening it again, nor by taking the seal off, nor made to grow."""
    extent = RealMemory(3).carve(0, 3, zero=True)
    seal(extent)
    descriptor = extent.descriptor(writable=True)
    path = f"/proc/self/fd/{descriptor.number}"

    with mapped(descriptor.duplicate(), 3 * FRAME_SIZE) as memory:
        memory[-1] = 7
        for size in (0, FRAME_SIZE, 4 * FRAME_SIZE):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor.number, size)
        with pytest.raises(PermissionError):
            os.open(path, os.O_RDWR | os.O_TRUNC)
        with pytest.raises(PermissionError):
            fcntl.fcntl(descriptor.number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        assert memory[-1] == 7
    descriptor.close()


def test_sealing_takes_the_old_memory_from_everybody() -> None:
    """The sealed memory is new and reads as zeros; a mapping of the old is a bus error."""
    extent = RealMemory(1).carve(0, 1, zero=True)
    with mapped(extent.descriptor(writable=True), FRAME_SIZE) as old:
        old[0] = 1
        seal(extent)
        with mapped(extent.descriptor(writable=True), FRAME_SIZE) as new:
            assert new[0] == 0
        assert in_child(lambda: old[0]) == -signal.SIGBUS


@pytest.mark.parametrize("end", [lambda extent: do(extent.release()), RealBacking.unseal])
def test_sealed_memory_is_left_to_its_holders(end: Callable[[RealBacking], None]) -> None:
    """When the kernel is done with it, its holder reads what was there, and may write."""
    extent = RealMemory(16).carve(0, 16, zero=True)
    seal(extent)
    with mapped(extent.descriptor(writable=True), 16 * FRAME_SIZE) as memory:
        memory[:] = b"x" * len(memory)
        end(extent)
        memory[5] = 5

        assert memory[:7] == b"xxxxx\5x"
    do(extent.release())


def test_unsealed_memory_is_as_any_other() -> None:
    """It is new, of zeros, nobody else's, and can be taken away."""
    extent = RealMemory(1).carve(0, 1, zero=True)
    seal(extent)
    with mapped(extent.descriptor(writable=True), FRAME_SIZE) as sealed:
        sealed[0] = 1
        extent.unseal()
        with mapped(extent.descriptor(writable=True), FRAME_SIZE) as memory:
            sealed[1] = 1
            assert memory[:2] == bytes(2)
            do(extent.release())
            assert in_child(lambda: memory[0]) == -signal.SIGBUS


def test_sealing_when_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has changed: contents and mappings are there."""
    extent = RealMemory(1).carve(0, 1, zero=True)
    with mapped(extent.descriptor(writable=True), FRAME_SIZE) as memory:
        memory[0] = 1
        monkeypatch.setattr("hwmodel.real.descriptor.RESERVE", 1 << 40)
        with pytest.raises(Exhausted):
            seal(extent)
        monkeypatch.undo()

        assert memory[0] == 1
        seal(extent)
        assert in_child(lambda: memory[0]) == -signal.SIGBUS


def test_only_frames_that_were_used_before_hold_junk() -> None:
    """Frame 1 was used, its neighbours were not; with zero, nobody can tell."""
    memory = RealMemory(3)
    do(memory.carve(1, 1, zero=True).release())

    carved = memory.carve(0, 3, zero=False)
    do(carved.fill())
    with mapped(carved.descriptor(writable=False), 3 * FRAME_SIZE, writable=False) as found:
        frames = [found[n * FRAME_SIZE : (n + 1) * FRAME_SIZE] for n in range(3)]
    again = memory.carve(1, 1, zero=True)
    with mapped(again.descriptor(writable=False), FRAME_SIZE, writable=False) as found:
        zeroed = found[:]

    assert frames == [bytes(FRAME_SIZE), JUNK * FRAME_SIZE, bytes(FRAME_SIZE)]
    assert zeroed == bytes(FRAME_SIZE)


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 0), (3, 2), (5, 1)])
def test_frames_that_are_not_there_cannot_be_carved(first: int, count: int) -> None:
    """A range outside RAM is an error of the caller's."""
    with pytest.raises(ValueError, match="no frames"):
        RealMemory(4).carve(first, count, zero=True)


def test_a_writable_page_cannot_be_cut_short() -> None:
    """Else a program could have the kernel die of a bus error in its own environment page."""
    page = RealPage("environment", FRAME_SIZE)
    descriptor = page.descriptor(writable=True)

    with pytest.raises(PermissionError):
        os.ftruncate(descriptor.number, 0)
    with mapped(descriptor, FRAME_SIZE) as theirs:
        theirs[8] = 5
        assert page.buffer[8] == 5
    page.close()


def test_a_published_page_is_a_file_everybody_may_read(tmp_path: Path) -> None:
    """The kernel's later writes, through its earlier buffer, are seen; only the kernel writes."""
    page = RealPage("kip", 3 * FRAME_SIZE)
    buffer = page.buffer
    buffer[0] = 1
    path = tmp_path / "kip"

    page.publish(str(path))
    struct.pack_into("<Q", buffer, FRAME_SIZE, 77)

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as reader:
        assert (reader[0], *struct.unpack_from("<Q", reader, FRAME_SIZE)) == (1, 77)
    with mapped(page.descriptor(writable=False), 3 * FRAME_SIZE, writable=False) as reader:
        assert reader[FRAME_SIZE] == 77
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(ValueError, match="kernel only"):
        page.descriptor(writable=True)
    page.close()
    assert not path.exists()


def test_a_descriptor_closes_once() -> None:
    """Its number may be somebody else's after the first time."""
    reading, writing = os.pipe()
    descriptor = RealDescriptor(reading)
    copy = descriptor.duplicate()
    descriptor.close()
    other = os.dup(writing)

    descriptor.close()

    assert os.fstat(other)
    copy.close()
    os.close(other)
    os.close(writing)


def test_a_copy_nobody_wants_is_closed_by_the_closer() -> None:
    """Freeing it takes as long as it is large, so it is not done in the caller's turn."""
    given: list[int] = []
    extent = RealMemory(4, given.append).carve(0, 4, zero=True)
    do(extent.copy())
    extent.forget_copy()
    extent.forget_copy()

    assert [os.fstat(number).st_size for number in given] == [4 * FRAME_SIZE]
    os.close(given[0])


def test_a_word() -> None:
    """The kernel reads what a holder stored, zeros of a hole and of memory to come, and nothing of what was cut."""
    extent = RealBacking(0, 2)
    descriptor = extent.descriptor(writable=True)
    with mapped(extent.descriptor(writable=True), 2 * FRAME_SIZE) as view:
        struct.pack_into("<Q", view, FRAME_SIZE + 16, (1 << 63) + 5)
        found = [extent.word(at) for at in (FRAME_SIZE + 16, 0, 2 * FRAME_SIZE - 8, 2 * FRAME_SIZE)]
    os.ftruncate(descriptor.number, FRAME_SIZE)
    descriptor.close()
    cut = [extent.word(0), extent.word(FRAME_SIZE + 16)]
    do(extent.replace())

    assert found == [(1 << 63) + 5, 0, 0, None]
    assert (cut, extent.word(FRAME_SIZE + 16)) == ([0, None], 0)
    do(extent.release())
