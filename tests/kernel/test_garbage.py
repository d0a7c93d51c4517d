"""No cycles of garbage: the kernel never looks through what has lived long, so nothing may be left for that."""

import gc
from collections.abc import Iterator

import pytest

from kernel.abi.kip import Counter
from kernel.abi.rights import Rights
from tests.kernel.passing import passed
from tests.kernel.puppets import Theatre, theatre

KERNEL = ("kernel.", "hwmodel.real")


@pytest.fixture
def found() -> Iterator[list[str]]:
    """Garbage the collector finds in the test, and none from before."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    names: list[str] = []
    yield names
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def live_and_die(stage: Theatre) -> None:
    """Do a bit of everything, and end."""
    a, b = stage.puppet(holds=("ram",)), stage.puppet(keeps=True)
    extent = a.sys.carve(a.handles[0], 4).extent
    a.env.views.map(extent)
    b.env.views.map(passed(a, extent, b, Rights.READ | Rights.TRANSFER))
    a.sys.transfer(extent, b.thread, Rights.READ)
    for ticket in a.sys.bind(b.thread)[1]:
        a.host.close_descriptor(ticket)
    a.sys.revoke(extent, 1000)
    stage.pass_time(3)
    a.sys.batch([])
    stage.kill(a, b)
    for puppet in (a, b):
        puppet.transport.close()
    stage.puppets.clear()
    stage.system.tasks.clear()


def test_environments_leave_none(found: list[str]) -> None:
    """The last reference frees all of an ended environment: tables, threads, bindings, extents, jobs."""
    with theatre() as stage:
        live_and_die(stage)
        gc.collect()
        gc.garbage.clear()
        for _ in range(3):
            live_and_die(stage)
        ended = stage.kernel.kip.counter(Counter.ENVIRONMENTS_ENDED)
        gc.collect()
        found += [repr(type(each)) for each in gc.garbage if type(each).__module__.startswith(KERNEL)]

    assert ended == 8
    assert found == []
