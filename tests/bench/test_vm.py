"""The aims of page faults: each has a goal, and a small run ends with a verdict on each."""

import os
from pathlib import Path

import msgspec
import pytest

from bench import cli, vm
from bench.errors import BenchError
from tests.privileges import may_place_others


class Samples:
    """A subject that takes what it was given."""

    name = "samples"

    def __init__(self, *samples: int) -> None:
        self.samples = samples

    def sample(self, count: int) -> list[int]:
        return list(self.samples[:count])


def test_every_measure_has_a_goal() -> None:
    """Those of two parties on two cores are left out where there is one, and refused when nothing else is asked."""
    assert set(vm.GOALS) == set(vm.KEYS) > vm.APART
    assert vm.possible(vm.KEYS, (0, 1)) == list(vm.KEYS)
    assert vm.possible(vm.KEYS, (0,)) == ["fault", "around"]
    with pytest.raises(BenchError, match="two cores"):
        vm.possible(["fault-other"], (0,))


def test_what_two_take_together() -> None:
    """The shortest of one and the shortest of the other, and so on."""
    assert vm.Sum("both", [Samples(3, 1, 2), Samples(10, 30, 20)]).sample(3) == [11, 22, 33]


@pytest.mark.system
@pytest.mark.beside
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid")
@pytest.mark.skipif(not may_place_others(), reason="needs CAP_SYS_NICE, to keep the system on one core")
def test_measures_run_on_a_system_they_boot(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A line each, with a reference and a verdict."""
    monkeypatch.setenv("EXO_RUN", f"{tmp_path}/nobody")
    monkeypatch.setattr(vm, "BLOCK", 32)
    keys = vm.possible(vm.KEYS, sorted(os.sched_getaffinity(0))[:2])

    assert cli.main(["vm", "--rounds", "1", "--json"]) == 0

    told = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["measure"] for line in told] == keys
    assert all(line["references"] and line["met"] is not None for line in told)
