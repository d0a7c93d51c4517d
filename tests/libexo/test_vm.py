"""Mapping extents: views, and what becomes of them."""

from libexo import vm
from libexo.extent import Extent
from tests.kernel.puppets import Puppet, faults, theatre


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
        a.env.thread.core.pump_gate()

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
