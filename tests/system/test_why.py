"""What kept real programs from running, and who ran when, by `exo` and by a program's own look at the trace."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from exo import trace
from libexo.trace import Cause, explain
from tests.system.booted import System, wait_until
from tests.system.command import PATIENCE, Command, place, until
from tests.system.test_pagers import PAGER, USER

pytestmark = [pytest.mark.system, pytest.mark.slow]

BURN = "while True: pass\n"
SERVER = """
import libexo
env = libexo.attach()
env.thread.wait()  # and never answers
env.thread.wait()
"""
CLIENT = """
import libexo
from libexo import ipc
env = libexo.attach()
env.thread.call(env.lookup("silent", timeout=10), ipc.Message(label=64))
"""
LOOK = """
import libexo
from libexo import trace
env = libexo.attach()
found = trace.why(env.kip, trace.Ring(env.trace()), "one", now=env.host.now(), seconds=0.3)
print(found.name, found.processor, sum(found.spent.values()) + found.missing == found.end - found.begin)
print(sorted(cause.name for cause in found.whom))
"""
WAITS = """
import libexo
from libexo import vm
from libexo.predicates import wait, word
from servers.memory.api import Memory
env = libexo.attach()
view = vm.map(env, Memory.connect(env).allocate(pages=1))
wait(env, word(view, 3) > 5)
"""
LOOPS = """
import libexo
from libexo import aio
from libexo.predicates import after, arm
async def main():
    env = libexo.attach()
    await aio.Thread(env).receive(arm(env, after(1000)).sender)
aio.run(main())
"""
ASK = """
import json, libexo, msgspec
from servers.scheduler.api import Scheduler
env = libexo.attach()
print(json.dumps(msgspec.to_builtins(Scheduler.connect(env).why("waits", 200_000))))
"""
HOG = "import os, sys, time\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass"


@pytest.fixture
def running() -> Iterator[Command]:
    """A system with a program that computes."""
    with place(Command) as made:
        made.up()
        for name, program in (("burn", BURN), ("silent", SERVER), ("client", CLIENT), ("look", LOOK)):
            made.write(f"{name}.py", program)
        made.exo("run", "-d", "--name", "one", "burn.py")
        yield made


def why(system: Command, name: str, since: str = "300ms") -> dict[str, Any]:
    """Return what `exo sched why` says, and the causes by name."""
    found: dict[str, Any] = json.loads(system.exo("sched", "why", name, "--since", since, "--json").stdout)
    found["by"] = {each["cause"]: each for each in found["causes"]}
    return found


def pass_time(seconds: float) -> None:
    """Let programs run: what they do in a window is what is asked for."""
    select.select((), (), (), seconds)


@contextmanager
def hog(core: int) -> Iterator[None]:
    """Have something outside of the system compute on the core."""
    process = subprocess.Popen([sys.executable, "-c", HOG, str(core)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_two_loops_that_get_half(running: Command) -> None:
    """Of two loops with half a processor each, beside something of the host's, one is told that it was the host."""
    running.exo("run", "-d", "--name", "two", "burn.py")
    core = json.loads(running.exo("sched", "--json").stdout)[0]["core"]
    with hog(core):
        pass_time(1.0)
        found = why(running, "one", "600ms")

    assert found["planned"] == pytest.approx(0.5, abs=0.05)
    assert found["got"] < 0.45
    assert found["by"]["host"]["ns"] > 0.1 * found["window_ns"]
    assert set(found["by"]["turn"]["who"]) == {"two"}
    lost = [cause for cause, each in found["by"].items() if each["ns"] > 0.05 * found["window_ns"]]
    assert {"host", "turn"} <= set(lost) <= {"host", "turn", "carry"}
    told = running.exo("sched", "why", "one").stdout
    assert "the host ran something else on its core" in told


def test_an_answer_that_does_not_come(running: Command) -> None:
    """A client that waits for an answer sleeps, and is told whose it is."""
    running.exo("run", "-d", "--name", "silent", "silent.py")
    running.exo("run", "-d", "--name", "client", "client.py")
    until(
        lambda: why(running, "client")["by"].get("partner", {}).get("who", {}).get("silent", 0) > 100_000_000
    )
    until(lambda: why(running, "silent")["state"] == "asleep")

    text = running.exo("sched", "why", "client", "--since", "100ms").stdout
    assert "it waited for a message or an answer" in text
    assert text.rstrip().endswith("it sleeps now")


@pytest.mark.parametrize("program", [WAITS, LOOPS], ids=["wait", "event-loop"])
def test_a_predicate(running: Command, program: str) -> None:
    """A program that sleeps until a word is written is told so, and then which clause came true; by IPC, too."""
    running.write("waits.py", program)
    running.exo("run", "-d", "--name", "waits", "waits.py")

    def none_yet() -> bool:
        found = why(running, "waits")["by"].get("predicate", {})
        return bool(found.get("who", {}).get("none so far", 0) > 200_000_000)

    until(none_yet)
    running.write("ask.py", ASK)
    told = json.loads(running.exo("run", "--name", "asker", "ask.py").stdout)
    assert told["name"] == "waits"
    assert {each["cause"]: list(each["who"]) for each in told["causes"]}["predicate"] == ["none so far"]
    assert "it waited for its predicate to come true" in running.exo("sched", "why", "waits").stdout


def test_two_loops_beside_a_reservation(running: Command) -> None:
    """Of two loops with half a processor each, each is told that a third had reserved the time."""
    running.exo("run", "-d", "--name", "two", "burn.py")
    running.exo("run", "-d", "--name", "third", "--reserve", "10ms/20ms", "burn.py")
    running.exo("sched", "use", "priority")
    running.exo("sched", "set", "one", "priority=2")
    running.exo("sched", "set", "two", "priority=2")
    pass_time(1.0)
    found = why(running, "one", "600ms")

    assert found["planned"] == pytest.approx(0.5, abs=0.05)
    assert found["got"] < 0.35
    assert set(found["by"]["reservation"]["who"]) == {"third"}
    assert found["by"]["reservation"]["ns"] > 0.3 * found["window_ns"]
    assert "had reserved the time" in running.exo("sched", "why", "one", "--since", "500ms").stdout


def test_a_scheduler_that_ends(running: Command) -> None:
    """From the end of a scheduler to the first plan of the next one, the kernel's own round robin is named."""
    running.exo("run", "-d", "--name", "two", "burn.py")
    until(lambda: "turn" in why(running, "two")["by"])
    os.kill(running.listed()["scheduler"]["pid"], signal.SIGKILL)

    until(lambda: why(running, "two", "5s")["by"].get("watchdog", {}).get("who", {}).get("one", 0) > 0)
    until(lambda: "watchdog" not in why(running, "two", "100ms")["by"])


def test_a_stop(running: Command) -> None:
    """A program that an operator stopped is told so; when it ended, how."""
    running.exo("run", "-d", "--name", "two", "burn.py")
    running.exo("kill", "-s", "STOP", "two")
    until(lambda: why(running, "two", "100ms")["by"].get("stopped", {}).get("ns", 0) > 50_000_000)
    assert "it is stopped now" in running.exo("sched", "why", "two").stdout

    running.exo("kill", "-s", "KILL", "two")
    until(lambda: why(running, "two", "10s")["ended"] == "it ended by signal 9")


def test_a_program_looks_by_itself(running: Command) -> None:
    """The ring is for everybody: a program asks the same of it, without a server."""
    told = running.exo("run", "--name", "looker", "look.py").stdout.splitlines()

    assert told[0] == "one 0 True"
    assert set(eval(told[1])) <= {"TURN", "PARTNER", "UNPLANNED", "WATCHDOG", "DIRECTED"}  # noqa: S307 - our own list


def test_pictures(running: Command) -> None:
    """The timeline has a row for it, and Perfetto's file its name, also when it has ended."""
    assert "one  |" in running.exo("sched", "timeline", "--since", "100ms").stdout
    running.exo("kill", "-s", "KILL", "one")
    until(lambda: "one" not in running.listed())
    file = running.folder / "t.pftrace"
    running.exo("trace", "--perfetto", file)

    assert b"one" in file.read_bytes()


def test_it_follows_until_interrupted(running: Command) -> None:
    """On a terminal it draws again and again; Ctrl-C ends it, and the terminal is as before."""
    with warnings.catch_warnings():  # it execs at once, whatever threads there are
        warnings.simplefilter("ignore", DeprecationWarning)
        pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(sys.executable, running.words("sched", "timeline", "--follow"), running.environ)
    shown, deadline = b"", time.monotonic() + PATIENCE
    while shown.count(b"processor 0") < 2:
        assert time.monotonic() < deadline
        assert select.select([terminal], [], [], PATIENCE)[0]
        shown += os.read(terminal, 1 << 16)
    os.write(terminal, b"\x03")
    while select.select([terminal], [], [], PATIENCE)[0]:
        try:
            shown += os.read(terminal, 1 << 16)
        except OSError:  # its other side is closed
            break
    os.close(terminal)
    _, status = os.waitpid(pid, 0)

    assert (os.WIFSIGNALED(status), os.waitstatus_to_exitcode(status)) == (False, 0)
    assert b"\x1b[34m" in shown
    assert shown.rstrip().endswith(b"\x1b[?25h\x1b[?1049l")
    assert b"Traceback" not in shown
    assert signal.getsignal(signal.SIGINT) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid")
def test_a_page_that_does_not_come(booted: System) -> None:
    """A program that touched a page is told that it waits for it, and for whose."""
    touches = "view = vm.map(env, store.open(True))\nprint('touches', flush=True)\nview[0]"
    with (
        booted.start(PAGER, 10, "lazy", name="store") as pager,
        booted.start(BURN, name="burner"),
    ):
        pager.line()
        with booted.start(USER + touches, name="toucher", paged=True) as toucher:
            assert toucher.line() == "touches"

            def waits() -> bool:
                past = trace.past(booted.kip, str(booted.run_directory))
                found = explain(past, "toucher", past.now - 100_000_000, past.now)
                return Cause.PAGER in found.whom and found.whom[Cause.PAGER]["store"] > 50_000_000

            assert wait_until(waits)
