"""Boot: what the topology says is what there is; the root task's restart."""

import msgspec
import pytest

from hwmodel.simulated.bodies import SimulatedBody
from hwmodel.simulated.descriptors import FileTarget, SimulatedDescriptor
from hwmodel.simulated.machine import Outcome
from kernel.abi.ids import thread_id
from kernel.abi.kip import Counter, Head, SystemState
from kernel.abi.program import ProgramKind, Role
from kernel.abi.rights import Kind
from kernel.abi.topology import (
    AttachConfig,
    MachineConfig,
    ServerConfig,
    Topology,
)
from kernel.boot import FIRST_DELAY, LASTED, MAX_DELAY
from kernel.environment import Environment
from libexo import l4
from libexo.kip import Kip
from libexo.testing import System, simulated
from tests.kernel.invariants import violations

IDLE = "tests.kernel.idle_server:Idle"
SECOND = 1_000_000_000
OPERATOR, STRANGER, MAIL, MEMBER = 1001, 1002, 1003, 1004
TOPOLOGY = Topology(
    MachineConfig(memory="1 MiB", cpus=(0, 1)),
    attach=AttachConfig(operators=(OPERATOR,), members=(MEMBER,)),
    server={
        "ram": ServerConfig(IDLE, 96, 1, holds=("ram",)),
        "root": ServerConfig(IDLE, 98, 3, holds=("factory",), calls=("ram",)),
        "cpu": ServerConfig(IDLE, 99, 2, holds=("cpus", "interrupts"), restart="never"),
        "mail": ServerConfig(IDLE, 100, 4, holds=("ram",), start="attach", uid=MAIL),
    },
)


def named(system: System, name: str) -> Environment:
    """Return the newest environment called *name*."""
    return [e for e in system.kernel.environments if e.name == name][-1]


def settle(system: System) -> Outcome:
    outcome = system.machine.drive(system.supervisor, limit=system.machine.clock.now())
    system.machine.drive(system.supervisor, until=lambda: not system.kernel.jobs.under_way)
    assert violations(system.kernel, system.machine) == []
    return outcome


def kinds(environment: Environment) -> list[Kind]:
    return [capability.resource.kind for capability in environment.table]


def path_of(descriptor: object) -> str:
    """The file a descriptor leads to."""
    assert isinstance(descriptor, SimulatedDescriptor)
    assert isinstance(descriptor.target, FileTarget)
    return descriptor.target.path


def test_the_topology_is_there() -> None:
    """Each server of the topology that starts at boot runs, under its name and thread number."""
    with simulated(TOPOLOGY) as system:
        settle(system)

        assert {e.name: e.thread for e in system.kernel.environments} == {
            "ram": thread_id(96),
            "root": thread_id(98),
            "cpu": thread_id(99),
        }
        assert system.kernel.kip._words[Head.STATE] == SystemState.UP


def test_each_holds_what_it_shall() -> None:
    """Servers hold what the topology says; the root task holds a capability to each other server."""
    with simulated(TOPOLOGY) as system:
        settle(system)

        assert kinds(named(system, "ram")) == [Kind.RAM]
        assert kinds(named(system, "root")) == [Kind.FACTORY, Kind.ENVIRONMENT, Kind.ENVIRONMENT]
        assert kinds(named(system, "cpu")) == [Kind.CPU] * 2 + [Kind.INTERRUPT] * 64


def test_each_may_call_whom_it_shall() -> None:
    """A server may call those the topology names, and itself."""
    with simulated(TOPOLOGY) as system:
        assert named(system, "root").may_bind == {96, 98}
        assert named(system, "ram").may_bind == {96}


def test_who_keeps_its_things() -> None:
    """Servers that are restarted keep their capabilities for that; others do not."""
    with simulated(TOPOLOGY) as system:
        assert [named(system, name).keeps for name in ("ram", "root", "cpu")] == [True, True, False]


def test_the_root_task_is_restarted() -> None:
    """When the root task ends, it is started again with what it had, in its next version."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        held = kinds(named(system, "root"))
        named(system, "root").body.kill()
        settle(system)

        root = named(system, "root")
        assert (root.thread, kinds(root), root.alive) == (thread_id(98, 3), held, True)
        assert system.log[0] == "root ended (SIGKILL): restarted at once"


def test_several_may_create_environments() -> None:
    """Each holder of the factory is restarted by the kernel; the last has a capability to every other server."""
    two = msgspec.structs.replace(
        TOPOLOGY, server={**TOPOLOGY.server, "second": ServerConfig(IDLE, 101, 5, holds=("factory",))}
    )
    with simulated(two) as system:
        settle(system)
        for name in ("root", "second"):
            named(system, name).body.kill()
            settle(system)

        things = [capability.resource for capability in named(system, "second").table]
        assert [named(system, name).alive for name in ("root", "second")] == [True, True]
        assert [thing.name for thing in things if isinstance(thing, Environment)] == ["ram", "cpu"]
        assert kinds(named(system, "root")) == [Kind.FACTORY]


def test_a_root_task_that_is_not_restarted() -> None:
    """A root task may be one that comes to its end: that is said, and the system goes on."""
    server = msgspec.structs.replace(TOPOLOGY.server["root"], restart="never")
    with simulated(msgspec.structs.replace(TOPOLOGY, server={**TOPOLOGY.server, "root": server})) as system:
        settle(system)
        root = named(system, "root")
        root.body.kill()

        assert settle(system) is Outcome.IDLE
        assert (root.alive, named(system, "ram").alive) == (False, True)
        assert system.log[0] == "root ended (SIGKILL): it is not to be restarted"


def test_programs_are_read_from_files_of_the_host() -> None:
    """A server that is a file starts with a descriptor of it, and of the directory it imports from."""
    file = ServerConfig("/srv/a.py", 100, arguments=("x",), imports="/srv")
    with simulated(msgspec.structs.replace(TOPOLOGY, server={**TOPOLOGY.server, "file": file})) as system:
        environment = named(system, "file")
        assert isinstance(environment.body, SimulatedBody)
        program = environment.body.program

        assert (program.kind, program.argv) == (ProgramKind.PYTHON, ("/srv/a.py", "x"))
        assert program.roles == (Role.SOURCE, Role.IMPORTS)
        assert list(map(path_of, environment.starts.last.descriptors)) == ["/srv/a.py", "/srv"]


def test_what_was_booted_is_recorded() -> None:
    """The boot records have the servers that start at boot, in order; those that attach are not among them."""
    with simulated(TOPOLOGY) as system:
        kip = Kip(system.machine.published["kip"].buffer)
        info = l4.BootInfo(kip)

        assert l4.BootInfo_Entries(info, kip) == 3
        assert l4.Module_Cmdline(l4.BootInfo_FirstEntry(info, kip), kip) == IDLE


def test_others_are_not() -> None:
    """Any other server is the root task's to restart."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        named(system, "ram").body.kill()
        settle(system)

        assert (named(system, "ram").alive, named(system, "ram").keeps) == (False, True)


def test_a_root_task_that_keeps_ending() -> None:
    """Its restarts come later and later, five seconds apart at last; the log says why; the system goes on."""
    with simulated(TOPOLOGY) as system:
        system.pass_time(LASTED / SECOND + 0.1)
        waits = []
        for _ in range(12):
            ended = system.now
            named(system, "root").body.kill()
            system.machine.drive(system.supervisor, until=lambda: not named(system, "root").alive)
            system.machine.drive(system.supervisor, until=lambda: named(system, "root").alive)
            waits.append(round(system.now - ended, 2))

        doubled = [min(FIRST_DELAY * 2**n, MAX_DELAY) / SECOND for n in range(10)]
        assert waits == pytest.approx([0, 0, *doubled], abs=0.01)
        assert system.log[-2] == "root ended (SIGKILL): restarted in 5 s"
        system.pass_time(1)
        assert system.kernel.kip.counter(Counter.RESTARTS) == 12


def test_a_root_task_that_ends_now_and_then() -> None:
    """Ends with time between them are each mended at once."""
    with simulated(TOPOLOGY) as system:
        for _ in range(10):
            system.pass_time(LASTED / SECOND + 0.1)
            named(system, "root").body.kill()
            settle(system)
            assert named(system, "root").alive


def test_a_run_that_lasted_ends_the_back_off() -> None:
    """Only a run as long as the last delay counts as one that lasted."""
    with simulated(TOPOLOGY) as system:
        for _ in range(10):
            named(system, "root").body.kill()
            system.pass_time(6)
            system.machine.drive(system.supervisor, until=lambda: named(system, "root").alive)
        named(system, "root").body.kill()
        settle(system)

        assert named(system, "root").alive


def test_the_host_ends_the_system() -> None:
    """Asked to stop, the machine's loop returns; closed, the KIP says so to those who still read it."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        system.machine.clock.alarm(system.machine.clock.now(), system.supervisor.stop)

        assert settle(system) is Outcome.STOPPED
