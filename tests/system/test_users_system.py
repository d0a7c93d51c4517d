"""A system that an ordinary user booted: its operators, and what remains open to its programs."""

import contextlib
import os
import pty
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import landlockpy
import pytest

from tests.system.booted import PATIENCE, ROOT, System
from tests.system.bystander import bystander
from tests.system.host_attacks import ATTACKER
from tests.system.programs import PRELUDE
from tests.system.users import NOBODY, as_user, booted_by_a_user, python

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
OTHER_USER = 65533
PATHNAME_SOCKETS = 9
"""The Landlock ABI that knows them."""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """A system with one uid for all."""
    with booted_by_a_user() as booted:
        yield booted


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the user's, away from the run directory."""
    with tempfile.TemporaryDirectory(prefix="exo-") as name:
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def done(system: System, folder: Path, *words: str, uid: int = NOBODY) -> "subprocess.CompletedProcess[str]":
    """Have the user do something in *folder*."""
    environ = {**os.environ, "EXO_RUN": str(system.run_directory), "PYTHONPATH": str(ROOT)}
    command = [*as_user(uid), *words]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def exo(system: System, folder: Path, *words: str, uid: int = NOBODY) -> "subprocess.CompletedProcess[str]":
    """Have the user call `exo`."""
    return done(system, folder, *python(), "-m", "exo", *words, uid=uid)


def test_its_user_commands_it(system: System, folder: Path) -> None:
    """The tools find the secret by themselves: to run, to kill, to attach."""
    attach = "import libexo; print(libexo.attach(name='visitor').thread.id > 0)"

    ran = exo(system, folder, "run", "--", "/bin/echo", "hello")
    attached = done(system, folder, *python(), "-c", attach)
    with system.start("input()", name="prey") as prey:
        killed = exo(system, folder, "kill", "-s", "KILL", "prey")
        status = prey.finish().status

    assert (ran.stdout, attached.stdout) == ("hello\n", "True\n"), (ran, attached)
    assert (killed.returncode, status) == (0, -signal.SIGKILL), killed


def test_the_secret_is_its_users_alone(system: System, folder: Path) -> None:
    """It is there for its uid's owner, in no argument and no environ; another user is not an operator."""
    secret = system.run_directory / "operator"
    digits = secret.read_bytes()
    shown = [
        Path(f"/proc/{pid}/{name}").read_bytes()
        for pid in (system.pid, system.nursery, system.server("process").pid)
        for name in ("cmdline", "environ")
    ]
    status = secret.stat()
    folder.chmod(0o777)
    stranger = exo(system, folder, "run", "/bin/true", uid=OTHER_USER)

    assert (status.st_mode & 0o777, status.st_uid, len(digits)) == (0o600, NOBODY, 32)
    assert not any(digits in text or digits.hex().encode() in text for text in shown)
    assert f"uid {OTHER_USER} is not an operator" in stranger.stderr


def test_a_program_is_not_started_where_it_could_read_the_secret(system: System) -> None:
    """Working above the run directory, it would be given all below: the error says what to do."""
    refused = exo(system, system.run_directory.parent, "run", "--", "/bin/true")

    assert refused.returncode != 0
    assert f"is to read {system.run_directory.parent}, and with it the operators' secret" in refused.stderr
    assert "start it from elsewhere" in refused.stderr


def test_a_program_is_not_started_where_it_could_write_the_secret(system: System, folder: Path) -> None:
    """Nor is it given the run directory, or one above, to write in."""
    for given in (system.run_directory, system.run_directory.parent):
        refused = exo(system, folder, "run", "--write", str(given), "--", "/bin/true")

        assert refused.returncode != 0
        assert "with it the operators' secret" in refused.stderr


def test_strangers_do_not_keep_operators_out(system: System, folder: Path) -> None:
    """A program fills the console with connections that say nothing: the oldest are dropped, the user gets in."""
    program = (
        PRELUDE + "kept = []\n"
        "for _ in range(100):\n"
        "    kept.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))\n"
        "    kept[-1].connect(RUN + '/console')\n"
        "dropped = [s for s in kept[:80] if b'error' in s.recv(999)]\n"
        "print(len(dropped), flush=True); input()\n"
    )
    with system.start(program) as running:
        assert running.line() == "80"
        assert exo(system, folder, "run", "--", "/bin/echo", "in").stdout == "in\n"


def test_a_program_has_its_own_terminal_and_no_other(system: System) -> None:
    """It may open its own streams again, as shells do with /dev/stderr; other ones of its user it may not."""
    script = "tty; echo again > /dev/stderr; (: < {}) 2>/dev/null || echo shut; (: < /dev/tty) || echo none"
    with bystander(NOBODY) as other, ExitStack() as stack:
        ours, theirs = pty.openpty()
        for number in (ours, theirs):
            stack.callback(os.close, number)
        terminal = os.ttyname(theirs)
        os.chown(terminal, NOBODY, NOBODY)
        environ = {**os.environ, "EXO_RUN": str(system.run_directory), "PYTHONPATH": str(ROOT)}
        shell = ["/bin/sh", "-c", script.format(other.terminal)]
        subprocess.run(
            [*as_user(), *python(), "-m", "exo", "run", "--", *shell],
            env=environ, cwd="/usr", check=True, timeout=PATIENCE, stdin=theirs, stdout=theirs, stderr=theirs,
        )  # fmt: skip
        lines = os.read(ours, 9999).decode().split("\r\n")

    assert [line for line in lines if ":" not in line] == [terminal, "again", "shut", "none", ""]


def test_what_remains_open(system: System) -> None:
    """Sockets of its user that have a path: open to programs until the host's Landlock knows them."""
    program = "show(lambda: connect(FOLDER + '/socket'))"
    with bystander(NOBODY) as other, contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        probe.connect(str(other.folder / "socket"))
        finished = system.run(ATTACKER + program, *other.arguments)

    assert finished.out == ("EACCES\n" if landlockpy.abi_version() >= PATHNAME_SOCKETS else "done\n")
