"""How a real system ends, what is left of it, and what its logs hold."""

import json
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from kernel.abi.logs import LAST_LINE, MAX_LOG, OLDER
from tests.system.command import DEGRADED, PATIENCE, Command, family, living, until
from tests.system.test_exo import fresh

__all__ = ["fresh"]
pytestmark = [pytest.mark.system, pytest.mark.beside, pytest.mark.slow]

TIDY = """
import atexit, signal, sys, time
import libexo
from servers.memory.api import Memory

signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
memory = Memory.connect(libexo.attach())
atexit.register(lambda: print("atexit"))
try:
    print("ready")
    while True:
        time.sleep(60)
finally:
    memory.free(memory.allocate(4))
    print("served")
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready")
while True:
    time.sleep(60)
"""
FLOOD = """
while True:
    print("x" * 1000)
"""
SERVER = """
from libexo.stub import Interface, operation

class Twice(Interface, label=0x77):
    @operation(1)
    def twice(self, n: int) -> int: ...

class Server(Twice):
    def twice(self, n: int) -> int:
        return 2 * n

class Dies(Server):
    def __init__(self) -> None:
        raise RuntimeError("there is no way")

class Plain: ...
"""


def logged(system: Command, name: str) -> list[str]:
    """The content of a log, while the system runs or after it."""
    for folder in (system.run / "log", system.run.parent / "run.logs"):
        if (folder / f"{name}.log").exists():
            return (folder / f"{name}.log").read_text(encoding="utf-8").splitlines()
    return []


def start(system: Command, name: str, text: str) -> None:
    """Start a program, and wait until it says that it is ready."""
    system.exo("run", "-d", "--name", name, "--", system.write(f"{name}.py", text))
    until(lambda: logged(system, name))


def kernel_log(system: Command) -> list[str]:
    return (system.run.parent / "run.log").read_text(encoding="utf-8").splitlines()


# ----------------------------------------------------------------------------------------------- told, and time


def test_programs_are_told_and_servers_serve_until_they_are_gone(fresh: Command) -> None:
    """The work of finally and atexit is done, also by a stopped program; the logs are kept."""
    fresh.up()
    for name in ("first", "stopped"):
        start(fresh, name, TIDY)
    fresh.write("twice.py", SERVER)
    fresh.exo("serve", "twice:Server")
    fresh.exo("kill", "-s", "STOP", "stopped")
    fresh.exo("down")

    assert logged(fresh, "first") == ["ready", "served", "atexit"]
    assert logged(fresh, "stopped") == ["ready", "served", "atexit"]
    assert not any("killed" in line for line in kernel_log(fresh))
    assert kernel_log(fresh)[-1] == LAST_LINE


def test_who_does_not_end_is_killed_after_the_grace(fresh: Command) -> None:
    """No program outlives the kernel, and the log names those that did not end."""
    fresh.up()
    start(fresh, "deaf", DEAF)
    processes = family(fresh.pid())
    fresh.exo("down", "--grace", "0.2")

    assert "killed, as they did not end in time: deaf" in kernel_log(fresh)
    assert not living(processes)


def test_now_gives_no_time(fresh: Command) -> None:
    """Nobody is told."""
    fresh.up()
    start(fresh, "first", TIDY)
    fresh.exo("down", "--now")

    assert logged(fresh, "first") == ["ready"]
    assert kernel_log(fresh)[-1] == LAST_LINE


def test_a_second_request_in_front_ends_it_at_once(fresh: Command) -> None:
    """The first one gives the deaf all their time; the topology says how much."""
    config = fresh.write("slow.toml", _default().replace("[machine]", "[machine]\ngrace = 3000"))
    words = fresh.words("up", *DEGRADED, "--config", config)
    with subprocess.Popen(words, env=fresh.environ, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        start(fresh, "deaf", DEAF)
        processes = family(fresh.pid())
        child.send_signal(signal.SIGINT)
        until(lambda: "the system ends: 1 programs have 3000 s" in kernel_log(fresh))
        refused = fresh.exo("run", "--", "true", status=127).stderr
        child.send_signal(signal.SIGINT)
        child.wait(PATIENCE)

    assert child.returncode == 0
    assert "the system is ending" in refused
    assert not living(processes)


def _default() -> str:
    return (Path(__file__).parents[2] / "system.toml").read_text(encoding="utf-8")


# --------------------------------------------------------------------------------------------------- last words


def test_a_killed_kernel_is_told_of_and_its_logs_are_kept(fresh: Command) -> None:
    """`exo status` says so and fails; `exo logs` shows what was written; the next system replaces both."""
    fresh.up()
    start(fresh, "first", TIDY)
    processes = family(fresh.pid())
    os.kill(fresh.pid(), signal.SIGKILL)
    until(lambda: not living(processes) and not fresh.run.exists())

    said = fresh.exo("status", status=1).stderr
    assert said.startswith(
        f"exo: the system at {fresh.run} did not end in order: its kernel was killed, or failed"
    )
    assert json.loads(fresh.exo("status", "--json", status=1).stdout)["state"] == "killed"
    assert fresh.exo("logs", "first").stdout.splitlines()[0] == "ready"
    fresh.up()
    assert logged(fresh, "first") == []
    fresh.exo("down")
    assert "no system runs" in fresh.exo("status", status=1).stderr
    assert fresh.exo("logs", "kernel").stdout.endswith(f"{LAST_LINE}\n")


def test_a_missing_server_is_told(fresh: Command) -> None:
    """The status of a system that lacks a server of its topology is 1."""
    fresh.up()
    fresh.exo("kill", "--end", "scheduler")
    until(lambda: "scheduler missing" in fresh.exo("status", status=1).stdout)

    assert "scheduler missing" in fresh.exo("status", status=1).stdout


# ------------------------------------------------------------------------------------------------------ coming up


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"servers.memory"', '"servers.memry"', "memory ends before it serves; its last words"),
        ('"servers.process"', '"servers.proces"', "No module named servers.proces"),
        ('"servers.scheduler"', '"nosuch:Policy"', "ModuleNotFoundError: No module named 'nosuch'"),
        ('"servers.scheduler"', '"twice:Dies"', "RuntimeError: there is no way"),
        ('"servers.scheduler"', '"twice:Plain"', "twice:Plain is not a server"),
        ('"256 MiB"', '"900 TiB"'.replace("TiB", "GiB"), "machine.memory is 900 GiB, but this host has"),
    ],
)
def test_a_server_that_does_not_come_up_fails_the_boot(
    fresh: Command, old: str, new: str, words: str
) -> None:
    """With status 1 and what it said last; nothing is left running. Its module lies beside the topology."""
    fresh.write("twice.py", SERVER)
    config = fresh.write("bad.toml", _default().replace(old, new))
    for detach in (["-d"], []):
        said = fresh.exo("up", *detach, *DEGRADED, "--config", config, status=1).stderr

        assert said.startswith("exo: the system did not boot")
        assert words in said
        assert not fresh.run.exists()


def test_a_file_that_is_restarted_is_a_server(fresh: Command) -> None:
    """One that ends again and again fails the boot, with its last words; one that stays need not answer."""
    fresh.write("boom.py", "import nosuch\n")
    fresh.write("stays.py", "import time\nwhile True: time.sleep(1000)\n")
    config = fresh.write("boom.toml", _default().replace('"servers.scheduler"', '"boom.py"'))
    said = fresh.exo("up", "-d", *DEGRADED, "--config", config, status=1).stderr
    config = fresh.write("stays.toml", _default().replace('"servers.scheduler"', '"stays.py"'))
    fresh.exo("up", "-d", *DEGRADED, "--config", config)

    assert said.startswith("exo: the system did not boot: scheduler ends before it serves; its last words:")
    assert "ModuleNotFoundError: No module named 'nosuch'" in said
    assert "scheduler ready" in fresh.exo("status").stdout


ENDS = """
import os, time
while not os.path.exists({go!r}): time.sleep(0.01)
{last}
"""


@pytest.mark.parametrize(
    ("rule", "last", "status"),
    [
        ("never", "", 0),
        ("never", "raise ValueError('no way')", 1),
        ("always", "raise ValueError('no way')", 1),
    ],
)
def test_a_file_that_ends(fresh: Command, rule: str, last: str, status: int) -> None:
    """A program may come to its end. One that failed is told, and so is a server that ends again and again."""
    go = fresh.folder / "go"
    fresh.write("mine.py", ENDS.format(go=str(go), last=last))
    mine = f'\n[server.mine]\nmodule = "mine.py"\nthread = 100\nimportance = 9\nrestart = "{rule}"\n'
    config = fresh.write("mine.toml", _default() + mine)
    fresh.exo("up", "-d", *DEGRADED, "--config", config)
    fresh.exo("status")
    go.touch()

    def told() -> bool:
        words = fresh.words("status")
        found = subprocess.run(words, env=fresh.environ, capture_output=True, text=True, check=False)
        said = "failing     mine; its last words:" in found.stdout and "ValueError: no way" in found.stdout
        assert not said or found.returncode == 1
        return said

    until(told if status else lambda: "mine" not in fresh.listed())
    if not status:
        fresh.exo("status")


def test_a_server_beside_the_topology_is_found(fresh: Command) -> None:
    """And asked, before the system is said to be up."""
    fresh.write("twice.py", SERVER)
    mine = '\n[server.mine]\nmodule = "twice:Server"\nthread = 100\nimportance = 9\n'
    config = fresh.write("good.toml", _default() + mine)
    fresh.exo("up", "-d", *DEGRADED, "--config", config)

    assert fresh.exo("ping", "mine").stdout.splitlines()[1].startswith("mine")


def test_serve_waits_until_it_serves(fresh: Command) -> None:
    """One that cannot is ended for good; its traceback is shown, and the status is 1."""
    fresh.up()
    fresh.write("twice.py", SERVER)
    for target, words in (
        ("nosuch:Server", "ModuleNotFoundError: No module named 'nosuch'"),
        ("twice:Nothing", "AttributeError: module 'twice' has no attribute 'Nothing'"),
        ("twice:Dies", "RuntimeError: there is no way"),
        ("twice:Plain", "TypeError: twice:Plain is not a server"),
        ("twice:Twice", "TypeError: twice:Twice is a bare interface"),
    ):
        for rule in ("never", "always"):
            said = fresh.exo("serve", "--restart", rule, target, status=1).stderr
            assert words in said
    until(lambda: set(fresh.listed()) == {"memory", "process", "scheduler"})

    assert fresh.exo("serve", "twice:Server").stdout == "twice\n"
    assert fresh.exo("ping", "twice").returncode == 0


# ----------------------------------------------------------------------------------------------------------- logs


def test_a_flood_is_bounded_and_delays_nobody_for_long(fresh: Command) -> None:
    """The log is rotated, one older file is kept, and others are started meanwhile."""
    fresh.up()
    start(fresh, "flood", FLOOD)
    older = fresh.run / "log" / f"flood.log{OLDER}"
    until(older.exists)
    first = older.stat().st_ino
    until(lambda: older.stat().st_ino != first)
    said = [fresh.exo("run", "--", "echo", "hello").stdout for _ in range(3)]
    sizes = [path.stat().st_size for path in (older, older.with_suffix("")) if path.exists()]
    shown = fresh.exo("logs", "-n", "2", "flood").stdout

    assert said == ["hello\n"] * 3
    assert max(sizes) <= MAX_LOG
    assert len(shown) == 2 * 1001


def test_every_name_has_one_log(fresh: Command) -> None:
    """Over restarts, and whatever is in the name."""
    fresh.up()
    fresh.write("twice.py", SERVER.replace("return 2 * n", "print(n); return 2 * n"))
    for name in ("a/b", "a_b", "kernel"):
        fresh.exo("run", "-d", "--name", name, "--", "echo", f"I am {name}")
        until_gone(fresh, name)
        fresh.exo("run", "-d", "--name", name, "--", "echo", "again")
        until_gone(fresh, name)

    assert fresh.exo("logs", "a/b").stdout == "I am a/b\nagain\n"
    assert fresh.exo("logs", "a_b").stdout == "I am a_b\nagain\n"
    assert "I am kernel" not in fresh.exo("logs", "kernel").stdout


def test_a_followed_log_goes_on_from_its_new_beginning(fresh: Command) -> None:
    """Whether it was put aside, or cut; nothing that was put aside is missed."""
    fresh.up()
    path = fresh.run / "log" / "web.log"
    path.write_text("one\n", encoding="ascii")
    with subprocess.Popen(
        fresh.words("logs", "-f", "web"), env=fresh.environ, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        heard = [child.stdout.readline()]
        with path.open("a", encoding="ascii") as file:
            file.write("two\n")
        path.rename(f"{path}{OLDER}")
        path.write_text("three\n", encoding="ascii")
        heard += [child.stdout.readline(), child.stdout.readline()]
        os.truncate(path, 0)
        time.sleep(0)
        until(lambda: path.stat().st_size == 0)
        path.write_text("4\n", encoding="ascii")
        heard.append(child.stdout.readline())
        child.kill()

    assert heard == ["one\n", "two\n", "three\n", "4\n"]


def test_nobody_reads_what_the_kernel_says(fresh: Command) -> None:
    """Its standard error is a full pipe: it goes on, and says afterwards how much is missing."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    filled = os.write(writing, b"x" * (1 << 16))
    os.set_blocking(writing, True)
    config = fresh.write("own.toml", _default())
    words = [sys.executable, "-m", "kernel", "--config", config, "--run", fresh.run]
    may_lack = ["--may-lack=uid", "--may-lack=landlock"] if DEGRADED else []
    kernel = subprocess.Popen([*map(str, words), *may_lack], env=fresh.environ, stderr=writing)
    os.close(writing)
    until((fresh.run / "console").exists)
    breaks = fresh.write("breaks.py", "import os, socket\nsocket.socket(fileno=3).send(b'x')\n" + DEAF)
    for _ in range(3):
        fresh.exo("run", "--", breaks, status=125)
    assert fresh.exo("run", "--", "echo", "on").stdout == "on\n"
    data = bytearray()
    while len(data) < filled:
        data += os.read(reading, 1 << 16)
    kernel.send_signal(signal.SIGTERM)
    while chunk := os.read(reading, 1 << 16):
        data += chunk
    os.close(reading)

    assert kernel.wait(PATIENCE) == 0
    assert data[filled:].count(b"breaks: fault: ") == 3
    assert data.endswith(f"{LAST_LINE}\n".encode())


def test_a_stopped_terminal_stops_only_who_looks_on(fresh: Command) -> None:
    """`exo up` on a terminal that takes no output: the system runs on."""
    pid, terminal, _ = fresh.on_terminal()
    termios.tcflow(terminal, termios.TCOOFF)
    breaks = fresh.write("breaks.py", "import os, socket\nsocket.socket(fileno=3).send(b'x')\n" + DEAF)
    for _ in range(3):
        fresh.exo("run", "--", breaks, status=125)

    assert sum("fault" in line for line in kernel_log(fresh)) == 3
    fresh.exo("down", "--now")
    os.close(terminal)
    os.waitpid(pid, 0)


def until_gone(system: Command, name: str) -> None:
    until(lambda: name not in system.listed())


# ------------------------------------------------------------------------------------------------ starting again


def test_a_restart_runs_the_file_that_is_there_now(fresh: Command) -> None:
    """Replaced by rename, as editors and deployments do."""
    fresh.up()
    program = "import time\nprint('VERSION', flush=True)\ntime.sleep(60)\n"
    path = fresh.write("web.py", program.replace("VERSION", "one"))
    script = (
        "import os, sys\nfrom exo.console import Console, own_directory\n"
        f"d = own_directory({str(fresh.folder)!r}); s = os.open({str(path)!r}, os.O_RDONLY)\n"
        f"print(Console({str(fresh.run)!r}).ask('run', [s, d], kind=1, argv=['web.py'], name='web', "
        "restart='always', roles=[4, 5], detach=True))\n"
    )
    subprocess.run([sys.executable, "-c", script], env=fresh.environ, check=True, capture_output=True)
    until(lambda: logged(fresh, "web") == ["one"])
    fresh.write("new.py", program.replace("VERSION", "two")).rename(path)
    fresh.exo("kill", "-s", "KILL", "web")
    until(lambda: logged(fresh, "web")[-1:] == ["two"])

    assert logged(fresh, "web") == ["one", "two"]


def test_what_a_shell_hands_over_is_carried(fresh: Command) -> None:
    """Bytes that are no text, and a hundred kilobytes of them."""
    fresh.up()
    program = (
        "import os, sys; print(len(os.environb[b'LONG']), os.environb[b'ODD'], os.fsencode(sys.argv[1]))"
    )
    environ = {
        **os.environb,
        b"EXO_RUN": os.fsencode(fresh.run),
        b"PYTHONPATH": os.fsencode(Path(__file__).parents[2]),
    }
    environ |= {b"LONG": b"x" * 100_000, b"ODD": b"\xff\xfe"}
    words: list[str | bytes] = [*fresh.words("run", "--", fresh.write("show.py", program)), b"\xfe"]
    done = subprocess.run(words, env=environ, capture_output=True, check=False)

    assert done.stdout == b"100000 b'\\xff\\xfe' b'\\xfe'\n"
