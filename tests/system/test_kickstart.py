"""kickstart on a real system: exactly what is named is booted, in that order, and ends cleanly."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.system.booted import wait_until
from tests.system.command import DEGRADED, Command, place

pytestmark = [pytest.mark.system, pytest.mark.beside, pytest.mark.slow]
READER = """
import sys
import libexo
import beside
from libexo import l4
from servers.memory.api import Memory

environment = libexo.attach()
record = l4.BootInfo_FirstEntry(l4.BootInfo())
for _ in range(l4.BootInfo_Entries(l4.BootInfo())):
    print(l4.Module_Cmdline(record))
    record = l4.BootRec_Next(record)
print(sys.argv[1:], beside.TEXT, Memory.connect(environment).allocate(2).pages)
print("root:", len(environment.sys.inventory()), environment.thread.id >> 32)
"""


class Kickstart(Command):
    """Boots what is named, and nothing else."""

    def kickstart(self, *words: str) -> str:
        return self.exo("kickstart", "-d", *DEGRADED, *words).stdout

    def names(self) -> list[str]:
        """The environments in the order they were created, and got their uids; they start side by side."""
        rows = self.listed().values()
        return [row["name"] for row in sorted(rows, key=lambda row: row["uid"])]

    def down(self) -> None:
        self.exo("down")
        assert not self.run.exists()


@pytest.fixture
def command() -> Iterator[Kickstart]:
    """A place without a system."""
    with place(Kickstart) as made:
        yield made


def test_memory_and_scheduler(command: Kickstart) -> None:
    """The two servers are there, in that order, and nobody else; what works without a process server works."""
    said = command.kickstart("-roottask=servers/memory", "servers/scheduler")

    assert "no process server is booted" in said
    assert command.names() == ["memory", "scheduler"]
    assert "servers     memory ready, scheduler ready" in command.exo("status").stdout
    assert "memory" in command.exo("ping").stdout
    command.down()


def test_in_front_of_somebody(command: Kickstart) -> None:
    """Without -d it stays, says when the system is up, and ends it on Ctrl-C with status 0."""
    words = command.words("kickstart", *DEGRADED, "-roottask=servers/memory", "servers/scheduler")
    with subprocess.Popen(words, env=command.environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("no process server")
        assert process.stdout.readline().startswith(f"the system is up at {command.run}")
        process.send_signal(signal.SIGINT)

        assert process.wait(30) == 0
    assert not command.run.exists()


def test_a_root_task_of_ones_own(command: Kickstart) -> None:
    """It reads the command lines of all modules, its own among them, and calls the memory server, implied."""
    (command.folder / "my_root.py").write_text(READER)
    (command.folder / "beside.py").write_text("TEXT = 'found beside'\n")
    command.kickstart("maxmem=1M", "-roottask=my_root.py verbose=1 'a b'", "servers/scheduler")
    log = command.run / "log" / "my_root.log"

    assert wait_until(lambda: log.exists() and "root:" in log.read_text()), log.read_text()
    assert log.read_text().splitlines() == [
        "servers/memory",
        f"{command.folder}/my_root.py verbose=1 'a b'",
        "servers/scheduler",
        "['verbose=1', 'a b'] found beside 2",
        "root: 4 98",
    ]
    assert json.loads(command.exo("status", "--json").stdout)["frames"] == 256
    command.down()


def test_by_their_places(command: Kickstart) -> None:
    """Kernel, sigma0, root task, others: with the process server as root task, programs run."""
    (command.folder / "hello.py").write_text("print('hello')\n")
    command.kickstart("kernel", "servers/memory", "servers/process", "servers/scheduler")

    assert command.names() == ["memory", "process", "scheduler"]
    assert command.exo("run", "--", "hello.py").stdout == "hello\n"
    command.down()


def test_a_process_server_beside_the_root_task(command: Kickstart) -> None:
    """It creates environments though another is the root task, and both are back when they are killed."""
    (command.folder / "hello.py").write_text("print('hello')\n")
    command.kickstart("-roottask=servers/memory", "servers/process", "servers/scheduler")
    before = {row["name"]: row["pid"] for row in command.listed().values()}
    for name in ("process", "memory", "scheduler"):
        os.kill(before[name], signal.SIGKILL)

    def are_back() -> bool:
        rows = command.listed().values()
        return all(row["state"] == "ready" and row["pid"] != before[row["name"]] for row in rows)

    assert wait_until(are_back)
    assert command.exo("run", "--", "hello.py").stdout == "hello\n"
    command.down()


def test_a_file_that_is_gone(command: Kickstart) -> None:
    """A server that cannot be read when the kernel boots is named, and nothing stays behind."""
    config = command.folder / "system.toml"
    config.write_text('[server.a]\nmodule = "/nonexistent/a.py"\nthread = 99\n')
    words = command.words("up", "-d", *DEGRADED, "--config", str(config))
    done = subprocess.run(words, env=command.environ, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert (
        "cannot open what a server needs: [Errno 2] No such file or directory: '/nonexistent/a.py'"
        in done.stderr
    )
    assert not command.run.exists()
