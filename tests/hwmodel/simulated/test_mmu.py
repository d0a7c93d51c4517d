"""Mappings of the simulated machine can be taken away, and put back, under the views a program holds."""

import ctypes
import struct

import pytest

from hwmodel.simulated.mmu import JUNK, BusError, Mapping, Region, is_bus_error


def mapped(*, writable: bool = True) -> tuple[Region, Mapping, memoryview]:
    region = Region(8192)
    mapping = region.map(4096, writable=writable)
    return region, mapping, mapping.take()


def test_mappings_share() -> None:
    """Two mappings of one region see each other's writes."""
    region, _, view = mapped()
    other = region.map(8192, writable=False).take()
    view[10] = 7
    assert other[10] == 7


def test_read_only() -> None:
    """A read-only mapping cannot be written through."""
    _, _, view = mapped(writable=False)
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1


def test_revoked_view_raises() -> None:
    """After a revocation every access raises, reading and writing."""
    region, _, view = mapped()
    region.revoke()
    with pytest.raises(ValueError, match="released") as caught:
        view[0] = 1
    assert is_bus_error(caught.value)


def test_derived_views_are_revoked_too() -> None:
    """Slices, casts and slices of casts go with the view they were made from, even if that is gone."""
    region, _, view = mapped()
    derived = [view[8:16], view.cast("Q"), view.cast("Q")[1:2], view.toreadonly()]
    del view
    region.revoke()
    for each in derived:
        with pytest.raises(ValueError, match="released"):
            bytes(each)


def test_struct_on_revoked_memory_raises() -> None:
    """C code that asks for the buffer is refused as well."""
    region, _, view = mapped()
    region.revoke()
    with pytest.raises((ValueError, TypeError)):
        struct.pack_into("<Q", view, 0, 1)


def test_revoked_region_is_junk_and_cannot_be_mapped() -> None:
    """Taken memory is overwritten, and a descriptor that is still held leads nowhere."""
    region, _, _ = mapped()
    region.revoke()
    assert set(region.data) == {JUNK}
    with pytest.raises(BusError):
        region.map(1, writable=False)


def test_move_revives_views_with_the_new_memory() -> None:
    """After a remap the old views, and those derived from them, show the new memory."""
    region, mapping, view = mapped()
    words = view.cast("Q")
    region.revoke()
    new = Region(4096)
    mapping.move(new, writable=True)
    words[1] = 0x1234
    assert new.data[8:10] == b"\x34\x12"
    assert view[8] == 0x34


def test_moved_mapping_is_revoked_with_its_new_memory() -> None:
    """A mapping belongs to the memory it was moved to."""
    _, mapping, view = mapped()
    new = Region(4096)
    mapping.move(new, writable=True)
    new.revoke()
    with pytest.raises(ValueError, match="released"):
        bytes(view)


def test_a_mapping_that_moved_to_a_region_twice() -> None:
    """Loses it once: where it is moved after that, its views show that memory."""
    _, mapping, view = mapped()
    new, last = Region(4096), Region(4096)
    mapping.move(new, writable=True)
    mapping.move(new, writable=True)
    new.revoke()
    mapping.move(last, writable=True)
    view[8] = 7
    assert last.data[8] == 7


def test_move_to_read_only_memory() -> None:
    """A remap without the right to write makes the views read-only."""
    region, mapping, view = mapped()
    region.revoke()
    mapping.move(Region(4096), writable=False)
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1


def test_a_view_its_owner_released_stays_released() -> None:
    """A remap does not revive what the program itself gave up."""
    region, mapping, view = mapped()
    part = view[:8]
    part.release()
    region.revoke()
    mapping.move(Region(4096), writable=True)
    assert view[0] == 0
    with pytest.raises(ValueError, match="released"):
        bytes(part)


def test_exported_buffer_survives_on_orphaned_memory() -> None:
    """An array made of a view keeps its pointer valid, and sees junk."""
    region, mapping, view = mapped()
    mapping.move(Region(4096), writable=True)
    exported = (ctypes.c_ubyte * 4096).from_buffer(view)
    region = mapping._region
    region.revoke()
    del region
    assert exported[0] == JUNK


def test_unused_mappings_are_forgotten() -> None:
    """A region does not remember mappings whose views are all gone."""
    region = Region(4096)
    for _ in range(10):
        region.map(4096, writable=True).take()
    assert len(region._mappings) == 1
