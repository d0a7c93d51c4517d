"""The loader's watch over the root task, in virtual time: which server it ends, and when."""

import signal
from collections.abc import Iterator

import msgspec
import pytest

from hwmodel.simulated.bodies import SimulatedBody
from kernel.abi.errors import Fault, Refusal
from kernel.abi.heartbeat import BEAT, BUSY_LOOKS, LOOK, STILL_LOOKS, Silence
from kernel.abi.ids import KERNEL_ENVIRONMENTS
from kernel.abi.kip import Counter
from kernel.abi.obituary import Obituary
from kernel.abi.program import Activity
from kernel.environment import Environment
from libexo.testing import System, burn, simulated
from tests.kernel.answering_server import INSTEAD
from tests.kernel.puppets import refusal, theatre
from tests.kernel.test_boot import TOPOLOGY, named

ANSWERING = "tests.kernel.answering_server:Answering"
FOREVER = 10**15
SECOND = 1_000_000_000
DUE = (BEAT + STILL_LOOKS * LOOK) / SECOND
"""Seconds in which one that stands still is found out, from the question it does not answer."""


@pytest.fixture
def system() -> Iterator[System]:
    """A system whose root task answers."""
    root = msgspec.structs.replace(TOPOLOGY.server["root"], module=ANSWERING)
    INSTEAD.clear()
    with simulated(msgspec.structs.replace(TOPOLOGY, server={**TOPOLOGY.server, "root": root})) as system:
        system.pass_time(1)
        yield system


def body(system: System) -> SimulatedBody:
    found = named(system, "root").body
    assert isinstance(found, SimulatedBody)
    return found


def obituaries(system: System) -> list[Obituary]:
    found = (Obituary.read(line) for line in system.log)
    return [each for each in found if each is not None]


def unresponsive(system: System) -> int:
    return system.kernel.kip.counter(Counter.UNRESPONSIVE)


def test_one_that_answers_is_left_alone(system: System) -> None:
    """Asked for a minute, and answering, a root task is not ended."""
    first = body(system)
    system.pass_time(60)

    assert (body(system), unresponsive(system), system.log) == (first, 0, [])


def test_one_that_is_stopped(system: System) -> None:
    """A stopped root task is ended within a quarter of a second, and its successor runs; the record says why."""
    first: Environment = named(system, "root")
    first.body.signal(signal.SIGSTOP)
    system.pass_time(DUE + BEAT / SECOND)

    assert (first.alive, first.fault) == (False, Fault.UNRESPONSIVE)
    assert (named(system, "root").alive, unresponsive(system)) == (True, 1)
    [dead] = obituaries(system)
    assert (dead.name, dead.fault, dead.next_try) == ("root", Fault.UNRESPONSIVE, 0)
    assert dead.cause.endswith("ms, it was stopped")
    system.pass_time(10)
    assert unresponsive(system) == 1


def test_one_that_waits_for_something_else(system: System) -> None:
    """A root task that waits for ever in the middle of something is ended, too."""
    first = body(system)
    INSTEAD.append(lambda env: env.thread.sleep(10**6))
    system.pass_time(2)

    assert body(system) is not first
    assert obituaries(system)[0].cause.endswith("it waited for something else")


def test_one_that_computes_has_seconds(system: System) -> None:
    """One that runs may only be starved: it has ten seconds, and is ended when it still does not answer."""
    first = body(system)
    INSTEAD.append(lambda _: burn(8 * SECOND))
    system.pass_time(20)
    assert body(system) is first

    INSTEAD.append(lambda _: burn(FOREVER))
    system.pass_time((BEAT + BUSY_LOOKS * LOOK) / SECOND + 1)
    assert body(system) is not first
    assert obituaries(system)[0].cause.endswith("it ran, or wanted to")


def test_one_that_is_debugged(system: System) -> None:
    """A root task that a debugger has is left alone, and watched again afterwards."""
    first = body(system)
    first.tracer = True
    first.signal(signal.SIGSTOP)
    system.pass_time(60)
    assert body(system) is first

    first.tracer = False
    system.pass_time(2 * DUE)
    assert body(system) is not first


def test_a_successor_that_never_begins(system: System) -> None:
    """The successor of one that answered must answer, too: within five seconds."""
    first = body(system)
    first.kill()
    system.machine.drive(system.supervisor, until=lambda: body(system) is not first)
    second = body(system)
    second.signal(signal.SIGSTOP)
    system.pass_time(4)
    assert body(system) is second

    system.pass_time(3)
    assert body(system) is not second


def test_who_acknowledges_nothing_is_not_asked() -> None:
    """A root task that knows nothing of heartbeats gets no messages, and may wait for ever."""
    with simulated(TOPOLOGY) as system:
        system.pass_time(60)

        assert named(system, "root").alive
        assert system.kernel.kip.counter(Counter.UPCALLS) == 0


def test_only_root_tasks_are_asked() -> None:
    """Acknowledgements of other environments are refused: nobody asked."""
    with theatre() as stage:
        puppet = stage.puppet("a")

        assert refusal(puppet.sys.acknowledge, KERNEL_ENVIRONMENTS) == Refusal.NO_SUCH_MESSAGE


def test_who_waits_for_one_that_runs_is_excused() -> None:
    """It is not taken for one that hangs, unless that goes on; a stop excuses nobody."""
    waits, stopped = Silence(), Silence()

    assert not any(waits.look(Activity.WAITS, excused=True) for _ in range(BUSY_LOOKS - 1))
    assert waits.look(Activity.WAITS, excused=True)
    assert [stopped.look(Activity.STOPPED, excused=True) for _ in range(STILL_LOOKS)][-1]
