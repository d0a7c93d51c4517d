"""`exo ping` and `exo serve --here`: processes that attach to a running system, and what they tell of it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.system.booted import PATIENCE, ROOT, SERVERS, System, wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

COUNTER = "examples.counter:CounterServer"
CLIENT = """
import libexo
from examples.counter import Counter
print([Counter.connect(libexo.attach(), "mine").add(n) for n in (1, 20)])
"""


def exo(system: System, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "exo", "--run", str(system.run_directory), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)


@contextmanager
def here(system: System, *words: str) -> "Iterator[subprocess.Popen[str]]":
    """A server in a process of ours, once it is published."""
    command = [sys.executable, "-m", "exo", "--run", str(system.run_directory), "serve", "--here", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert wait_until(lambda: "mine" in system.kip.names())
            yield process
        finally:
            process.kill()


def test_every_server_answers(booted: System) -> None:
    """Without names it is the servers that are asked; each with its thread id and how long it took."""
    done = exo(booted, "ping", "--json")
    answers = json.loads(done.stdout)

    assert (done.returncode, done.stderr) == (0, "")
    assert [answer["name"] for answer in answers] == list(SERVERS)
    assert all(answer["error"] is None and answer["round_trip_ns"] > 0 for answer in answers)


def test_who_does_not_answer_is_named(own: System) -> None:
    """One that is stopped has a process and a socket, and is found out; so is one that is not there."""
    with own.start(
        "import libexo; libexo.attach(); print('there', flush=True); input()", name="deaf"
    ) as deaf:
        assert deaf.line() == "there"
        os.kill(own.server("deaf").pid, signal.SIGSTOP)
        done = exo(own, "ping", "--timeout", "0.2", "deaf", "scheduler", "nosuch")

    assert done.returncode == 1
    assert "scheduler" in done.stdout
    assert done.stderr.startswith("exo: no answer from deaf (")
    assert "nosuch (no thread is called 'nosuch'" in done.stderr
    assert "scheduler (" not in done.stderr


@pytest.mark.parametrize("words", [["--timeout", "0", "memory"], ["--timeout", "x"]])
def test_a_timeout_is_a_time(booted: System, words: list[str]) -> None:
    """Anything else is a wrong call."""
    assert exo(booted, "ping", *words).returncode == 2


def test_a_server_runs_in_a_process_of_its_own_making(booted: System) -> None:
    """With --here nobody spawns it: it attaches under its name, programs call it, and its end is noticed."""
    with here(booted, "--name", "mine", COUNTER) as process:
        row = booted.server("mine")
        finished = booted.run(CLIENT)
        answered = exo(booted, "ping", "mine").returncode

    assert (row.pid, row.uid) == (process.pid, os.geteuid())
    assert finished.out == "[1, 21]\n"
    assert answered == 0
    assert wait_until(lambda: "mine" not in booted.kip.names())


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--restart", "always", COUNTER], 2, "leave out --restart"),
        (["memory"], 2, "module:Class"),
        (["nosuch:Class"], 1, "No module named 'nosuch'"),
        (["examples.counter:nosuch"], 1, "has no attribute 'nosuch'"),
        (["examples.counter:libexo"], 1, "not a class that implements an interface"),
    ],
)
def test_what_cannot_be_served_here_is_told(booted: System, words: list[str], status: int, says: str) -> None:
    """In one line, and nothing is left in the system."""
    done = exo(booted, "serve", "--here", *words)

    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr
