"""The kernel interface page: our own head, and the tables as libexo reads them. The X.2 half: test_x2.py."""

import pytest

from kernel.abi.kip import (
    ABI_LEVEL,
    FRAMES,
    Counter,
    EnvironmentState,
    Head,
    SystemState,
    holders_shown,
    kip_size,
)
from kernel.abi.limits import FRAME_SIZE, MAX_NAMES
from kernel.abi.rights import Rights
from kernel.abi.traps import Protection, Slice
from kernel.errors import Refused
from libexo.kip import Kip
from tests.kernel.pagers import FRAMES as OBJECT_FRAMES
from tests.kernel.pagers import PAGES, Paging
from tests.kernel.passing import passed
from tests.kernel.puppets import Theatre, ram_of, theatre


def reader(stage: Theatre) -> Kip:
    return Kip(stage.machine.published["kip"].buffer)


def test_our_head() -> None:
    """The head says how much RAM, how many processors, whose kernel, and how far the system is."""
    with theatre(ram_of(8)) as stage:
        kip = reader(stage)
        words = (Head.ABI_LEVEL, Head.FRAME_COUNT, Head.FREE_FRAMES, Head.CPU_COUNT, Head.KERNEL_PID)

        assert [kip.head(word) for word in words] == [ABI_LEVEL, 8, 8, 1, stage.machine.pid]
        assert kip.state is SystemState.UP


def test_size_in_whole_pages() -> None:
    """The page is as long as its tables, in whole pages, and grows with RAM by 36 bytes a frame."""
    assert kip_size(1) == FRAMES + 2 * FRAME_SIZE
    assert kip_size(1024) == FRAMES + (1 + 8) * FRAME_SIZE
    assert kip_size(1025) == FRAMES + (2 + 9) * FRAME_SIZE
    assert FRAMES % FRAME_SIZE == 0


def test_environments_are_shown() -> None:
    """Each environment has its row; a row whose environment went is empty."""
    with theatre() as stage:
        a, b = stage.pair()
        a.sys.carve(a.handles[0], 3)
        stage.kill(b)
        [row] = reader(stage).environments()

        assert (row.number, row.state, row.cpu, row.thread) == (0, EnvironmentState.READY, -1, a.thread)
        assert (row.pid, row.uid, row.frames, row.handles, row.name) == (a.body.pid, a.body.uid, 3, 2, "a")


def test_traps_are_counted() -> None:
    """Traps count for all and for their caller; the row starts at zero for the next."""
    with theatre() as stage:
        a = stage.puppet()
        for _ in range(3):
            a.sys.inventory()
        kip = reader(stage)

        assert (kip.counters()["traps"], kip.environments()[0].traps) == (3, 3)
        stage.kill(a)
        stage.puppet()
        assert [row.traps for row in kip.environments()] == [0]


def test_names_are_shown() -> None:
    """Names are read with their threads, and a lookup of nobody's is zero."""
    with theatre() as stage:
        a, b = stage.pair()
        kip = reader(stage)

        assert kip.names() == {"a": a.thread, "b": b.thread}
        assert (kip.lookup("b"), kip.lookup("c")) == (b.thread, 0)


def test_plans_are_shown() -> None:
    """The plan of a processor is read as it was installed, with the running environment."""
    with theatre() as stage:
        scheduler = stage.puppet("scheduler", holds=("cpus",))
        scheduler.sys.plan(scheduler.handles[0], [])
        a = stage.puppet("a", cpu=0, work=lambda body: body.burn(10**12))
        scheduler.sys.plan(scheduler.handles[0], [Slice(a.thread, 1234)])
        [plan] = reader(stage).plans()

        assert (plan.core, plan.running, plan.slices) == (0, 1, ((1, 1234),))


def test_frames_are_shown() -> None:
    """Each frame shows its user's number plus one, or zero."""
    with theatre(ram_of(4)) as stage:
        stage.puppet()
        b = stage.puppet(holds=("ram",))
        b.sys.carve(b.handles[0], 2, 1)

        assert reader(stage).frame_users().tolist() == [0, 2, 2, 0]


def test_counters_have_names() -> None:
    """Every counter is read under its name."""
    with theatre() as stage:
        stage.kernel.exposure.count(Counter.CARVES)
        counters = reader(stage).counters()

        assert (counters["carves"], len(counters)) == (1, len(Counter))


def test_tables_are_written_between_odd_and_even() -> None:
    """While a table is written its sequence is odd, and readers wait for the next even one."""
    with theatre() as stage:
        words, seen = stage.kernel.kip._words, []
        with stage.kernel.kip._writing(Head.NAME_SEQUENCE):
            seen.append(words[Head.NAME_SEQUENCE] % 2)

        assert [*seen, words[Head.NAME_SEQUENCE] % 2] == [1, 0]


def test_the_table_of_names_is_bounded() -> None:
    """When every slot is taken, no new name is published; an old one may still change its thread."""
    with theatre() as stage:
        kip, thread = stage.kernel.kip, stage.puppet("a").thread
        for n in range(MAX_NAMES - 1):
            kip.publish(f"n{n}", thread)
        kip.publish("n0", thread)

        with pytest.raises(Refused, match=f"{MAX_NAMES} names"):
            kip.publish("more", thread)


def test_readers_cannot_write() -> None:
    """The descriptors of KIP and event ring that programs get are read-only."""
    with theatre() as stage:
        a = stage.puppet()
        interface, (kip, page, trace) = a.sys.kernel_interface()
        for descriptor, size in ((kip, interface.kip_size), (trace, interface.trace_size)):
            with pytest.raises(PermissionError):
                a.host.map(descriptor, size, writable=True)

        assert not a.host.map(page, FRAME_SIZE, writable=True).readonly


def test_extents_are_shown() -> None:
    """Each extent is shown with its holders and their rights, the oldest first, while it has any."""
    with theatre(ram_of(8)) as stage:
        a, b = stage.pair()
        made = a.sys.carve(a.handles[0], 2)
        passed(a, made.extent, b, Rights.READ)
        kip = reader(stage)
        first, pages, plain, nobody = made.first, 2, -1, -1

        [row] = kip.extents()
        assert row[:6] == (first, 2, pages, plain, nobody, 2)
        assert [holding.environment for holding in row.holdings] == [a.body.number, b.body.number]
        assert row.holdings[1].rights == Rights.READ
        a.sys.drop(made.extent)
        assert list(kip.extents()) == []


@pytest.mark.parametrize(("first", "count", "shown"), [(7, 1, 3), (6, 2, 11), (0, 8, 59), (0, 16, 64)])
def test_holders_have_room_in_the_rows_of_their_extent(first: int, count: int, shown: int) -> None:
    """Of many capabilities the oldest are shown, and all are counted; behind the last row of RAM is no other."""
    with theatre(ram_of(max(8, count))) as stage:
        a = stage.puppet(holds=("ram",))
        made = a.sys.carve(a.handles[0], count, first)
        for _ in range(69):
            a.sys.derive(made.extent, Rights.READ)

        [row] = reader(stage).extents()
        assert (row.capabilities, len(row.holdings)) == (70, holders_shown(count)) == (70, shown)
        assert {holding.rights for holding in row.holdings[1:]} == {Rights.READ}


def test_objects_are_shown() -> None:
    """A paged object is shown with its pages, how many are supplied, and its pager, while it has one."""
    with theatre(ram_of(16)) as stage:
        paging = Paging(stage)
        program, kip = paging.program(), reader(stage)
        paging.supply(1, count=3)
        paging.pager.sys.protect(paging.handle, 1, 3, Protection.GUARD)

        [row] = kip.extents()
        assert (row.frames, row.pages, row.resident, row.pager) == (
            OBJECT_FRAMES, PAGES, 3, paging.pager.body.number,
        )  # fmt: skip
        paging.pager.sys.evict(paging.handle, 2, 2)
        assert [(row.paged, row.resident) for row in kip.extents()] == [(True, 1)]
        paging.pager.sys.drop(paging.handle)
        assert [row for row in kip.extents() if row.pager >= 0] == []
        assert not program.puppet.caps
