"""A day of a hundred environments, on the kernel's processor in virtual time."""

import time
import zlib
from collections.abc import Callable
from typing import NamedTuple

import pytest

from libexo.workload import MS, Described
from servers.scheduler.policies import POLICIES
from servers.scheduler.trial.bench import Trial
from servers.scheduler.trial.machine import Happening
from tests.servers.scheduler.test_trial import made

S = 1000 * MS
HOUR, DAY = 3600, 24 * 3600
LIMIT = 30
"""Seconds of CPU time that a day may take."""

PROGRAMS = (
    *(Described(f"daemon-{at}", "bursts", {"run": 5 * MS, "sleep": 900 * S}) for at in range(70)),
    *(Described(f"service-{at}", "bursts", {"run": 20 * MS, "sleep": 240 * S}, weight=2) for at in range(20)),
    *(Described(f"timer-{at}", "periodic", {"period": (60 + at) * S, "work": 50 * MS}) for at in range(5)),
    *(Described(f"batch-{at}", "bursts", {"run": 30 * S, "sleep": 3600 * S}) for at in range(5)),
)
"""What a small computer does: most sleep for minutes, and five now and then compute for half a minute."""


class Told(NamedTuple):
    """All that happened, as a number, and how much it was."""

    events: int
    mark: int
    used: int
    seconds: float
    """Of CPU time of the test."""
    refused: str


def lived(policy: str, seconds: int, seed: int) -> Told:
    """Return what happened in so many virtual seconds."""
    events, mark, begun = 0, 0, time.process_time()

    def told(happening: Happening) -> None:
        nonlocal events, mark
        events += 1
        mark = zlib.crc32(repr(happening).encode(), mark)

    trial = Trial(made(policy), PROGRAMS, seed, told)
    trial.run(seconds * S)
    return Told(events, mark, sum(trial.used.values()), time.process_time() - begun, trial.refused)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["stride", "edf"])
def test_an_hour(policy: str, seed: int) -> None:
    """Nothing is refused, all that was asked for is done, and the same seed gives the same."""
    told, again = (lived(policy, HOUR, seed) for _ in range(2))

    assert told[:3] == again[:3]
    assert told.refused == ""
    assert told.events > 2000


@pytest.mark.soak
@pytest.mark.parametrize("policy", POLICIES)
def test_a_day(policy: str, seed: int, report: Callable[[str], None]) -> None:
    """A day takes less than half a minute, and the same seed gives the same."""
    told, again = (lived(policy, DAY, seed) for _ in range(2))
    report(f"a day of a hundred under {policy}: {told.events} events in {told.seconds:.1f} s of CPU time")

    assert told[:3] == again[:3]
    assert told.refused == ""
    assert told.seconds < LIMIT
