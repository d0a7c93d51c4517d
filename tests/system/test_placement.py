"""Placement on a real host: an operator's program measures where it is best off, and goes there."""

import ast
import os
import subprocess
import sys

import pytest

from tests.system.booted import ROOT, System
from tests.system.programs import PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

INTERFACE = """
import os, sys
import libexo
from libexo import placement
from libexo.stub import Interface, operation, serve

class Echo(Interface, label=0x63, name="near-echo"):
    @operation(1, repeatable=True)
    def echo(self, n: int) -> int: ...
"""
SERVER = (
    INTERFACE
    + """
class Server(Echo):
    def echo(self, n): return n
print("serves")
serve(Server())
"""
)
VISITOR = (
    INTERFACE
    + """
env = libexo.attach(sys.argv[1], "near-caller")
stub = Echo.connect(env, transport=sys.argv[2])
server = env.lookup("near-echo") if sys.argv[3] == "known" else 0
before = os.sched_getaffinity(0)
placed = placement.best(env, lambda: stub.echo(1), server=server, rounds=50)
threads = [os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task")]
found = {"text": str(placed), "medians": dict(placed.medians), "core": placed.core, "before": before}
placed.close()
placed.close()
after = [os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task")]
print({**found, "threads": threads, "after": after})
"""
)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core only: nothing to choose")
@pytest.mark.parametrize("transport", ["zmq", "ring"])
@pytest.mark.parametrize("server", ["known", "unknown"])
def test_the_faster_place_is_chosen(booted: System, transport: str, server: str) -> None:
    """Both ways are measured, the faster one is taken by all its threads, and `close` puts things back."""
    with booted.start(SERVER, name="near-echo") as running:
        assert running.line() == "serves"
        done = subprocess.run(
            [sys.executable, "-c", VISITOR, str(booted.run_directory), transport, server],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = ast.literal_eval(done.stdout)

    medians, before = found["medians"], found["before"]
    assert medians[-1] > 0
    assert len(medians) == (2 if server == "known" else 1 + len(before))
    assert medians[found["core"]] == min(medians.values())
    chosen = before if found["core"] == -1 else {found["core"]}
    assert found["text"].endswith(
        "left where it was" if chosen == before else f"kept on core {found['core']}"
    )
    assert found["threads"] == [chosen] * len(found["threads"])
    assert found["after"] == [before] * len(found["after"])


CONFINED = (
    PRELUDE
    + """
from libexo import placement
print(placement.best(env, lambda: None))
"""
)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core only: nothing to choose")
@pytest.mark.parametrize(
    ("share", "why"), [(1, "under the plan of processor 0"), (0, "the host does not let it choose core")]
)
def test_where_the_kernel_decides(booted: System, share: int, why: str) -> None:
    """A program under a plan, and one that is confined, are told that they cannot choose."""
    finished = booted.run(CONFINED, share=share)

    assert (finished.err, finished.status) == ("", 0)
    assert finished.out.startswith(f"left where it was: {why}")
