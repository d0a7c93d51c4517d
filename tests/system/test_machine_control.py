"""Real programs stopped, continued, killed, and left behind by a kernel or a nursery that was killed."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kernel.abi.program import Activity, Role
from tests.system.machines import FOREIGN, MS, TOPOLOGY, TRAP, System, booted_machine, wait_for_end

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]
LOOKS = 2000
"""How often, 5 ms apart, it is looked whether a program has computed for 5 ms."""


@pytest.fixture
def system() -> Iterator[System]:
    with booted_machine() as system:
        yield system


# ------------------------------------------------------------------------------------ stopping and continuing


def test_a_held_program_runs_nothing_before_it_is_resumed(system: System) -> None:
    """It is there, confined, known by its pid, and has not used its processor."""
    body = system.start(source="print('user code')", cpu=0)
    system.wait("started", body)
    used = body.consumed()
    system.pass_time(50)
    before = body.consumed() - used, Path(system.run / "log" / "test.log").read_text(), body.activity()

    body.resume()
    system.wait("ended", body)

    assert before[0] < MS  # the end of its being stopped may be counted late
    assert before[1:] == ("", Activity.RUNS)
    assert system.output() == "user code\n"


def test_a_held_foreign_program_is_executed_when_resumed(system: System) -> None:
    """A program that cannot be started ends, with the reason in its log."""
    works = system.start("echo", "hello", kind=FOREIGN, cpu=0)
    fails = system.start("no-such-thing", kind=FOREIGN, cpu=0)
    for body in (works, fails):
        system.wait("started", body)
        body.resume()

    assert (system.wait("ended", works), system.wait("ended", fails)) == (0, 127)
    assert sorted(system.output().splitlines()) == ["hello", "no-such-thing: no such program"]


@pytest.mark.parametrize("cpu", [-1, 0])
def test_what_is_asked_before_the_start_is_done_at_the_start(system: System, cpu: int) -> None:
    """Resuming a held one, pausing and resuming one that is not, killing either: none is lost."""
    resumed = system.start(source="", cpu=cpu)
    resumed.pause()
    resumed.resume()
    paused = system.start(source="while True: pass", cpu=cpu)
    paused.resume()
    paused.pause()
    killed = system.start(source="while True: pass", cpu=cpu)
    killed.kill()

    statuses = system.wait("ended", resumed), system.wait("ended", killed)
    system.wait("started", paused)
    system.pass_time(20)

    assert statuses == (0, -signal.SIGKILL)
    assert psutil.Process(paused.pid).status() == psutil.STATUS_STOPPED


def test_a_paused_loop_uses_no_processor(system: System) -> None:
    """By the host's own account of it, and not after the next slice either."""
    body = system.start(source=TRAP + "\nwhile True: pass", cpu=0)
    body.resume()
    system.wait("trap", body)
    spent = []
    for _ in range(3):
        body.resume()
        before = body.consumed()
        for _ in range(LOOKS):
            system.pass_time(5)
            if body.consumed() - before > 5 * MS:
                break
        body.pause()
        system.pass_time(10)
        after = body.consumed()
        system.pass_time(30)
        spent.append((after - before, body.consumed() - after))

    assert min(ran for ran, _ in spent) > 5 * MS
    assert max(rested for _, rested in spent) < MS  # the end of its stopping may be counted late


def test_all_threads_of_a_program_are_counted_and_stopped(system: System) -> None:
    """Native code that runs beside the interpreter is the program's, too."""
    source = TRAP + (
        "\nimport hashlib, threading\ndef work():\n while True: hashlib.sha256(bytes(10_000_000))\n"
        "threading.Thread(target=work).start(); work()"
    )
    body = system.start(source=source)
    system.wait("trap", body)
    system.pass_time(30)
    body.pause()
    system.pass_time(20)
    stopped = body.consumed()
    system.pass_time(30)

    assert 0 < stopped <= body.consumed() < stopped + MS  # the end of its stopping may be counted late


def test_the_children_of_a_foreign_program_are_stopped_continued_and_killed_with_it(system: System) -> None:
    """They are in its process group, and the filter keeps them there."""
    reading, writing = os.pipe()
    script = "(while :; do :; done) & (setsid true || echo kept); echo $!; while :; do :; done"
    body = system.start("bash", "-c", script, kind=FOREIGN, roles={Role.STDOUT: writing})
    system.wait("started", body)
    with os.fdopen(reading) as output:
        said = {output.readline().strip() for _ in range(2)}
        [number] = [int(line) for line in said if line.isdecimal()]
        child = psutil.Process(number)
        body.pause()
        system.pass_time(20)
        paused = child.status()
        body.resume()
        system.pass_time(20)
        resumed = child.status()
        body.kill()
        status = system.wait("ended", body)
        body.discard()
        rest = output.read()

    assert (paused, resumed, status, rest) == (
        psutil.STATUS_STOPPED,
        psutil.STATUS_RUNNING,
        -signal.SIGKILL,
        "",
    )
    assert "kept" in said
    wait_for_end(number)


def test_a_program_that_waits_is_asleep(system: System) -> None:
    """Its main thread, by the host; one that computes is not."""
    waits = system.start(source=TRAP + "gate.recv(1)")
    works = system.start(source=TRAP + "\nwhile True: pass")
    system.wait("trap", waits)
    system.wait("trap", works)
    system.pass_time(30)

    assert (waits.activity(), works.activity()) == (Activity.WAITS, Activity.RUNS)


# ------------------------------------------------------------------------------------------------ leaving


def test_a_discarded_body_is_gone_from_the_host(system: System) -> None:
    """Its process is collected, even one that still ran; its number may be used again at once."""
    first = system.start(source="while True: pass")
    system.wait("started", first)
    pid = first.pid
    first.discard()
    first.discard()
    second = system.start(source="")

    assert system.wait("ended", second) == 0
    assert not psutil.pid_exists(pid)
    assert system.told("ended", first) == []


def test_a_signal_to_the_kernel_ends_the_system(system: System) -> None:
    """It comes to the supervisor as a request, in the loop."""
    system.machine.clock.alarm(system.machine.clock.now(), lambda: os.kill(os.getpid(), signal.SIGTERM))

    system.wait("stop", None)


def test_the_death_of_the_nursery_stops_the_system(system: System) -> None:
    """Programs die with it, the host sees to that; the log says what happened; nothing is left."""
    body = system.start(source="while True: pass")
    foreign = system.start("sleep", "1000", kind=FOREIGN)
    system.wait("started", body)
    system.wait("started", foreign)

    os.kill(system.machine._nursery.pid, signal.SIGKILL)
    system.machine.run(system)  # it returns by itself: there is nobody left to ask, or to wait for

    assert system.told("stop", None) == []
    assert "nursery has died" in system.log[-1]
    wait_for_end(body.pid)
    wait_for_end(foreign.pid)


ORPHANED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from hwmodel.real.machine import RealMachine
from kernel.abi.topology import Confinement, Topology
from kernel.abi.program import Program, ProgramKind
machine = RealMachine(Topology(confinement=Confinement(may_lack={lacks!r})), {run!r}, log=print)
bodies = [
    machine.launch(1, "a", Program(ProgramKind.FOREIGN, ("bash", "-c", "sleep 1000 & sleep 1000")), [], cpu=-1),
    machine.launch(2, "b", Program(ProgramKind.SERVER, ("asyncio",)), [], cpu=0),
]
class Supervisor:
    def started(self, body):
        if all(body.pid for body in bodies):
            print(machine._nursery.pid, *(body.pid for body in bodies), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    def failed(self, body, reason):
        print(reason, flush=True)
        os.abort()
    trap = broke = ended = attached = stop = print
machine.run(Supervisor())
"""


def test_a_killed_kernel_takes_everything_with_it(tmp_path: Path) -> None:
    """Programs that run, programs that are stopped, their children, the nursery, and the run directory."""
    with tempfile.TemporaryDirectory(prefix="exo-") as folder:
        run = Path(folder) / "run"
        source = ORPHANED.format(root=str(ROOT), run=str(run), lacks=TOPOLOGY.confinement.may_lack)
        kernel = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, check=False, timeout=20
        )
        assert kernel.returncode == -signal.SIGKILL, kernel.stderr
        nursery, *programs = map(int, kernel.stdout.split())
        wait_for_end(nursery)

        assert [pid for pid in programs if psutil.pid_exists(pid)] == []
        assert not [p for p in psutil.process_iter(["cmdline"]) if str(run) in (p.info["cmdline"] or ())]
        assert not run.exists()
