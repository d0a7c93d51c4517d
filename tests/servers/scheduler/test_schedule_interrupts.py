"""X.2's Schedule of interrupt threads: what a server says of one is kept, and told back."""

from collections.abc import Callable

import pytest

from kernel.abi.ids import thread_id
from kernel.abi.program import Program, ProgramKind
from libexo import l4
from libexo.l4.format.controls import UNCHANGED, time_control
from libexo.testing import System
from tests.servers.rig import ask, kill, servers
from tests.servers.scheduler.test_schedule import NOTHING, schedule

LINE = thread_id(3)


def as_server(system: System, orders: Callable[[], object]) -> object:
    """Run *orders* as a server of the system, which X.2 calls privileged."""
    system.machine.programs["driver"] = lambda: results.append(orders())
    results: list[object] = []
    program = Program(kind=ProgramKind.PYTHON, argv=("driver",))
    driver = system.kernel.environments.create("driver", program, [], number=110)
    system.run(until=lambda: not driver.alive)
    return results[0]


@pytest.mark.conforms("Schedule: interrupt threads")
def test_an_interrupt_thread() -> None:
    """It can be given a priority, and times, which are told back, over the scheduler's death; it waits."""
    times = time_control(l4.TimePeriod(2000), l4.Never)

    def first() -> object:
        return schedule(LINE, UNCHANGED, UNCHANGED, 200, UNCHANGED), schedule(LINE, times, *NOTHING[1:])

    with servers() as system:
        assert as_server(system, first) == ((0, l4.SCHEDRESULT_WAITING, 0),) * 2
        kill(system, "scheduler")
        assert as_server(system, lambda: schedule(LINE, *NOTHING)) == (times, l4.SCHEDRESULT_WAITING, 0)
        [scheduler] = [e for e in system.kernel.environments if e.name == "scheduler"]
        assert scheduler.alive


@pytest.mark.conforms("Schedule: interrupt threads")
def test_interrupt_threads_refused() -> None:
    """A program gets error 1; a server error 5 for a priority there is not, and for a processor."""
    with servers() as system:
        program = ask(system, lambda _: schedule(LINE, UNCHANGED, UNCHANGED, 7, UNCHANGED))
        above = as_server(system, lambda: schedule(LINE, UNCHANGED, UNCHANGED, 256, UNCHANGED))
        moved = as_server(system, lambda: schedule(LINE, UNCHANGED, 0, UNCHANGED, UNCHANGED))

        assert program == (0, 0, l4.ErrNoPrivilege)
        assert (above, moved) == ((0, 0, l4.ErrInvalidParam),) * 2
