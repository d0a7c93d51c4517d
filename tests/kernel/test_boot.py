"""Boot: what the topology says is what there is; the root task's restart; who may attach."""

import msgspec
import pytest

from hwmodel.simulated.bodies import SimulatedBody
from hwmodel.simulated.descriptors import FileThing, SimulatedDescriptor
from hwmodel.simulated.machine import SECRET, Outcome
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.gate import Attach, Refused, Status
from kernel.abi.ids import thread_id
from kernel.abi.kip import Counter, Head, SystemState
from kernel.abi.operators import Operators
from kernel.abi.program import ProgramKind, Role
from kernel.abi.rights import Kind, Rights
from kernel.abi.topology import (
    AttachConfig,
    Confinement,
    MachineConfig,
    ServerConfig,
    Topology,
)
from kernel.boot import FIRST_DELAY, LASTED, MAX_DELAY
from kernel.capability import give
from kernel.environment import Environment
from libexo import l4
from libexo.kip import Kip
from libexo.testing import System, Task, simulated
from tests.kernel.invariants import violations
from tests.kernel.passing import passed
from tests.kernel.puppets import Puppet, faults, theatre, wait_for_ever

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
    outcome = system.machine.drive(system.kernel, limit=system.machine.clock.now())
    system.machine.drive(system.kernel, until=lambda: not system.kernel.jobs.under_way)
    assert violations(system.kernel, system.machine) == []
    return outcome


def attach(system: System, packet: bytes, uid: int) -> tuple[SimulatedBody, list[bytes]]:
    """Have a program of *uid* connect, say *packet*, and wait; return what it is sent."""
    heard: list[bytes] = []

    def program() -> None:
        body.send(packet)
        body.wait(body.arrived, None)
        while (received := body.receive()) is not None:
            heard.append(received[0])

    body = system.machine.attach("outsider", program, uid=uid)
    settle(system)
    return body, heard


def refused(heard: list[bytes]) -> Refusal:
    assert heard[0][0] == Status.REFUSED
    return Refusal(msgspec.msgpack.decode(heard[0][1:], type=Refused).refusal)


def hello(name: str, secret: bytes = b"") -> bytes:
    return msgspec.msgpack.encode(Attach(name, secret))


def kinds(environment: Environment) -> list[Kind]:
    return [capability.thing.kind for capability in environment.table]


def path_of(descriptor: object) -> str:
    """The file a descriptor leads to."""
    assert isinstance(descriptor, SimulatedDescriptor)
    assert isinstance(descriptor.thing, FileThing)
    return descriptor.thing.path


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

        things = [capability.thing for capability in named(system, "second").table]
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
            system.machine.drive(system.kernel, until=lambda: not named(system, "root").alive)
            system.machine.drive(system.kernel, until=lambda: named(system, "root").alive)
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
            system.machine.drive(system.kernel, until=lambda: named(system, "root").alive)
        named(system, "root").body.kill()
        settle(system)

        assert named(system, "root").alive


def test_a_server_attaches() -> None:
    """A server of the topology comes in by its uid, and gets its number and what it holds."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        attach(system, hello("mail"), MAIL)

        mail = named(system, "mail")
        assert (mail.thread, kinds(mail), mail.uid) == (thread_id(100), [Kind.RAM], MAIL)
        assert kinds(named(system, "root"))[-1] == Kind.ENVIRONMENT


def test_a_server_attaches_again() -> None:
    """A server that left and comes back has its capabilities, and its next version."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        body, _ = attach(system, hello("mail"), MAIL)
        body.main.ready = lambda: True  # its program returns
        settle(system)
        attach(system, hello("mail"), MAIL)

        mail = named(system, "mail")
        assert (mail.thread, kinds(mail)) == (thread_id(100, 3), [Kind.RAM])


@pytest.mark.parametrize("uid", [MEMBER, MAIL])
def test_members_attach(uid: int) -> None:
    """Members, and the uids of servers, attach as plain programs, each the first of a family."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        attach(system, hello("shell"), uid)

        assert (kinds(named(system, "shell")), named(system, "shell").uid) == ([], uid)
        assert named(system, "shell").budget.family


@pytest.mark.parametrize("uid", [0, OPERATOR])
def test_operators_attach(uid: int) -> None:
    """Operators attach under any free name, of no family; they may stand in for servers too."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        attach(system, hello("shell"), uid)
        attach(system, hello("mail"), uid)

        assert (kinds(named(system, "shell")), named(system, "shell").may_bind) == ([], frozenset())
        assert named(system, "mail").thread == thread_id(100)
        assert [named(system, name).budget.family for name in ("shell", "mail")] == [0, 0]


ONE_UID = msgspec.structs.replace(TOPOLOGY, confinement=Confinement(may_lack=("uid",)))
KERNEL = 0
"""The uid of the simulated kernel, which programs have too where they may lack their own."""


@pytest.mark.parametrize("name", ["shell", "mail"])
@pytest.mark.parametrize("secret", [b"", b"x" * 32, SECRET[:-1]])
def test_a_uid_that_programs_have_proves_nothing(name: str, secret: bytes) -> None:
    """Where programs may have the kernel's uid, one who comes with it and not with the secret is sent away."""
    with simulated(ONE_UID) as system:
        settle(system)
        _, heard = attach(system, hello(name, secret), KERNEL)

        assert refused(heard) == Refusal.MAY_NOT_ATTACH
        assert len(list(system.kernel.environments)) == 3


@pytest.mark.parametrize(("uid", "secret"), [(KERNEL, SECRET), (OPERATOR, b""), (OPERATOR, b"wrong")])
def test_the_secret_says_who_the_uid_does_not(uid: int, secret: bytes) -> None:
    """The secret is asked of the one uid that is ambiguous; of others the uid says enough."""
    with simulated(ONE_UID) as system:
        settle(system)
        attach(system, hello("shell", secret), uid)

        assert named(system, "shell").uid == uid


def test_the_secret_is_in_no_text() -> None:
    """What might come into a log shows who the operators are, and not their secret."""
    text = f"{Operators((1,), 1, SECRET)} {Attach('shell', SECRET)}"

    assert text == "Operators(uids=(1,), common=1) Attach(name='shell')"


@pytest.mark.parametrize(
    ("name", "uid", "expected"),
    [
        ("shell", STRANGER, Refusal.MAY_NOT_ATTACH),
        ("mail", STRANGER, Refusal.MAY_NOT_ATTACH),
        ("ram", MAIL, Refusal.MAY_NOT_ATTACH),
        ("ram", OPERATOR, Refusal.NAME_TAKEN),
        ("", OPERATOR, Refusal.BAD_ARGUMENT),
        (" x", OPERATOR, Refusal.BAD_ARGUMENT),
    ],
)
def test_who_may_not_attach(name: str, uid: int, expected: Refusal) -> None:
    """Who is neither operator nor that server is sent away with the reason, as is one with a bad name."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        _, heard = attach(system, hello(name), uid)

        assert refused(heard) == expected
        assert len(list(system.kernel.environments)) == 3


@pytest.mark.parametrize(
    "packet", [b"", b"\xc1", msgspec.msgpack.encode([1]), hello("x" * 32), b"\x91" * 9000]
)
def test_packets_that_are_no_greeting(packet: bytes) -> None:
    """Whatever the first packet is, it is answered, and the system goes on."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        _, heard = attach(system, packet, OPERATOR)

        assert refused(heard) == Refusal.BAD_ARGUMENT


def test_attached_ones_that_are_ended() -> None:
    """An environment that attached by itself ends when the kernel ends it, and all it had returns."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        body, _ = attach(system, hello("shell"), OPERATOR)
        system.kernel.overlong(body)
        settle(system)

        assert [e.name for e in system.kernel.environments] == ["ram", "root", "cpu"]


def test_a_thread_number_that_lives() -> None:
    """A server whose name was withdrawn while it lives keeps its thread number to itself."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        system.kernel.kip.publish("ram", 0)
        _, heard = attach(system, hello("ram"), OPERATOR)

        assert refused(heard) == Refusal.NAME_TAKEN


def test_the_host_ends_the_system() -> None:
    """Asked to stop, the machine's loop returns; closed, the KIP says so to those who still read it."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        system.machine.clock.alarm(system.machine.clock.now(), system.kernel.stop)

        assert settle(system) is Outcome.STOPPED


def test_who_left_keeps_no_memory() -> None:
    """Memory that others share is taken from an attached program that leaves, even if it lives on."""
    with theatre(TOPOLOGY) as stage:
        owner = stage.puppet("owner", holds=("ram",))
        body, _ = attach(stage.system, hello("shell"), OPERATOR)
        extent = owner.sys.carve(owner.handles[0], 1).extent
        view = owner.env.views.map(extent)
        shell = Puppet(stage, Task(stage.system, named(stage.system, "shell")))
        theirs = shell.env.views.map(passed(owner, extent, shell, Rights.READ))
        stage.kernel.ended(body, 0)
        stage.settle()
        owner.env.thread.core.pump_gate()

        assert (faults(theirs), view[0]) == (True, 0)


@pytest.mark.parametrize("name", ["ram", "cpu"])
def test_servers_are_attached_to_by_nobody(name: str) -> None:
    """A server that the system starts is not replaced by attaching, also while it is away, by operators either."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        named(system, name).body.kill()
        settle(system)
        _, heard = attach(system, hello(name), OPERATOR)

        assert refused(heard) == Refusal.NAME_TAKEN


@pytest.mark.parametrize("uid", [MEMBER, OPERATOR])
def test_nobody_inherits_by_attaching_under_a_name(uid: int) -> None:
    """What a program left to its successor goes to nobody who attaches under its name."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        job = system.spawn(wait_for_ever, "job", holds=("ram",), keeps=True)
        give(system.kernel, named(system, "root"), job.environment)
        settle(system)
        job.kill()
        settle(system)
        _, heard = attach(system, hello("job"), uid)

        assert refused(heard) == Refusal.NAME_TAKEN
        assert kinds(job.environment) == [Kind.RAM]


def test_members_attach_so_often() -> None:
    """One uid that is no operator's has so many programs attached, and others are not in its way."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        for n in range(Item.CHILDREN.program):
            attach(system, hello(f"shell-{n}"), MEMBER)
        _, heard = attach(system, hello("more"), MEMBER)
        attach(system, hello("other"), MAIL)

        assert refused(heard) == Refusal.OVER_BUDGET
        assert named(system, "other").alive
