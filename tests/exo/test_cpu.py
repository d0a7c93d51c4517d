"""`exo cpu`, for a system laid out by the test."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from exo import cpu, sched, view
from exo.__main__ import main
from kernel.abi.kip import EnvironmentState, Head
from libexo.kip import Kip
from tests.exo.conftest import Operator, Pages

Ask = Callable[..., Operator]


@pytest.fixture
def two(pages: Pages) -> Pages:
    """Two processors; the second is out, and has one member left."""
    pages.head(Head.CPU_COUNT, 2)
    pages.head(Head.PROCESSORS_OFF, 0b10)
    pages.environment(1, "web", EnvironmentState.RUNNING, cpu=0)
    pages.environment(2, "batch", EnvironmentState.READY, cpu=1)
    pages.environment(3, "memory")
    pages.environment(4, "gone", EnvironmentState.DEAD, cpu=1)
    pages.plan(2, 1, (1, 10_000))
    pages.plan(3, -1, number=1)
    pages.publish()
    return pages


def test_the_list(two: Pages, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its core, its state, who runs, and how many it has; one that is out and has members is leaving."""
    assert main(["--run", str(run), "cpu"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "PROCESSOR  CORE  STATE    RUNNING  MEMBERS  RESERVED FOR",
        "        0     2  on       web            1",
        "        1     3  leaving  -              1",
    ]
    two.environment(2, "batch", EnvironmentState.READY, cpu=0)
    two.publish()
    assert main(["--run", str(run), "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[1] == {
        "processor": 1, "core": 3, "state": "off", "running": None, "members": [], "reserved": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("off",), 2, "name a processor: exo cpu off 1; 'exo cpu' lists them"),
        (("off", "2"), 1, "there is no processor 2: they are numbered 0 to 1, as 'exo cpu' shows"),
        (("on", "-1"), 1, "there is no processor -1: "),
        (("off", "one"), 1, "there is no processor one: "),
        (("of", "1"), 2, "invalid choice: 'of'"),
    ],
)
def test_what_it_does_not_understand(
    two: Pages, run: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, says: str
) -> None:
    """A wrong call ends with 2, a processor there is not with 1, and a line says why."""
    del two
    try:
        found = main(["--run", str(run), "cpu", *words])
    except SystemExit as end:
        found = int(str(end.code))

    assert found == status
    assert says in capsys.readouterr().err


def test_what_is_asked(two: Pages, run: Path, operator: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    """The process server is asked, and its refusal is shown."""
    del two
    asked = operator({"error": "it is the last processor"})

    assert main(["--run", str(run), "cpu", "off", "0"]) == 1
    assert capsys.readouterr().err == "exo: it is the last processor\n"
    assert asked.requests == [{"op": "power", "processor": 0, "on": False}]


def test_back(two: Pages, run: Path, operator: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    """To put one back needs no waiting."""
    del two
    asked = operator({"ok": {}})

    assert main(["--run", str(run), "cpu", "on", "1"]) == 0
    assert capsys.readouterr().out == "processor 1 is on\n"
    assert asked.requests == [{"op": "power", "processor": 1, "on": True}]


def test_who_is_left_there(
    two: Pages, run: Path, operator: Ask, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If members stay for too long, they are named."""
    del two
    monkeypatch.setattr(cpu, "PATIENCE", 0.0)
    operator({"ok": {}})

    assert main(["--run", str(run), "cpu", "off", "1"]) == 1
    assert "processor 1 is taken out, and still has batch: " in capsys.readouterr().err


def test_the_report(two: Pages) -> None:
    """It names who was moved where, and what became of each reservation; who ended meanwhile is left out."""
    two.environment(2, "batch", EnvironmentState.READY, cpu=0)
    kip = Kip(memoryview(two.kip))
    kept: dict[str, view.Json] = {
        name: {"name": name, "processor": 1, "runtime_us": 2000, "period_us": 10_000}
        for name in ("batch", "web", "gone")
    }
    before = {"batch": 1, "web": 1, "gone": 1, "other": 0}
    moved: dict[str, view.Json] = {"batch": {**kept["batch"], "processor": 0}}

    assert cpu.report(kip, 1, before, kept, moved) == [
        "processor 1 is off",
        "batch is moved to processor 0",
        "web is moved to processor 0",
        "batch has its reservation there: 2 ms in 10 ms, 20.0 %",
        "web has lost its reservation, for which processor 0 has no room: 2 ms in 10 ms, 20.0 %",
    ]
    assert cpu.report(kip, 1, {"web": 1}, kept, None)[-1] == (
        "web had a reservation, and the scheduler does not say what it has now: 2 ms in 10 ms, 20.0 %"
    )


def test_no_scheduler_says_nothing(two: Pages, run: Path) -> None:
    """A scheduler that cannot be asked is told from one that has reserved nothing."""
    del two
    assert sched.told_reservations(str(run)) is None
    assert sched.reservations(str(run)) == {}
