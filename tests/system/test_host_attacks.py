"""The table of attacks on the host, by programs of a system that root booted, and of one that a user booted."""

import os
import platform
from collections.abc import Iterator

import landlockpy
import pytest

from tests.system.attacks import Attack
from tests.system.booted import System
from tests.system.bystander import Bystander, bystander
from tests.system.host_attacks import HOST, program
from tests.system.programs import PRELUDE
from tests.system.test_attacks import matches
from tests.system.users import NOBODY, booted_by_a_user

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users"),
    # pytest's watchdog is a thread; the bystander forked here never meets it.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
LINUX = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
SCOPES = 6
"""The Landlock ABI from which on signals and abstract sockets are its affair."""
ABI = landlockpy.abi_version()


@pytest.fixture(scope="module")
def of_a_user() -> Iterator[System]:
    """A system with one uid for all."""
    with booted_by_a_user() as system:
        system.run("import libexo; libexo.attach()")
        yield system


@pytest.mark.parametrize("attack", HOST, ids=lambda attack: attack.name)
def test_attack_under_roots_system(booted: System, attack: Attack) -> None:
    """Each environment having a uid, nothing of root's is reached, and nothing of it changes."""
    with bystander(0) as other:
        stands(booted, other, attack)


@pytest.mark.skipif(ABI < SCOPES, reason="the host lets whoever has the uid signal: docs/design.md")
@pytest.mark.parametrize("attack", HOST, ids=lambda attack: attack.name)
def test_attack_under_a_users_system(of_a_user: System, attack: Attack) -> None:
    """All having one uid, nothing of the user's is reached either, and nothing of it changes."""
    with bystander(NOBODY) as other:
        stands(of_a_user, other, attack)


@pytest.mark.skipif(LINUX < (6, 16), reason="the host cannot refuse descriptors on behalf of a socket")
def test_nobody_parks_descriptors_in_the_gate(booted: System) -> None:
    """A program that has not attached yet sends bytes there, and no descriptors."""
    program = (
        PRELUDE + "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(RUN + '/gate')\n"
        "show(lambda: socket.send_fds(s, [b'x'], [0]), lambda: s.send(b'x'))"
    )

    assert booted.run(program).out == "EPERM done\n"


def stands(system: System, other: Bystander, attack: Attack) -> None:
    """Have a program of *system* try *attack* on *other*, and see what came of it."""
    before, server = other.condition(), system.server("memory").pid
    secret = (system.run_directory / "operator").stat()

    finished = system.run(program(attack), *other.arguments)
    after = (system.run_directory / "operator").stat()

    assert (finished.status, finished.err) == (0, "")
    assert matches(finished.out, attack.says), (attack.tries, finished.out)
    assert other.condition() == before
    assert (after.st_mode, after.st_nlink, system.server("memory").pid) == (secret.st_mode, 1, server)
