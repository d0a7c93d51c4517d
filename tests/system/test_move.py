"""Real programs moved to another host core: all their threads, and what they start afterwards."""

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from hwmodel.machine import do
from kernel.abi.program import Role
from tests.privileges import may_place_others
from tests.system.machines import FOREIGN, TRAP, System, booted_machine

CORES = sorted(os.sched_getaffinity(0))
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(len(CORES) < 2, reason="needs two cores, to be moved between"),
    pytest.mark.skipif(not may_place_others(), reason="needs CAP_SYS_NICE, to place others"),
]
THREADS = f"""
import threading
for _ in range(5):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
{TRAP}
gate.recv(10)
threading.Thread(target=threading.Event().wait, daemon=True).start()
gate.send(b"more")
gate.recv(10)
"""


@pytest.fixture
def system() -> Iterator[System]:
    with booted_machine() as system:
        yield system


def cores(pid: int) -> list[set[int]]:
    """Return on which cores each thread of a process may run."""
    return [os.sched_getaffinity(thread.id) for thread in psutil.Process(pid).threads()]


@pytest.mark.parametrize("core", CORES[:2])
def test_all_threads_move(system: System, core: int) -> None:
    """Every thread that there is moves, and one started afterwards is where those are."""
    body = system.start(source=THREADS)
    system.wait("trap", body)
    do(body.move(core))
    found = cores(body.pid)
    body.port.send(b"go on")
    system.run_until(lambda: system.told("trap", body) == [b"here", b"more"])

    assert (len(found), len(cores(body.pid))) == (6, 7)
    assert all(each == {core} for each in found + cores(body.pid))


def test_children_move_too(system: System) -> None:
    """With a foreign program move the processes it started."""
    reading, writing = os.pipe()
    script = "sleep 1000 & sleep 1000 & echo $!; wait"
    body = system.start("bash", "-c", script, kind=FOREIGN, roles={Role.STDOUT: writing})
    with os.fdopen(reading) as output:
        system.wait("started", body)
        output.readline()
    do(body.move(CORES[1]))
    children = psutil.Process(body.pid).children()

    assert len(children) == 2
    assert [cores(process) for process in (body.pid, *(c.pid for c in children))] == [[{CORES[1]}]] * 3


@pytest.mark.parametrize("cpu", [-1, 0])
def test_moved_before_the_start(system: System, cpu: int) -> None:
    """Requests from before there is a process are done when it is there, held or not."""
    body = system.start(source=TRAP + "gate.recv(10)", cpu=cpu)
    do(body.move(CORES[0]))
    body.resume()
    system.wait("trap", body)

    assert cores(body.pid) == [{CORES[0]}]


def test_a_stopped_one_moves(system: System) -> None:
    """It need not run to be moved, and stays stopped."""
    body = system.start(source=TRAP + "\nwhile True: pass")
    system.wait("trap", body)
    body.pause()
    system.pass_time(20)
    do(body.move(CORES[1]))

    assert cores(body.pid) == [{CORES[1]}]
    assert psutil.Process(body.pid).status() == psutil.STATUS_STOPPED


def test_the_dead_stay(system: System) -> None:
    """Moving what has ended, collected or not, is harmless."""
    body = system.start(source="")
    system.wait("ended", body)
    do(body.move(CORES[0]))
    body.discard()
    do(body.move(CORES[0]))

    assert system.told("ended", body) == [0]


def test_who_ends_meanwhile(system: System) -> None:
    """One that is killed while it is moved ends as if it were not."""
    body = system.start(source=THREADS)
    system.wait("trap", body)
    body.kill()
    do(body.move(CORES[1]))

    assert system.wait("ended", body) == -signal.SIGKILL
