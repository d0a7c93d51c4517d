"""Attaching: the programs that may, under which names, with which greetings."""

import msgspec
import pytest

from hwmodel.simulated.bodies import SimulatedBody
from hwmodel.simulated.machine import SECRET
from kernel.abi.budget import Item
from kernel.abi.errors import Fault, Refusal
from kernel.abi.gate import Attach, Refused, Status
from kernel.abi.ids import thread_id
from kernel.abi.operators import Operators
from kernel.abi.rights import Kind, Rights
from kernel.abi.topology import (
    Confinement,
)
from kernel.capability import give
from libexo.testing import System, Task, simulated
from tests.kernel.passing import passed
from tests.kernel.puppets import Puppet, faults, theatre, wait_for_ever
from tests.kernel.test_boot import (
    MAIL,
    MEMBER,
    OPERATOR,
    STRANGER,
    TOPOLOGY,
    kinds,
    named,
    settle,
)
from tests.libexo import moves


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
    """Records that may be logged show the operators, and not their secret."""
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
    """A program that is neither operator nor that server is sent away with the reason, as is a bad name."""
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


def test_every_byte_of_a_greeting_wrong() -> None:
    """Each in turn, by what begins strings, arrays or numbers, or is no UTF-8: it is refused, and all goes on."""
    greeting = hello("ab", b"cd")
    wrong = [
        greeting[:at] + bytes((value,)) + greeting[at + 1 :]
        for at in range(len(greeting))
        for value in (0x00, 0x80, 0x92, 0xA2, 0xC1, 0xCD, 0xD9, 0xDD, 0xFF)
    ]
    with simulated(TOPOLOGY) as system:
        settle(system)
        refusals = {refused(attach(system, packet, STRANGER)[1]) for packet in wrong}

        assert refusals == {Refusal.BAD_ARGUMENT, Refusal.MAY_NOT_ATTACH}


def test_attached_ones_that_are_ended() -> None:
    """An environment that attached by itself ends when the kernel ends it, and all it had returns."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        body, _ = attach(system, hello("shell"), OPERATOR)
        system.supervisor.broke(body, Fault.TOO_LONG, "")
        settle(system)

        assert [e.name for e in system.kernel.environments] == ["ram", "root", "cpu"]


def test_a_thread_number_that_lives() -> None:
    """A server whose name was withdrawn while it lives keeps its thread number to itself."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        system.kernel.kip.publish("ram", 0)
        _, heard = attach(system, hello("ram"), OPERATOR)

        assert refused(heard) == Refusal.NAME_TAKEN


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
    """A program that attaches under a name gets none of what a dead one of that name left to its successor."""
    with simulated(TOPOLOGY) as system:
        settle(system)
        job = system.spawn(wait_for_ever, "job", holds=("ram",), keeps=True)
        give(system.kernel.exposure, named(system, "root"), job.environment)
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


def test_who_left_keeps_no_memory() -> None:
    """Memory that others share is taken from an attached program that leaves, even if it lives on."""
    with theatre(TOPOLOGY) as stage:
        owner = stage.puppet("owner", holds=("ram",))
        body, _ = attach(stage.system, hello("shell"), OPERATOR)
        extent = owner.sys.carve(owner.handles[0], 1).extent
        view = owner.env.views.map(extent)
        shell = Puppet(stage, Task(stage.system, named(stage.system, "shell")))
        theirs = shell.env.views.map(passed(owner, extent, shell, Rights.READ))
        stage.supervisor.ended(body, 0)
        stage.settle()
        moves.pump_gate(owner.env)

        assert (faults(theirs), view[0]) == (True, 0)
