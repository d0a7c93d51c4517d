"""Page faults, and what Appel and Li measured: each beside something, and those with an aim end with a verdict."""

import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import msgspec
import pytest

from bench import appel, cli, report, vm
from bench.errors import BenchError
from bench.harness import ROOT, Measure, Worker, run
from bench.references import protection
from tests.privileges import may_place_others


class Samples:
    """A subject that takes what it was given."""

    name = "samples"

    def __init__(self, *samples: int) -> None:
        self.samples = samples

    def sample(self, count: int) -> list[int]:
        return list(self.samples[:count])


def test_every_fault_has_a_goal() -> None:
    """Those of two parties on two cores are left out where there is one, and refused when nothing else is asked."""
    assert set(vm.GOALS) == {*vm.FAULTS, *vm.SWAP} > vm.APART
    assert vm.possible(vm.KEYS, (0, 1)) == list(vm.KEYS)
    assert vm.possible(vm.KEYS, (0,)) == ["fault", "around", *vm.SWAP, *appel.KEYS]
    with pytest.raises(BenchError, match="two cores"):
        vm.possible(["fault-other"], (0,))


def test_counts_are_no_times() -> None:
    """What is counted is shown as it is, under its own name, and a goal is judged all the same."""
    measure = Measure("restart", "starts", Samples(30), [Samples(300)], 1, [0.1], unit="faults")
    result = run(measure, 1)

    head, names, own, other = report.table(result).splitlines()
    assert (head, result.met) == ("starts: PASS", True)
    assert "p50 faults" in names
    assert own.split()[1] == "30"
    assert other.split()[2] == "300"


def test_what_two_take_together() -> None:
    """The shortest of one and the shortest of the other, and so on."""
    assert vm.Sum("both", [Samples(3, 1, 2), Samples(10, 30, 20)]).sample(3) == [11, 22, 33]


def test_what_ours_is_beside() -> None:
    """Plain Linux and the memory server's pager in every measure, where there are any."""
    ours, plain, server = (cast("Worker", object()) for _ in range(3))
    for key in appel.KEYS:
        made = appel.measure(key, ours, plain, server)
        assert (made.key, len(made.references)) == (key, 2)
        assert appel.measure(key, ours, None, None).references == []


def test_a_host_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plain Linux is left out, and that is said."""
    monkeypatch.setenv("PATH", "/nowhere")
    with appel.linux(0) as plain:
        assert plain is None

    assert capsys.readouterr().err == "plain Linux is left out: no C compiler (cc, gcc, clang) is here\n"


@pytest.mark.skipif(protection.compiler() is None, reason="needs a C compiler, to build plain Linux's part")
def test_plain_linux() -> None:
    """It is built, takes as many samples of each measure as it is asked for, and ends with its stdin."""
    told = "".join(f"{key} {count}\n" for count, key in enumerate(appel.KEYS, 1))
    done = subprocess.run(
        [sys.executable, "-m", "bench.references.protection"],
        input=told, capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip

    ready, *lines = done.stdout.splitlines()
    samples = [msgspec.json.decode(line, type=list[int]) for line in lines]
    assert (ready, done.stderr) == ("", "")
    assert [len(each) for each in samples] == [*range(1, len(appel.KEYS) + 1)]
    assert all(time > 0 for each in samples for time in each)


@pytest.mark.system
@pytest.mark.beside
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid")
@pytest.mark.skipif(not may_place_others(), reason="needs CAP_SYS_NICE, to keep the system on one core")
def test_measures_run_on_a_system_they_boot(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A line each, and a verdict on each fault and on swap; the memory server's pager is there."""
    monkeypatch.setenv("EXO_RUN", f"{tmp_path}/nobody")
    monkeypatch.setattr(vm, "BLOCK", 32)
    keys = vm.possible(vm.KEYS, sorted(os.sched_getaffinity(0))[:2])

    assert cli.main(["vm", "--rounds", "1", "--json"]) == 0

    out, err = capsys.readouterr()
    told = {line["measure"]: line for line in map(msgspec.json.decode, out.splitlines())}
    assert list(told) == keys
    assert [key for key in keys if told[key]["met"] is None] == [key for key in keys if key in appel.KEYS]
    for key in appel.KEYS:
        assert [each["name"] for each in told[key]["references"]][-1] == "the memory server's pager, asked"
    assert (told["restart"]["unit"], told["restart"]["met"]) == ("faults", True)
    assert "unit" not in told["trap"]
    assert "left out" not in err or protection.compiler() is None
