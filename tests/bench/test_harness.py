"""Interleaving, results, and how they are shown, on subjects that need no clock."""

import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bench import plot, report, scale
from bench.errors import BenchError
from bench.facts import Facts
from bench.harness import Measure, Result, run, run_together
from bench.worker import STREAM, each_of, span, timed

FACTS = Facts(2, "processor", "6.1", "3.11", "27", "4.3", "abc", ())


class Steady:
    """A subject whose samples all last as long, and which notes when it was asked."""

    def __init__(self, name: str, lasts: int, asked: list[str]) -> None:
        self.name = name
        self._lasts = lasts
        self._asked = asked

    def sample(self, count: int) -> list[int]:
        """Take no time."""
        self._asked.append(self.name)
        return [self._lasts] * count


def measured(ours: int, theirs: int, goal: float | None = 1.25, rounds: int = 4) -> tuple[Result, list[str]]:
    asked: list[str] = []
    reference = Steady("theirs", theirs, asked)
    measure = Measure("key", "what it does", Steady("ours", ours, asked), [reference], block=10, goals=[goal])
    return run(measure, rounds), asked


def test_subject_and_reference_take_turns() -> None:
    """Every round asks both, each round in the other order, so neither always comes after the other."""
    _, asked = measured(10, 10, rounds=3)

    assert asked == ["theirs", "ours", "ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_the_first_round_is_thrown_away() -> None:
    """Four rounds of ten leave forty samples, though five rounds were run."""
    result, asked = measured(10, 10, rounds=4)

    assert result.figures.n == result.references[0].figures.n == 40
    assert len(asked) == 10


def test_measures_run_together_take_turns_too() -> None:
    """A round is a block of everybody, forwards and backwards: what the host does hits all points of a sweep."""
    asked: list[str] = []
    measures = [
        Measure(str(n), "", Steady(f"ours{n}", 10 * n, asked), [Steady(f"theirs{n}", n, asked)], block=10)
        for n in (1, 2)
    ]

    results = run_together(measures, rounds=2)

    forwards = ["ours1", "theirs1", "ours2", "theirs2"]
    assert asked == forwards[::-1] + forwards + forwards[::-1]
    assert [result.figures.p50 for result in results] == [10, 20]
    assert [result.references[0].ratio.value for result in results] == [10, 10]


@pytest.mark.parametrize(("ours", "met"), [(1250, True), (1251, False)])
def test_a_goal_is_met_up_to_its_ratio(ours: int, met: bool) -> None:  # noqa: FBT001
    """1.25 times is met, a thousandth more is not."""
    result, _ = measured(ours, 1000)

    assert result.met is met
    assert ("PASS" if met else "over the goal") in report.table(result)


def test_each_reference_has_a_goal_of_its_own() -> None:
    """Of three, one met, one missed and one without: the whole is missed, and each row says its own."""
    references = [Steady(name, lasts, []) for name, lasts in (("slow", 1000), ("fast", 10), ("other", 50))]
    measure = Measure("key", "what it does", Steady("ours", 100, []), references, block=10, goals=(0.1, 8))
    result = run(measure, rounds=4)
    title, _, _, *rows = report.table(result).splitlines()
    told = msgspec.json.decode(report.line(result, FACTS))

    assert [reference.met for reference in result.references] == [True, False, None]
    assert result.met is False
    assert title.endswith(": over the goal")
    assert rows[0].endswith("0.10  [0.10, 0.10]  PASS (goal: at most 0.10)")
    assert rows[1].endswith("over (goal: at most 8.00)")
    assert rows[2].endswith("2.00  [2.00, 2.00]")
    assert [each.get("goal") for each in told["references"]] == [0.1, 8, None]
    assert [each.get("met") for each in told["references"]] == [True, False, None]
    assert (told["goal"], told["met"]) == (0.1, False)


@pytest.mark.parametrize(("lasts", "met"), [(2000, True), (2001, False)])
def test_a_goal_may_be_a_rate(lasts: int, met: bool) -> None:  # noqa: FBT001
    """Two microseconds a message are half a million a second, whatever the reference takes; one ns more is less."""
    reference = Steady("theirs", 1, [])
    result = run(
        Measure("key", "a stream", Steady("ours", lasts, []), [reference], block=10, most=2000), rounds=4
    )
    row = report.table(result).splitlines()[2]

    assert result.met is met
    assert ("PASS" if met else "over") in row
    assert "(goal: at least 500,000/s)" in row
    assert msgspec.json.decode(report.line(result, FACTS))["most"] == 2000


@pytest.mark.parametrize(
    ("time", "shown"), [(190, "0.19"), (9_990, "9.99"), (10_000, "10.0"), (418_069_200, "418069.2")]
)
def test_a_short_time_has_two_decimals(time: int, shown: str) -> None:
    """Of microseconds: below ten, one would say too little."""
    assert report.show_time(time) == shown


@pytest.mark.parametrize(
    ("ratio", "shown"), [(341.847, "341.85"), (0.333, "0.33"), (0.04, "0.04"), (0.000861, "0.00086")]
)
def test_a_small_ratio_has_two_digits(ratio: float, shown: str) -> None:
    """And a large one two decimals."""
    assert report.show_ratio(ratio) == shown


def test_without_a_goal_nothing_is_missed() -> None:
    """A measure without a goal has no verdict."""
    result, _ = measured(9000, 1000, goal=None)

    assert result.met is None
    assert "goal" not in report.table(result)


def test_the_table_shows_microseconds_and_the_ratio() -> None:
    """Samples of 30 µs and 20 µs give a ratio of 1.50, on the reference's row."""
    result, _ = measured(30_000, 20_000)
    lines = report.table(result).splitlines()

    assert lines[2].split()[:2] == ["ours", "30.0"]
    assert lines[3].split()[:3] == ["against", "theirs", "20.0"]
    assert "1.50  [1.50, 1.50]" in lines[3]


def test_the_json_is_one_line_with_everything() -> None:
    """Subject, references with their ratios, goal, verdict and host are in one object on one line."""
    result, _ = measured(30_000, 20_000)
    line = report.line(result, FACTS)
    told = msgspec.json.decode(line)

    assert "\n" not in line
    assert told["measure"] == "key"
    assert told["subject"]["p50"] == 30_000
    assert told["references"][0]["ratio"]["value"] == 1.5
    assert (told["goal"], told["met"], told["host"]["commit"]) == (1.25, False, "abc")


def test_growth_takes_the_drift_of_the_host_out() -> None:
    """Twice the time where the reference takes twice as long too is no growth."""
    first, last = measured(20, 10)[0], measured(40, 20)[0]

    assert scale.growth([first, last]) == pytest.approx(1)
    assert scale.growth([first, measured(40, 10)[0]]) == pytest.approx(2)


def test_timed_leaves_out_what_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is read around the action only; what tidies up after it runs outside."""
    clock = itertools.count(step=5)
    monkeypatch.setattr("bench.worker.monotonic_ns", lambda: next(clock))
    done: list[str] = []
    note: Callable[[], None] = lambda: done.append("action")  # noqa: E731

    assert timed(note, lambda: done.append("after"))(2) == [5, 5]
    assert done == ["action", "after"] * 2


def test_a_picture_that_cannot_be_drawn_is_refused_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong suffix, a missing directory and a missing matplotlib are each named, with what to do."""
    with pytest.raises(BenchError, match="svg"):
        plot.check(tmp_path / "picture.txt")
    with pytest.raises(BenchError, match="no such directory"):
        plot.check(tmp_path / "nowhere" / "picture.svg")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(BenchError, match=r"pip install exokernel\[plot\]"):
        plot.check(tmp_path / "picture.svg")


def test_a_span_says_when_it_began_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is read twice, however often the action is done between."""
    clock = itertools.count(100, step=7)
    monkeypatch.setattr("bench.worker.monotonic_ns", lambda: next(clock))
    done: list[str] = []

    assert span(lambda: done.append("action"))(5) == [100, 107]
    assert len(done) == 5


def test_a_message_of_a_stream_takes_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are sent in one go, and the time divided by how many there were."""
    clock = itertools.count(step=3 * STREAM)
    monkeypatch.setattr("bench.worker.monotonic_ns", lambda: next(clock))
    asked: list[int] = []

    assert each_of(asked.append)(2) == [3, 3]
    assert asked == [STREAM, STREAM]


@pytest.mark.slow
def test_pictures_are_drawn(tmp_path: Path) -> None:
    """Distributions and curves become files, and the SVG says what is shown and by how much we differ."""
    pytest.importorskip("matplotlib")
    result, _ = measured(30_000, 20_000)

    plot.distributions([result] * 3, str(FACTS), tmp_path / "all.svg")
    plot.curve([1, 200], [result, result], "living environments", str(FACTS), tmp_path / "curve.png")

    assert "<svg" in (tmp_path / "all.svg").read_text(encoding="utf-8")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
