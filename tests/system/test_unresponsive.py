"""Servers that stop, block, or are only starved: on real processes, with the path that clients use."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exo.serve import spawn
from kernel.abi.obituary import Obituary
from tests.system.booted import Running, System, ended, wait_until
from tests.system.confined import directory

pytestmark = [pytest.mark.system, pytest.mark.beside]

BLOCKED = """
import threading
from libexo.stub import Interface, operation

class Blocked(Interface, label=0x79, name="blocked"):
    @operation(1)
    def block(self) -> None: ...
    @operation(2)
    def answer(self) -> int: ...

class BlockedServer(Blocked):
    def block(self):
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    def answer(self):
        return 42
"""
TRACER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
pid = int(sys.argv[1])
libc.ptrace.argtypes = (ctypes.c_long,) * 4
assert libc.ptrace(PTRACE_ATTACH, pid, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.waitpid(pid, 0x40000000)
print("attached", flush=True)
sys.stdin.readline()
libc.ptrace(PTRACE_DETACH, pid, 0, 0)
"""


CLIENT = """
import sys, libexo
from kernel.abi.messages import Label, PacketKind
from libexo.errors import ExoError
from libexo.ipc.message import Message
env = libexo.attach()
print("ready", flush=True)
for line in sys.stdin:
    name, _, block = line.strip().partition(" ")
    try:
        server = env.lookup(name, 5)
        if block:
            request = Message(0x79, (1,), (bytes([0x90]),))
            env.thread.core.post(server, request, PacketKind.CALL, timed=False)
        else:
            env.thread.call(server, Message(Label.HEARTBEAT), 20)
        print("served", flush=True)
    except ExoError as error:
        print(error, flush=True)
"""


@pytest.fixture
def client(own: System) -> Iterator[Running]:
    """A client, in a system of our own."""
    with own.start(CLIENT, name="client", share=0) as running:
        assert running.line() == "ready"
        yield running


def answers(client: Running, name: str) -> bool:
    """Have the client ask *name* once."""
    return client.ask(name) == "served"


def deaths(system: System) -> list[Obituary]:
    """Return what the logs tell of deaths."""
    logs = [system.log, system.run_directory / "log" / "process.log"]
    lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
    return [found for found in map(Obituary.read, lines) if found is not None]


def unresponsive(system: System) -> int:
    return system.kip.counters()["unresponsive"]


@pytest.mark.parametrize("name", ["memory", "process", "scheduler"])
def test_a_stopped_server_is_replaced(own: System, client: Running, name: str) -> None:
    """Stopped, it is ended for not answering; the next call is served; the log has its obituary."""
    assert wait_until(lambda: answers(client, name))
    wait_until(lambda: False, 0.5)  # until it has answered the watch once
    first = own.server(name)
    os.kill(first.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    assert wait_until(lambda: answers(client, name))
    print(f"{name}: served after {(time.monotonic() - stopped) * 1e3:.0f} ms")  # noqa: T201

    assert own.server(name).pid != first.pid
    assert unresponsive(own) == 1
    [dead] = [each for each in deaths(own) if each.name == name]
    assert "it was stopped" in dead.cause


@pytest.mark.parametrize("name", ["memory", "process", "scheduler"])
def test_a_killed_server_has_an_obituary(own: System, client: Running, name: str) -> None:
    """Killed, it is back, and the log says by what it ended."""
    os.kill(own.server(name).pid, signal.SIGKILL)
    assert wait_until(lambda: answers(client, name))

    [dead] = [each for each in deaths(own) if each.name == name]
    assert (dead.cause, unresponsive(own)) == ("SIGKILL", 0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory with the module of the blocked server."""
    with directory() as made:
        (made / "blocked.py").write_text(BLOCKED)
        yield made


def blocked(own: System, folder: Path, *, heartbeat: bool) -> None:
    """Serve one that blocks when asked to."""
    with contextlib.chdir(folder):
        spawn(str(own.run_directory), "blocked:BlockedServer", "blocked", "always", heartbeat=heartbeat)


def test_a_blocked_server_is_replaced(own: System, client: Running, folder: Path) -> None:
    """A user's server with a heartbeat, whose operation waits for a lock for ever, is ended and restarted."""
    blocked(own, folder, heartbeat=True)
    assert wait_until(lambda: answers(client, "blocked"))
    first = own.server("blocked")
    assert client.ask("blocked block") == "served"

    assert ended(first.pid)
    assert wait_until(lambda: answers(client, "blocked"))
    assert unresponsive(own) == 1


def test_one_without_a_heartbeat_may_block(own: System, client: Running, folder: Path) -> None:
    """A user's server is left alone unless it asked for a heartbeat: others are found out meanwhile."""
    blocked(own, folder, heartbeat=False)
    assert wait_until(lambda: answers(client, "blocked"))
    first = own.server("blocked")
    assert client.ask("blocked block") == "served"
    for _ in range(2):
        os.kill(own.server("scheduler").pid, signal.SIGSTOP)
        assert wait_until(lambda: answers(client, "scheduler"))

    assert own.server("blocked").pid == first.pid
    os.kill(first.pid, signal.SIGKILL)


@pytest.mark.skipif(os.getuid() != 0, reason="a debugger of other users' processes is root")
def test_one_under_a_debugger_is_left_alone(own: System, client: Running) -> None:
    """Traced and stopped, a server is not ended; let go, it serves."""
    assert wait_until(lambda: answers(client, "scheduler"))
    first = own.server("scheduler")
    tracer = subprocess.Popen(
        [sys.executable, "-c", TRACER, str(first.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == "attached\n"
        os.kill(own.server("memory").pid, signal.SIGSTOP)
        assert wait_until(lambda: answers(client, "memory"))
        assert unresponsive(own) == 1
        tracer.communicate("go on\n")

    assert wait_until(lambda: answers(client, "scheduler"))
    assert own.server("scheduler").pid == first.pid


def test_the_starved_are_not_ended(own: System, client: Running) -> None:
    """With every core of the host loaded twice by others, three thousand calls find the servers there were."""
    before = [own.server(name).pid for name in ("memory", "process", "scheduler")]
    load = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        served = [answers(client, name) for _ in range(1000) for name in ("memory", "process", "scheduler")]
    finally:
        for each in load:
            each.kill()
            each.wait()

    assert all(served)
    assert (unresponsive(own), [own.server(name).pid for name in ("memory", "process", "scheduler")]) == (
        0,
        before,
    )
