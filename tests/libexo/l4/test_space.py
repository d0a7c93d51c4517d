"""An address space by itself: accesses by address, page faults, what may be mapped where."""

import pytest

from kernel.abi.errors import Refusal
from kernel.abi.space import UTCB_AREA
from libexo import l4
from libexo.l4.space.buffers import BUFFERS, BadAddress
from libexo.l4.space.space import space_of
from tests.kernel.puppets import refusal
from tests.libexo.l4.spaces import BASE, PAGE, fpage, sides

HOLE = BASE + PAGE


def test_what_was_stored_is_loaded() -> None:
    """An access may run over several extents that lie next to one another."""
    with sides(1) as (a,):
        a.carve(BASE, 2)
        a.carve(BASE + 2 * PAGE)
        a.space.store(BASE + 2 * PAGE - 3, b"across")

        assert a.space.load(BASE + 2 * PAGE - 3, 6) == b"across"
        assert [len(piece) for piece in a.space.view(BASE + PAGE, 2 * PAGE)] == [PAGE, PAGE]
        assert a.space.load(BASE, 0) == b""


def test_one_space_for_an_environment() -> None:
    """All requests for the space of an environment return the same one."""
    with sides() as (a, b):
        assert space_of(a.puppet.env) is a.space
        assert space_of(b.puppet.env) is not a.space


def test_views_are_as_the_access_asks() -> None:
    """A view for reading is read-only, one for writing is the memory itself."""
    with sides(1) as (a,):
        a.carve(BASE)
        (read,) = a.space.view(BASE, 8)
        (write,) = a.space.view(BASE, 8, l4.ReadWriteOnly)
        write[:2] = b"hi"

        assert (read.readonly, write.readonly, bytes(read[:2])) == (True, False, b"hi")


def test_a_fault_where_nothing_is_mapped() -> None:
    """The handler is told the very address and the access, and when it has mapped something the access goes on."""
    with sides(1) as (a,):
        faults = []

        def fault(address: int, access: int) -> None:
            faults.append((address, access))
            a.carve(address // PAGE * PAGE)

        a.carve(BASE)
        a.space.fault = fault
        a.space.store(HOLE - 2, b"over the edge")
        a.space.load(HOLE + PAGE + 5, 1)

        assert faults == [(HOLE, l4.Writable), (HOLE + PAGE + 5, l4.Readable)]
        assert a.space.load(HOLE - 2, 13) == b"over the edge"


def test_a_fault_is_tried_again_until_it_helps() -> None:
    """A pager that answers without memory is asked again, as X.2's is."""
    with sides(1) as (a,):
        answers = []

        def fault(address: int, access: int) -> None:
            answers.append(address)
            if len(answers) == 3:
                a.carve(BASE)

        a.space.fault = fault

        assert a.space.load(BASE, 1) == b"\0"
        assert answers == [BASE] * 3


def test_a_fault_within_a_fault() -> None:
    """A fault handler may fault itself."""
    with sides(1) as (a,):
        order = []

        def fault(address: int, access: int) -> None:
            order.append(address)
            if address == BASE:
                a.space.load(HOLE, 1)
            a.carve(address)

        a.space.fault = fault
        a.space.load(BASE, 1)

        assert order == [BASE, HOLE]


def test_a_missing_right_faults() -> None:
    """A write to what may only be read is a fault for writing; a handler may map it again with the right."""
    with sides(1) as (a,):
        handle = a.sys.carve(a.puppet.handles[0], 1).extent
        a.space.map(BASE, a.sys.derive(handle, l4.Readable), PAGE, l4.Readable)
        faults = []

        def fault(address: int, access: int) -> None:
            faults.append((address, access))
            a.space.map(BASE, handle, PAGE, 31)

        a.space.fault = fault
        found = a.space.load(BASE, 1)
        a.space.store(BASE, b"!")

        assert (found, faults) == (b"\0", [(BASE, l4.Writable)])


def test_a_view_is_present_all_at_once() -> None:
    """When a fault further on unmaps an earlier part, the view is made again."""
    with sides(1) as (a,):
        faults = []

        def fault(address: int, access: int) -> None:
            faults.append(address)
            if address == HOLE:
                a.space.unmap([fpage(BASE)], flush=True)
            a.carve(address, fill=b"%d" % len(faults))

        a.carve(BASE)
        a.space.fault = fault
        found = a.space.view(BASE, 2 * PAGE)

        assert faults == [HOLE, BASE]
        assert [bytes(piece[:1]) for piece in found] == [b"2", b"1"]


def test_without_a_pager() -> None:
    """A fault that nothing handles is an error that says where."""
    with sides(1) as (a,):
        with pytest.raises(BadAddress, match=hex(BASE)):
            a.space.load(BASE, 1)
        with pytest.raises(BadAddress, match="not all in the address space"):
            a.space.load((1 << 64) - 1, 2)


def test_buffers_are_always_present() -> None:
    """A Python buffer is read and written by its address, without a fault; behind it no fault can help."""
    with sides(1) as (a,):
        data = bytearray(b"hello")
        at = a.space.buffer(data)
        a.space.fault = lambda address, access: pytest.fail("a fault in a buffer")
        a.space.store(at, b"J")

        assert a.space.load(at, 5) == bytes(data) == b"Jello"
        with pytest.raises(BadAddress, match="no buffer"):
            a.space.load(at, 6)
        a.space.forget(at)
        with pytest.raises(BadAddress, match="no buffer"):
            a.space.load(at, 1)


def test_mapping_over_something() -> None:
    """A mapping over an extent takes its place: the extent is given up, unless part of it still shows."""
    with sides(1) as (a,):
        a.carve(BASE, 3, fill=b"old")
        a.carve(HOLE, fill=b"new")
        partly = a.extents
        a.carve(BASE, 4, fill=b"all")

        assert (partly, a.extents) == (2, 1)
        assert a.shown == [(BASE, 4 * PAGE)]
        assert a.space.load(BASE, 3) == b"all"


def test_mappings_that_cannot_be() -> None:
    """Ranges that are no pages, reserved ones, and an extent that is mapped already are refused."""
    with sides(1) as (a,):
        handle = a.carve(BASE)
        a.space.reserve(HOLE, PAGE)
        for address, size in (
            (BASE + 1, PAGE),
            (BASE, PAGE - 1),
            (HOLE, PAGE),
            (BASE, 2 * PAGE),
            (BUFFERS, PAGE),
            (UTCB_AREA.start, PAGE),
        ):
            with pytest.raises(ValueError, match="bytes at"):
                a.space.map(address, handle + 1, size, 31)
        with pytest.raises(ValueError, match="mapped already"):
            a.space.map(BASE + 4 * PAGE, handle, PAGE, 31)

        assert a.shown == [(BASE, PAGE)]


def test_reserving_gives_up_what_is_there() -> None:
    """A range that becomes a KIP or UTCB area shows nothing that can be mapped."""
    with sides(1) as (a,):
        handle = a.carve(BASE)
        a.space.reserve(BASE, 16 * PAGE)

        assert a.shown == []
        assert refusal(a.sys.inspect, handle) in (Refusal.BAD_HANDLE, Refusal.STALE_HANDLE)


def test_memory_that_cannot_be_read() -> None:
    """A capability without the right to read cannot be mapped by the host: every access faults."""
    with sides(1) as (a,):
        handle = a.sys.carve(a.puppet.handles[0], 1).extent
        a.space.map(BASE, a.sys.derive(handle, l4.Writable), PAGE, l4.Writable)

        assert not a.writes(BASE, b"x")
        assert a.reads(BASE) is None
