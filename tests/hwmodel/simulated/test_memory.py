"""RAM of the simulated machine: zeros, junk, replacement, and refusals that mean the kernel is wrong."""

from collections.abc import Callable

import pytest

from hwmodel.machine import do
from hwmodel.simulated.descriptors import Ledger, MemoryTarget, SimulatedDescriptor
from hwmodel.simulated.memory import SimulatedBacking, SimulatedMemory
from kernel.abi.limits import FRAME_SIZE


def seal(backing: SimulatedBacking) -> None:
    """Seal it, and take the old memory from everybody."""
    descriptor, cut = backing.seal()
    descriptor.close()
    do(cut)


def region_of(descriptor: SimulatedDescriptor) -> memoryview:
    target = descriptor.use()
    assert isinstance(target, MemoryTarget)
    return target.region.map(FRAME_SIZE, writable=True).take()


def test_new_frames_are_zero() -> None:
    """Frames nobody used before read as zeros, asked or not."""
    backing = SimulatedMemory(4, Ledger()).carve(0, 4, zero=False)
    assert not any(backing.data)


def test_used_frames_are_junk_unless_zeroed() -> None:
    """Frames used before hold junk, and zeros on request; never what was in them."""
    memory = SimulatedMemory(4, Ledger())
    first = memory.carve(1, 1, zero=True)
    first.data[:6] = b"secret"
    do(first.release())
    again = memory.carve(0, 2, zero=False)
    do(again.fill())
    assert (set(again.data[:FRAME_SIZE]), set(again.data[FRAME_SIZE:])) == ({0}, {0xA5})
    do(again.release())
    assert not any(memory.carve(1, 1, zero=True).data)


def test_replace_keeps_contents_and_ends_mappings() -> None:
    """After a replacement old mappings raise, and new ones see the same bytes."""
    backing = SimulatedMemory(1, Ledger()).carve(0, 1, zero=True)
    old = region_of(backing.descriptor(writable=True))
    old[0] = 42
    do(backing.copy())
    do(backing.replace())
    with pytest.raises(ValueError, match="released"):
        bytes(old)
    assert region_of(backing.descriptor(writable=True))[0] == 42


def test_release_ends_mappings_and_frees_frames() -> None:
    """Released frames can be carved again, and their old mappings raise. Twice is harmless."""
    memory = SimulatedMemory(1, Ledger())
    backing = memory.carve(0, 1, zero=True)
    view = region_of(backing.descriptor(writable=True))
    do(backing.release())
    do(backing.release())
    with pytest.raises(ValueError, match="released"):
        bytes(view)
    assert memory.carved() == 0


def test_sealing_ends_mappings() -> None:
    """Sealed memory is new and reads as zeros; old mappings raise."""
    backing = SimulatedMemory(1, Ledger()).carve(0, 1, zero=True)
    old = region_of(backing.descriptor(writable=True))
    old[0] = 42
    seal(backing)
    with pytest.raises(ValueError, match="released"):
        bytes(old)
    assert region_of(backing.descriptor(writable=True))[0] == 0


@pytest.mark.parametrize("end", [lambda backing: do(backing.release()), SimulatedBacking.unseal])
def test_sealed_memory_is_left_to_its_holders(end: Callable[[SimulatedBacking], None]) -> None:
    """When the kernel is done with it, its mappings read what was there, can be written, and are nobody else's."""
    memory = SimulatedMemory(1, Ledger())
    backing = memory.carve(0, 1, zero=True)
    seal(backing)
    view = region_of(backing.descriptor(writable=True))
    view[0] = 42
    end(backing)
    view[1] = 1
    do(backing.release())
    do(backing.release())

    assert (view[0], view[1], memory.carved()) == (42, 1, 0)
    assert not any(memory.carve(0, 1, zero=True).data)


def test_unsealed_memory_can_be_taken_back() -> None:
    """It is new memory, and its mappings raise when it is released."""
    backing = SimulatedMemory(1, Ledger()).carve(0, 1, zero=True)
    seal(backing)
    backing.unseal()
    view = region_of(backing.descriptor(writable=True))
    assert view[0] == 0
    do(backing.release())
    with pytest.raises(ValueError, match="released"):
        bytes(view)


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 0), (3, 2), (1, 1)])
def test_wrong_carve_is_the_kernels_fault(first: int, count: int) -> None:
    """Frames outside RAM, or carved already, are refused loudly."""
    memory = SimulatedMemory(4, Ledger())
    memory.carve(1, 1, zero=True)
    with pytest.raises(ValueError, match="frames"):
        memory.carve(first, count, zero=True)


def test_ledger_names_open_descriptors() -> None:
    """The ledger lists what is open, duplicates too, until closed; closing twice is harmless."""
    ledger = Ledger()
    first = SimulatedMemory(1, ledger).carve(0, 1, zero=True).descriptor(writable=False)
    second = first.duplicate()
    first.close()
    first.close()
    assert [str(entry) for entry in ledger.all()] == ["<memory descriptor 2 of kernel>"]
    assert not second.writable
    with pytest.raises(OSError, match="closed"):
        first.duplicate()
