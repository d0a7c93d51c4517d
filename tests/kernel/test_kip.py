"""The kernel interface page: our own head, and the tables as libexo reads them. The X.2 half: test_x2.py."""

import pytest

from kernel.abi.kip import ABI_LEVEL, FRAMES, Counter, EnvironmentState, Head, SystemState, kip_size
from kernel.abi.limits import FRAME_SIZE, MAX_NAMES
from kernel.abi.traps import Slice
from kernel.errors import Refused
from libexo.kip import Kip
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
    """The page is as long as its tables, in whole pages, and grows with RAM by four bytes a frame."""
    assert kip_size(1) == kip_size(1024) == FRAMES + FRAME_SIZE
    assert kip_size(1025) == FRAMES + 2 * FRAME_SIZE
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
