"""Mapping extents: views, and what becomes of them."""

from contextlib import suppress

from libexo import vm
from libexo.extent import Extent
from tests.kernel.puppets import Puppet, faults, theatre
from tests.libexo import moves


def carved(puppet: Puppet, pages: int = 1) -> Extent:
    made = puppet.sys.carve(puppet.handles[0], pages)
    return Extent(made.extent, pages, made.first)


def lent(a: Puppet, b: Puppet, extent: Extent) -> int:
    """Share *extent* read-only; return the handle in b's table."""
    return b.sys.accept(a.thread, a.sys.transfer(extent.handle, b.thread, 4)).handle


def test_a_view_is_the_whole_extent() -> None:
    """A view has the bytes of all pages, writable as the extent is."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        extent = carved(a, 3)
        view = vm.map(a.env, extent)

        assert (len(view), extent.size, view.readonly, extent.writable) == (12288, 12288, False, True)
        assert not extent.read_only().writable


def test_unmapped() -> None:
    """After unmap the view must not be used, and raises."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        view = vm.map(a.env, carved(a))
        vm.unmap(a.env, view)

        assert faults(view)


def test_moved_behind_its_back() -> None:
    """When another owner revokes a share, one's own view goes on after the next message of the kernel."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carved(a)
        view = vm.map(a.env, extent)
        view[0] = 5
        b.env.views.map(lent(a, b, extent))
        vm.revoke(a.env, extent, seconds=0.001)
        stage.pass_time(2)
        lost = faults(view)
        moves.pump_gate(a.env)

        assert (lost, view[0]) == (True, 5)


def test_revoke_of_what_is_not_mapped() -> None:
    """An owner without a view closes what comes back; nothing is left open."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carved(a)
        view = vm.map(a.env, extent)
        b.env.views.map(lent(a, b, extent))
        del view

        assert vm.revoke(a.env, extent) == 1


def test_what_was_derived_goes_on() -> None:
    """After one's own revocation every slice and cast goes on, the view itself being gone, of each mapping."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carved(a)
        words = vm.map(a.env, extent).cast("Q")
        part = vm.map(a.env, extent)[8:16]
        words[0], part[0] = 5, 7
        theirs = b.env.views.map(lent(a, b, extent))
        vm.revoke(a.env, extent)
        words[2] = 9

        assert faults(theirs)
        assert (words[0], part[0], words[1], words[2]) == (5, 7, 7, 9)
        assert vm.map(a.env, extent)[16] == 9


def test_what_was_derived_goes_on_when_told() -> None:
    """The same when the kernel says that the memory moved; what was unmapped stays so."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carved(a)
        words, gone = vm.map(a.env, extent).cast("Q"), vm.map(a.env, extent)
        words[0] = 5
        vm.unmap(a.env, gone)
        b.env.views.map(lent(a, b, extent))
        vm.revoke(a.env, extent, seconds=0.001)
        stage.pass_time(2)
        moves.pump_gate(a.env)

        assert (words[0], faults(gone)) == (5, True)


def test_a_handle_that_went_meanwhile() -> None:
    """A capability dropped before the kernel's word that its memory moved is handled leaves nothing to be done."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carved(a)
        words = vm.map(a.env, extent).cast("Q")
        b.env.views.map(lent(a, b, extent))
        vm.revoke(a.env, extent, seconds=0.001)
        stage.pass_time(2)
        a.sys.drop(extent.handle)
        moves.pump_gate(a.env)

        assert faults(words)


def test_nothing_is_kept_of_mappings_that_are_gone() -> None:
    """However many extents come and go, what is known of them stays small."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        for _ in range(500):
            extent = carved(a)
            vm.map(a.env, extent)[0] = 1
            a.sys.drop(extent.handle)

        assert len(a.env.views._mappings) < 100


def test_a_released_view_is_unmapped() -> None:
    """To unmap what was released already is no error; the other mappings of the handle stay."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        extent = carved(a)
        one, other = vm.map(a.env, extent), vm.map(a.env, extent)
        one.release()
        with suppress(ValueError):
            vm.unmap(a.env, one)
        other[0] = 3

        assert other[0] == 3
