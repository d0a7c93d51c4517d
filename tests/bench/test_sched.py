"""What a processor's division is measured by: stretches of computing, shares of the host's account."""

import os
import sys
import time
from pathlib import Path

import msgspec
import pytest

from bench import cli, hostshares, sched
from bench.hostile import KINDS
from tests.privileges import may_place_others

FIRST, SECOND = [0, 40, 50, 90], [42, 48, 93, 100]
"""Two that take turns: each begins where the other one ended, some time later."""


def test_what_both_had() -> None:
    """Of the time from when both computed until one had ended, as much as either of them computed."""
    assert sched.had([FIRST, SECOND]) == pytest.approx(100 * (6 + 40) / (90 - 42))


def test_switches_are_from_one_to_the_other() -> None:
    """From each end to the other's next beginning; who is interrupted and goes on was not switched."""
    assert sched.gaps([FIRST, SECOND]) == [2, 2, 3]
    assert sched.gaps([[0, 10, 15, 20], [21, 30]]) == [1]


def test_the_nearest_nice_level() -> None:
    """Each level is worth a quarter: half of the weight is three levels, a third five."""
    assert [hostshares.nice(part, 6) for part in (6, 3, 2)] == [0, 3, 5]
    assert hostshares.nice(1, 100) == 19


def test_a_finding_is_told_with_its_goal() -> None:
    """What it is beside, and whether the goal was met; without a goal there is no verdict."""
    found = sched.Finding("switch", "a switch", 60.04, "µs", 51, {"bare": 34})

    assert sched.text(found) == "a switch: 60 µs; bare 34  over the goal (goal: at most 51)"
    assert found.met is False
    assert sched.Finding("x", "a count", 3, "").met is None


def test_accounts_of_those_that_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The farthest from its part in the end, at the worst moment, and on average; and how long slices were."""
    told = {1: iter([0, 30, 31]), 2: iter([0, 0, 29])}
    clock = iter([0, 5, 10])
    monkeypatch.setattr(sched, "cpu_time", lambda pid: next(told[pid]))
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(clock))
    monkeypatch.setattr(sched, "LOOK", 0)
    turns = iter([7, 11])
    monkeypatch.setattr(sched, "timeslices", lambda pids: next(turns))

    found = sched.measured([1, 2], [1, 1], 10)

    assert found.error == pytest.approx(100 / 60)
    assert found.swing == pytest.approx(7)
    assert found.typical == pytest.approx(7)
    assert found.slice == 15


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to keep the reference on the plan's core")
@pytest.mark.skipif(
    not may_place_others(), reason="needs CAP_SYS_NICE, to keep the reference on the plan's core"
)
@pytest.mark.parametrize("keys", [sched.KEYS[at : at + 3] for at in range(0, len(sched.KEYS), 3)])
def test_a_system_it_boots(
    keys: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of each key there are findings with what they are beside; every loop had something."""
    monkeypatch.setenv("EXO_RUN", f"{tmp_path}/nobody")
    monkeypatch.setattr(sched, "WINDOW", sched.SECOND // 2)
    monkeypatch.setattr(sched, "SHORT", sched.SECOND)
    monkeypatch.setattr(sched, "LONG", sched.SECOND // 2)
    monkeypatch.setattr(sched, "HOSTILE", sched.SECOND // 2)
    monkeypatch.setattr(sched, "KINDS", {name: KINDS[name] for name in ("stops", "forks")})
    monkeypatch.setattr(sched, "COUNTS", (2, 4))
    monkeypatch.setattr(sched, "ROUNDS", 1)

    assert cli.main(["sched", "--json", "--only", ",".join(keys)]) == 0

    told = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    assert list(dict.fromkeys(line["key"] for line in told)) == list(keys)
    assert all("nice" in line["beside"] for line in told[:1] if line["key"] == "shares")
    assert all(0 <= line["value"] < sys.maxsize for line in told if line["key"] != "hostile")
    given = [line for line in told if line["key"] == "given"]
    assert all(0 < line["value"] < 50 + line["beside"]["bare alternation"] for line in given)
