"""How programs are ended: what runs before the end, what the status says, and when patience is over."""

import signal

import pytest

from exo import kill
from kernel.abi.kip import EnvironmentState
from tests.system.booted import FOREIGN, System, wait_until

pytestmark = pytest.mark.system

TIDY = """
import atexit, signal, sys, time
atexit.register(lambda: print('exit function', flush=True))
try:
    print('ready', flush=True)
    while True: time.sleep(1000)
finally:
    print('finally', flush=True)
"""
HANDLER = """
import os, signal, sys, time
def handler(*_):
    os.write(1, b'handled\\n')
    sys.exit(7)
signal.signal(signal.SIGTERM, handler)
print('ready', flush=True)
while True: time.sleep(1000)
"""
AIO = """
import asyncio
from libexo import aio
async def main():
    try:
        print('ready', flush=True)
        await asyncio.sleep(1000)
    finally:
        print('finally', flush=True)
aio.run(main())
"""
WAITS = """
import libexo
env = libexo.attach()
try:
    print('ready', flush=True)
    env.thread.wait()
finally:
    print('finally', flush=True)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready', flush=True)
while True: time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("program", "said", "status"),
    [
        (TIDY, "finally\nexit function\n", -signal.SIGTERM),
        (HANDLER, "handled\n", 7),
        (AIO, "finally\n", -signal.SIGTERM),
        (WAITS, "finally\n", -signal.SIGTERM),
    ],
    ids=["finally", "handler", "asyncio", "ipc"],
)
def test_what_runs_before_the_end(booted: System, program: str, said: str, status: int) -> None:
    """Handlers, `finally` and `atexit` run; the status says 15, or what a handler says."""
    with booted.start(program, name="tidy") as running:
        assert running.line() == "ready"
        ending = kill.Ending(str(booted.run_directory), "tidy")

        finished = running.finish()
        ending.wait()
        assert (finished.out, finished.err, finished.status) == (said, "", status)


def test_patience_ends(booted: System) -> None:
    """One that does not end by itself is killed when its grace is over; the server serves others meanwhile."""
    with booted.start(DEAF, name="deaf") as deaf:
        assert deaf.line() == "ready"
        ending = kill.Ending(str(booted.run_directory), "deaf", 0.3)
        assert booted.run("print('served')").out == "served\n"

        assert deaf.finish().status == -signal.SIGKILL
        ending.wait()


def test_whoever_ends_a_program_hears_when_it_has(booted: System) -> None:
    """`exo kill --end` returns when the name is free again: the next one of it is started at once."""
    for _ in range(3):
        with booted.start(DEAF, name="deaf") as deaf:
            assert deaf.line() == "ready"

            assert kill.end(str(booted.run_directory), ["deaf", "nobody"], 0.1) == [
                "no program is called 'nobody'"
            ]


def test_one_that_waits_to_be_restarted_is_ended_at_once(booted: System) -> None:
    """Its next start is delayed, since it ends again and again; its name is still free."""
    booted.start(["/bin/false"], name="fails", restart="always", detach=True, streams=False).close()
    assert wait_until(lambda: (row := booted.row("fails")) is None or row.state == EnvironmentState.DEAD)

    assert kill.end(str(booted.run_directory), ["fails"]) == []
    assert booted.row("fails") is None
    booted.start(["/bin/true"], name="fails", detach=True, streams=False).close()
    assert wait_until(lambda: booted.row("fails") is None)


def test_one_that_is_stopped_hears_of_it(booted: System) -> None:
    """Ended while an operator has it stopped, a program is continued for its last words."""
    run = str(booted.run_directory)
    with booted.start(TIDY, name="stopped") as running:
        assert running.line() == "ready"
        kill.send(run, "stopped", signal.SIGSTOP)
        ending = kill.Ending(run, "stopped")

        assert running.finish().status == -signal.SIGTERM
        ending.wait()


def test_the_end_of_its_operator(booted: System) -> None:
    """The programs of a console connection have their time to end when the connection does."""
    words = "trap 'echo bye >&3; exit' TERM; echo ready; while :; do sleep 0.05; done"
    with booted.start(["/bin/sh", "-c", words.replace(">&3", "> /dev/null")], name="orphan") as running:
        assert running.line() == "ready"
        row = booted.row("orphan")
        assert row is not None
        running.close()
        assert wait_until(lambda: booted.row("orphan") is None, 4)  # by itself, before the grace of 5 s
    assert FOREIGN
