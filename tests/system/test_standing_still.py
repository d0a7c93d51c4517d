"""Signals and processes that would hold a processor without using it, for real."""

from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from exo import kill
from kernel.abi.kip import EnvironmentState
from tests.system.booted import System, wait_until
from tests.system.test_preemption import LOOP, cpu_ns, pid_of

pytestmark = pytest.mark.system

STOPS = """
import os, signal
print('runs', flush=True)
while True:
    os.kill(os.getpid(), signal.SIGSTOP)
"""
STOPS_WHEN_CONTINUED = """
import os, signal
signal.signal(signal.SIGCONT, lambda *_: os.kill(os.getpid(), signal.SIGSTOP))
print('runs', flush=True)
while True:
    signal.pause()
"""
THREAD = """
import threading, time
def burn():
    while True: pass
threading.Thread(target=burn, daemon=True).start()
print('runs', flush=True)
time.sleep(1000)
"""
WORK = "print(sum(range(3_000_000)))"
BURNERS = ["/bin/sh", "-c", "for i in 1 2 3; do (while :; do :; done) & done; echo runs; wait"]


@pytest.mark.parametrize("program", [STOPS, STOPS_WHEN_CONTINUED, THREAD, BURNERS])
def test_others_go_on(booted: System, program: str | Sequence[str]) -> None:
    """Beside a program that stops itself, sleeps in its main thread, or computes in children, others work."""
    with booted.start(program, name="odd") as odd:
        assert odd.line() == "runs"

        assert booted.run(WORK).out == "4499998500000\n"
        assert booted.row("odd") is not None
        assert kill.end(str(booted.run_directory), ["odd"], 0) == []


def used(booted: System, name: str) -> int:
    row = booted.row(name)
    assert row is not None
    return row.consumed


def test_children_of_a_foreign_program_are_in_its_slices(booted: System) -> None:
    """Three loops in the children of a shell that waits have together no more than the one loop beside them."""
    with ExitStack() as stack:
        shell = stack.enter_context(booted.start(BURNERS, name="shell"))
        assert shell.line() == "runs"
        loop = stack.enter_context(booted.start(LOOP, name="loop"))
        assert loop.line() == "runs"
        wait_until(lambda: used(booted, "loop") > 100_000_000)
        before = used(booted, "loop"), used(booted, "shell")
        assert wait_until(lambda: used(booted, "loop") - before[0] > 600_000_000)

        assert used(booted, "shell") - before[1] < 2 * (used(booted, "loop") - before[0])


def test_an_operators_stop_and_continue(booted: System) -> None:
    """`exo kill -s STOP` holds whatever the plan says, until `exo kill -s CONT`."""
    run = str(booted.run_directory)
    with booted.start(LOOP, name="stopped") as stopped, booted.start(LOOP, name="beside") as beside:
        assert (stopped.line(), beside.line()) == ("runs", "runs")
        kill.send(run, "stopped", kill.number("STOP"))
        assert wait_until(lambda: booted.server("stopped").state is EnvironmentState.BLOCKED)
        (first, other) = pid_of(booted, stopped), pid_of(booted, beside)
        before = cpu_ns(first), cpu_ns(other)
        assert wait_until(lambda: cpu_ns(other) - before[1] > 300_000_000)
        assert cpu_ns(first) - before[0] < 20_000_000

        kill.send(run, "stopped", kill.number("CONT"))
        assert wait_until(lambda: cpu_ns(first) - before[0] > 100_000_000)
