"""'exo sched why' and 'exo sched timeline', for a system laid out by the test."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from exo.__main__ import main
from exo.rows import tick
from kernel.abi.events import Event
from kernel.abi.kip import EnvironmentState
from kernel.abi.limits import TRACE_RECORDS
from tests.exo.conftest import Pages

MS = 1_000_000
Call = Callable[..., tuple[int, str, str]]
ONE, TWO = 1, 2
LESS = [
    "it had less than the plans gave it, most of all because the host ran something",
    "else on its core; it waits for the processor now",
]


@pytest.fixture
def command(
    run: Path, pages: Pages, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Call:
    """A command line's status, output and errors, when two have run in turn, 10 ms each, for 100 ms."""
    now = time.monotonic_ns()
    for number, name in ((ONE, "one"), (TWO, "two")):
        pages.environment(number, name, EnvironmentState.READY, cpu=0)
    pages.environment(3, "memory")
    pages.plan(7, -1, (ONE, 10_000), (TWO, 10_000))
    for at in range(10):
        who, begin = (ONE, TWO)[at % 2], now - (100 - 10 * at) * MS
        pages.event(Event.SWITCHED, who, 10_000, 10_000 << 32, ns=begin)
        pages.event(Event.PREEMPTED, who, 8 * MS, ns=begin + 10 * MS)
    pages.publish()
    monkeypatch.setattr("exo.trace.time.monotonic_ns", lambda: now)
    monkeypatch.setattr("exo.timeline.time.monotonic_ns", lambda: now)

    def call(*words: str) -> tuple[int, str, str]:
        try:
            status = main(["--run", str(run), "sched", *words])
        except SystemExit as end:
            status = int(str(end.code))
        return status, *capsys.readouterr()

    return call


def test_why(command: Call) -> None:
    """What it had, what the plans gave it, and a cause for each moment; the window is longer than the ring here."""
    status, out, _ = command("why", "one", "--since", "200ms")

    assert status == 0
    assert out.splitlines() == [
        "the ring holds the last 100.00 ms only: what was before is not known",
        "one ran on processor 0 for 40.00 ms of 100.00 ms, 40.0 %",
        "the plans gave it 50.0 %; now 10 of 20 ms",
        "5 slices, and 10.00 ms at most without one",
        "",
        "WHAT STOPPED IT                              TIME    PART  WHO",
        "others had their turn by the plan        50.00 ms  50.0 %  two 50.00 ms",
        "the host ran something else on its core  10.00 ms  10.0 %",
        "",
        "meanwhile had the processor: two 50.00 ms",
        "",
        *LESS,
    ]


def test_why_as_json(command: Call) -> None:
    """Its keys are stable; options may be before the name, and the default window is a second."""
    status, out, _ = command("why", "--json", "one")
    found = json.loads(out)

    assert status == 0
    assert (found["window_ns"], found["missing_ns"], found["ran_ns"]) == (1000 * MS, 900 * MS, 40 * MS)
    assert (found["planned"], found["got"], found["state"], found["ended"]) == (0.5, 0.4, "ready", None)
    assert found["causes"] == [
        {"cause": "turn", "ns": 50 * MS, "who": {"two": 50 * MS}},
        {"cause": "host", "ns": 10 * MS, "who": {}},
    ]


def test_more_than_planned(command: Call, pages: Pages) -> None:
    """A program that has the slices of sleepers, too, is told so; one that has its own, that it has those."""
    pages.plan(7, -1, (ONE, 10_000), (TWO, 10_000), (3, 20_000))
    pages.publish()
    assert "it had more than the plans gave it: others slept" in command("why", "one", "--since", "100ms")[1]

    pages.plan(7, -1, (ONE, 8_000), (TWO, 12_000))
    pages.publish()
    assert "it had what the plans gave it; it waits" in command("why", "one", "--since", "100ms")[1]


def test_a_program_under_no_plan(command: Call) -> None:
    """That is said."""
    assert "memory is under no plan: the host's own scheduler runs it" in command("why", "memory")[1]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (
            ("why", "onne"),
            1,
            "nothing called 'onne' runs, or ran: 'exo ps' lists what does; did you mean 'one'?",
        ),
        (("why", "xyz"), 1, "nothing called 'xyz' runs, or ran: 'exo ps' lists what does\n"),
        (("why",), 2, "name one program: exo sched why NAME"),
        (("why", "one", "two"), 2, "name one program: exo sched why NAME"),
        (("why", "one", "--since", "0"), 2, "'0': write a time such as 1s or 500ms, at most 3600s"),
        (("why", "one", "--since", "-1s"), 2, "--since"),
        (("why", "one", "--since", "soon"), 2, "'soon': write a time such as 1s or 500ms"),
        (("why", "one", "--since", "2h"), 2, "'2h': write a time"),
        (("why", "one", "--since", "1e99"), 2, "'1e99': write a time"),
        (("why", "one", "--since", "nan"), 2, "'nan': write a time"),
        (("why", "one", "--since", f"{'9' * 400}s"), 2, "9s': write a time"),
        (("timeline", "tow"), 1, "did you mean 'two'?"),
        (("timeline", "--svg", "x", "--follow"), 2, "--svg draws one picture: leave --follow out"),
        (("timeline", "--json"), 2, "a timeline is a picture"),
        (("wyh", "one"), 2, "invalid choice: 'wyh'"),
    ],
)
def test_what_is_wrong_is_said(command: Call, words: tuple[str, ...], status: int, says: str) -> None:
    """An error names what was wrong and what to do."""
    found, _, errors = command(*words)

    assert found == status
    assert says in errors


@pytest.mark.parametrize("words", [("why", "one"), ("timeline",)])
def test_no_system(run: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    """That none runs is said, as by any verb."""
    assert main(["--run", str(run / "none"), "sched", *words]) == 1
    assert "no system runs at" in capsys.readouterr().err


def test_timeline(command: Call) -> None:
    """A row a program, filled where it had the processor; below, how long ago that was."""
    status, out, _ = command("timeline", "--since", "100ms")
    lines = out.splitlines()

    assert status == 0
    assert lines[0] == "processor 0"
    assert [line[:6] for line in lines[1:3]] == ["one  |", "two  |"]
    one, two = (line.split("|")[1] for line in lines[1:3])
    assert {(a, b) for a, b in zip(one, two, strict=True) if "█" in a + b} == {("█", "·"), ("·", "█")}
    assert lines[1].endswith("  50.0 %")
    assert "now" in lines[4]
    assert "\x1b" not in out
    assert max(map(len, lines)) <= 80
    assert command("timeline", "--since", "150ms")[1].startswith("the ring holds the last 100.00 ms only")


def test_timeline_of_some(command: Call, tmp_path: Path) -> None:
    """Those that are named, and as a picture with a bar for each slice."""
    file = tmp_path / "t.svg"
    status, out, _ = command("timeline", "two", "--since", "100ms", "--svg", str(file))
    picture = ET.fromstring(file.read_text(encoding="utf-8"))  # noqa: S314 - it is our own
    bars = [each for each in picture.iter("{http://www.w3.org/2000/svg}rect") if each.get("height") == "16"]
    texts = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")]

    assert (status, out) == (0, f"{file} has 1 program\n")
    assert len(bars) == 5
    assert {"two", "processor 0", "50.0 %", "now"} <= set(texts)
    assert "one" not in texts


def test_timeline_follows(command: Call, run: Path, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a pipe it prints picture below picture, with what came meanwhile, until the user leaves."""
    looks: list[int] = []

    def pause(_seconds: float, *, keys: bool) -> bool:
        assert not keys
        looks.append(1)
        (run / "trace").write_bytes(pages.trace)
        return len(looks) < 3

    monkeypatch.setattr("exo.screen.pause", pause)
    status, out, _ = command("timeline", "--since", "100ms", "--follow")

    assert status == 0
    assert out.count("processor 0") == 3


def test_an_interrupt_ends_it(command: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C into a pipe is an end like any other, without a traceback."""

    def pause(_seconds: float, *, keys: bool) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("exo.screen.pause", pause)
    status, _, errors = command("timeline", "--follow")

    assert (status, errors) == (130, "")


def test_nothing_happened(run: Path, pages: Pages, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty ring has no row."""
    pages.publish()

    assert main(["--run", str(run), "sched", "timeline"]) == 0
    assert capsys.readouterr().out == "nothing under a plan had, or wanted, a processor in that time\n"


def test_a_full_ring(command: Call, run: Path, pages: Pages) -> None:
    """16,384 events are gone through."""
    now = time.monotonic_ns()
    for at in range(TRACE_RECORDS // 2):
        pages.event(Event.SWITCHED, (ONE, TWO)[at % 2], 1000, 1000 << 32, ns=now + at * MS)
        pages.event(Event.PREEMPTED, (ONE, TWO)[at % 2], MS, ns=now + (at + 1) * MS)
    pages.publish()
    status, out, _ = command("why", "one", "--since", "1s", "--json")

    assert status == 0
    assert json.loads(out)["slices"] == pytest.approx(500, abs=1)


@pytest.mark.parametrize(
    ("length", "most", "found"), [(1_000 * MS, 5, 200 * MS), (300 * MS, 6, 50 * MS), (7, 5, 1_000)]
)
def test_ticks_are_round(length: int, most: int, found: int) -> None:
    """One, two or five, and zeros."""
    assert tick(length, most) == found
