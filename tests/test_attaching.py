"""What docker-compose.yml rests on, without an engine: a kernel with three capabilities, servers as plain users."""

import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from kernel.abi.kip import EnvironmentState
from kernel.abi.topology import load
from libexo import kip
from libexo.errors import ExoError

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "docker" / "system.toml"
PATIENCE = 20
CAPABILITIES = "-all,+kill,+setuid,+setgid"

pytestmark = [pytest.mark.system, pytest.mark.slow]


def as_user(uid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs", sys.executable]


def wait_until_ready(run: Path, names: set[str]) -> dict[str, kip.EnvironmentRow]:
    """Return the environments called *names* once all are ready: a poll, for others make them so."""
    for _ in range(PATIENCE * 100):
        with suppress(FileNotFoundError, ExoError):  # not there yet, or not written yet
            rows = kip.read(run / "kip").environments()
            ready = {row.name: row for row in rows if row.state == EnvironmentState.READY}
            if names <= ready.keys():
                return ready
        time.sleep(0.01)
    raise AssertionError(f"{', '.join(names)} were not ready within {PATIENCE} s")


def is_gone(pid: int) -> bool:
    """Wait for the end of a process."""
    process = os.pidfd_open(pid)
    try:
        return bool(select.select([process], [], [], PATIENCE)[0])
    finally:
        os.close(process)


@pytest.fixture
def attached() -> Iterator[Path]:
    """The run directory of a system whose servers were all started beside it, each as its own uid."""
    servers = load(CONFIG).server
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root, and setpriv of util-linux")
    uid = servers["memory"].uid or 0
    if subprocess.run(
        [*as_user(uid), "-c", "import exo, zmq"], cwd=ROOT, capture_output=True, check=False
    ).returncode:
        pytest.skip("another uid cannot import from here")

    folder = Path(tempfile.mkdtemp(prefix="exo-", dir="/tmp"))
    folder.chmod(0o711)
    run = folder / "run"
    bounded = [
        "setpriv",
        f"--bounding-set={CAPABILITIES}",
        "--inh-caps=-all",
        "--no-new-privs",
        sys.executable,
    ]
    with ExitStack() as processes:
        processes.callback(shutil.rmtree, folder)
        kernel = [*bounded, "-m", "kernel", "--config", str(CONFIG), "--run", str(run)]
        kernel_process = processes.enter_context(subprocess.Popen(kernel, cwd=ROOT))
        processes.callback(kernel_process.terminate)
        wait_until_ready(run, set())
        for name, server in servers.items():
            command = [*as_user(server.uid or 0), "-m", "exo", "--run", str(run)]
            command += ["serve", "--config", str(CONFIG), name]
            ends = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
            processes.enter_context(ends)
            processes.callback(kernel_process.terminate)
        wait_until_ready(run, set(servers))
        yield run


def test_servers_attach_as_their_uids(attached: Path) -> None:
    """Each server is the environment of its name, under its thread number, with the uid the host vouches for."""
    rows = wait_until_ready(attached, set())

    assert {name: (row.uid, row.thread >> 32) for name, row in rows.items()} == {
        name: (server.uid, server.thread) for name, server in load(CONFIG).server.items()
    }


def test_programs_run_there(attached: Path) -> None:
    """Programs are started, confined and killed with the three capabilities the kernel's container keeps."""
    command = [sys.executable, "-m", "exo", "--run", str(attached), "run", "examples/share.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)

    assert done.stdout == (ROOT / "tests/examples/expected/share.txt").read_text(encoding="utf-8")
    assert done.returncode == 0


def test_an_operator_kills_a_server_that_came_late(attached: Path) -> None:
    """The process server answers also for who attached after it, and ends it for an operator who could not."""
    before = wait_until_ready(attached, set())["scheduler"]
    (operator,) = load(CONFIG).attach.operators
    command = [*as_user(operator), "-m", "exo", "--run", str(attached), "kill", "-s", "KILL", "scheduler"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)

    assert (done.returncode, done.stderr) == (0, "")
    assert is_gone(before.pid)


def test_another_uid_is_turned_away(attached: Path) -> None:
    """Who is not the server's uid does not become the server."""
    command = [
        *as_user(10_001),
        "-m",
        "exo",
        "--run",
        str(attached),
        "serve",
        "--config",
        str(CONFIG),
        "memory",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)

    assert done.returncode == 1
    assert "uid 10001 is not memory's" in done.stderr
