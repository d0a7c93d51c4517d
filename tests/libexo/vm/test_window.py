"""Windows: extents where their program wants them, by a page table of its choice."""

from collections.abc import Callable

import pytest

from kernel.abi.limits import FRAME_SIZE
from libexo import vm
from libexo.errors import ExoError
from libexo.extent import Extent
from tests.kernel.puppets import Puppet, theatre

TABLES = (vm.Linear, vm.Hierarchical, vm.Inverted)


def carved(puppet: Puppet, pages: int) -> Extent:
    made = puppet.sys.carve(puppet.handles[0], pages)
    return Extent(made.extent, pages, made.first)


@pytest.mark.parametrize("table", TABLES)
def test_what_lies_where(table: Callable[[int], object]) -> None:
    """Extents lie where they were told to, or where there is room first; each page is found again."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        window = vm.reserve(a.env, 100_000, table)
        far, near, next_to = (carved(a, pages) for pages in (3, 2, 4))
        window.map(far, at=90_000)[FRAME_SIZE] = 7
        window.map(near)
        window.map(next_to)

        assert [window.find(page).extent for page in (0, 1, 2, 5, 90_002)] == [
            near,
            near,
            next_to,
            next_to,
            far,
        ]
        assert window.view(90_001, 1)[0] == 7
        assert list(window.table) == [*range(6), *range(90_000, 90_003)]

        window.unmap(1)
        window.map(carved(a, 1), at=1)
        assert list(window.table)[:3] == [1, 2, 3]
        window.close()
        assert len(window.table) == 0


def test_what_is_taken() -> None:
    """Where something lies already, or the window ends, nothing is mapped; where nothing lies, nothing is found."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        window = vm.reserve(a.env, 10)
        window.map(carved(a, 3), at=4)
        extent = carved(a, 5)
        for at, why in (
            (0, "page 4 is mapped"),
            (6, r"6\+5 of a window of 10"),
            (-1, "window"),
            (None, "5 pages"),
        ):
            with pytest.raises(ValueError, match=why):
                window.map(extent, at)
        for use in (
            window.unmap,
            window.find,
            lambda page: window.view(page, 2),
            lambda page: window.protect(page, 1),
        ):
            with pytest.raises(LookupError, match="nothing is mapped at page 3"):
                use(3)

        assert list(window.table) == [4, 5, 6]


def test_protected() -> None:
    """A view with a protected page, or of what may only be read, cannot be written."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carved(a, 4)
        window = vm.reserve(a.env, 10)
        window.map(extent)
        window.protect(1, 2)
        before = [window.view(page, 1).readonly for page in range(4)]
        window.unprotect(2, 1)
        handle = b.sys.accept(a.thread, a.sys.transfer(extent.handle, b.thread, 4)).handle
        other = vm.reserve(b.env, 4)
        other.map(Extent(handle, 4, extent.first, 4))

        assert before == [False, True, True, False]
        assert [window.view(page, 1).readonly for page in range(4)] == [False, True, False, False]
        assert window.view(0, 4).readonly
        assert other.view(0, 1).readonly
        with pytest.raises(ExoError, match="may only be read"):
            other.unprotect(0, 1)


def test_a_view_of_several_on_the_simulated_machine() -> None:
    """There it is refused, and so is a file."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        window = vm.reserve(a.env, 10)
        window.map(carved(a, 2))
        window.map(carved(a, 2))
        window.advise(vm.Advice.WILL_NEED, 0, 4)
        window.advise(vm.Advice.DONT_NEED, 1, 3)

        with pytest.raises(ExoError, match="2 mappings in one view"):
            window.view(0, 4)
        with pytest.raises(ExoError, match="no files"):
            vm.map_file(a.env, "/etc/hostname")
        with pytest.raises(ExoError, match="no files"):
            vm.sync(a.env, window.view(0, 1))
        with pytest.raises(ValueError, match="4097 bytes from 0 of a view of 4096"):
            vm.sync(a.env, window.view(0, 1), 0, 4097)


def test_a_table_that_is_full() -> None:
    """What does not fit into the table of a window is not mapped, and what fits is, in the same place."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        window = vm.reserve(a.env, 10, lambda pages: vm.Inverted(pages, 4))
        with pytest.raises(OverflowError, match="4 slots, all taken"):
            window.map(carved(a, 5), at=0)
        assert len(window.table) == 0
        window.map(carved(a, 4), at=0)
        assert list(window.table) == [0, 1, 2, 3]
