"""Handlers of real signals that make calls of their own, wherever the host lets them run."""

import os

import pytest

from tests.system.booted import System
from tests.system.programs import PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

CALLS = (
    PRELUDE
    + """
kinds = {"zmq": {}, "time-out": {"timeout": 5}, "ring": {"transport": "ring"}}
stubs = {name: Memory.connect(env, **how) for name, how in kinds.items()}
for stub in stubs.values():
    for _ in range(5): stub.statistics()  # from the second on they are plain
ran = wrong = 0
def tick(*_):
    global ran, wrong
    ran += 1
    wrong += inner.statistics().total != 65536
signal.signal(signal.SIGALRM, tick)
for outer in stubs.values():
    for inner in stubs.values():
        for n in range(150):
            signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + 3 * n))
            wrong += outer.statistics().total != 65536
        signal.setitimer(signal.ITIMER_REAL, 0)
print(ran > 100, wrong, len(env.thread.core.links.all()) < 12)
"""
)


def test_handlers_make_calls_in_the_middle_of_calls(booted: System) -> None:
    """Over sockets and rings, with a time-out and without: each gets its own answer, and no link is lost."""
    finished = booted.run(CALLS)

    assert finished.out == "True 0 True\n", finished
