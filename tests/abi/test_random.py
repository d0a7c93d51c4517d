"""Ten thousand random traps and messages leave the kernel in order, and nothing behind."""

import time
from collections.abc import Callable

import pytest

from kernel.abi.kip import Counter
from kernel.abi.topology import MachineConfig, Topology
from libexo.testing import System
from tests.abi.chaos import Chaos
from tests.kernel.puppets import theatre

STEPS = 10_000
PLAYS = 3
"""How often so many, until enough of each kind was done: few seeds need more than one."""
KINDS = ("done", "refused", "sent", "received")
TWO = Topology(MachineConfig(memory="1 MiB", cpus=(0, 1)))
"""Two processors, so that environments are moved between plans."""


def leftovers(system: System) -> list[str]:
    return [repr(e) for e in system.kernel.environments]


@pytest.mark.slow
def test_ten_thousand(seed: int) -> None:
    """After random traps, messages and deaths every invariant holds, and when all have ended nothing is left."""
    with theatre(TWO, seed=seed) as stage:
        chaos = Chaos(stage, seed)
        for _ in range(PLAYS):
            chaos.play(STEPS)
            if min(chaos.did[what] for what in KINDS) > STEPS / 200:
                break
        assert min(chaos.did[what] for what in KINDS) > STEPS / 200
        assert stage.kernel.kip.counter(Counter.TRANSFERS) > STEPS / 1000
        stage.end()

        assert (leftovers(stage.system), stage.kernel.frames.free) == ([], stage.kernel.frames.total)


@pytest.mark.slow
def test_step_by_step(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with every job cut into its smallest steps, and every actor's trap on its way at the same time."""
    monkeypatch.setattr("kernel.jobs.QUANTUM", 1)
    with theatre(TWO, seed=seed) as stage:
        chaos = Chaos(stage, seed)
        for _ in range(STEPS // 100):
            chaos.play(10)
            chaos.crowd()
        stage.end()

        assert chaos.did["at once"] > STEPS / 100
        assert (leftovers(stage.system), stage.kernel.frames.free) == ([], stage.kernel.frames.total)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_for_long(seed: int, soak_seconds: float, record_property: Callable[[str, object], None]) -> None:
    """The same from one seed after another, for as long as there is time."""
    end, runs = time.monotonic() + soak_seconds, 0
    while time.monotonic() < end:
        with theatre(TWO, seed=seed + runs) as stage:
            Chaos(stage, seed + runs).play(STEPS)
            stage.end()
            assert leftovers(stage.system) == [], f"seed {seed + runs}"
        runs += 1
    record_property("runs", runs)
