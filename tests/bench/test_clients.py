"""Many clients of one server: what a sample is, how points are shown, and a small run on a system of its own."""

from pathlib import Path

import msgspec
import pytest

from bench import changes, cli, clients, plot, report
from bench.clients import COUNTS, KEPT, Together
from bench.facts import Facts
from bench.harness import Measure, Result, run

FACTS = Facts(2, "processor", "6.1", "3.11", "27", "4.3", "abc", ())


class Spans:
    """A worker whose calls began and ended when it is told they did."""

    def __init__(self, number: int, begun: int, ended: int, asked: list[str]) -> None:
        self._number = number
        self._span = [begun, ended]
        self._asked = asked

    def tell(self, name: str, count: int) -> None:
        """Note it."""
        self._asked.append(f"{name} {count} to {self._number}")

    def answer(self) -> list[int]:
        """Return the span."""
        self._asked.append(f"answer of {self._number}")
        return self._span


class Steady:
    """A subject whose samples all last as long."""

    def __init__(self, name: str, lasts: int) -> None:
        self.name = name
        self._lasts = lasts

    def sample(self, count: int) -> list[int]:
        """Take no time."""
        return [self._lasts] * count


def measured(lasts: int) -> Result:
    measure = Measure("clients", "calls", Steady("ring", lasts), [Steady("raw", 20_000)], block=1)
    return run(measure, rounds=3)


def test_a_sample_is_from_the_first_start_to_the_last_end() -> None:
    """Two clients of ten calls each, from 100 to 600 together: 25 a call. All are told before one is heard."""
    asked: list[str] = []
    workers = [Spans(0, 100, 400, asked), Spans(1, 150, 600, asked)]

    assert Together("two", workers, 10).sample(1) == [25]  # type: ignore[arg-type]
    assert asked == ["calls 10 to 0", "calls 10 to 1", "answer of 0", "answer of 1"]


def test_throughput_is_kept_where_a_call_takes_no_longer() -> None:
    """As a part of what the fewest clients have: a call of 1.25 times the time leaves exactly what is asked for."""
    assert clients.kept({1: measured(4000), 8: measured(9000), 32: measured(5000)}) == pytest.approx(KEPT)
    assert clients.kept({1: measured(4000), 32: measured(2000)}) == pytest.approx(2)
    assert clients.kept({1: measured(4000)}) == pytest.approx(1)


def test_a_point_shows_calls_a_second() -> None:
    """Four microseconds are 250,000 of them; one client is no clients."""
    text = clients.text(1, measured(4000))

    assert "1 client: ring 250,000/s [250,000, 250,000]; raw 50,000/s" in text
    assert "32 clients: " in clients.text(32, measured(4000))


def test_points_are_told_apart_by_their_clients(tmp_path: Path) -> None:
    """In JSON, and so in a comparison."""
    lines = [report.line(measured(4000), FACTS, clients=count) for count in COUNTS]
    (tmp_path / "file").write_text("\n".join(lines), encoding="utf-8")

    runs = changes.read(tmp_path / "file")

    assert [key.clients for key in runs] == list(COUNTS)
    assert all(len(lines) == 1 for lines in runs.values())


@pytest.mark.slow
def test_the_picture_names_every_party(tmp_path: Path) -> None:
    """Each is in the legend, and each count of clients at the axis."""
    pytest.importorskip("matplotlib")
    plot.clients({1: measured(4000), 32: measured(5000)}, str(FACTS), tmp_path / "clients.svg")

    drawn = (tmp_path / "clients.svg").read_text(encoding="utf-8")
    assert all(word in drawn for word in ("ring", "raw", "calls a second", "32"))


@pytest.mark.system
@pytest.mark.beside
@pytest.mark.slow
def test_clients_run_on_a_system_they_boot(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two counts of clients, and the raw reference beside: a line each, in which a call takes time."""
    monkeypatch.setenv("EXO_RUN", f"{tmp_path}/nobody")
    monkeypatch.setattr(clients, "COUNTS", (1, 3))
    monkeypatch.setattr(clients, "CALLS", {"ring": 20, "zmq": 20})

    assert cli.main(["clients", "--rounds", "1", "--only", "zmq,raw", "--json"]) == 0

    told = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["clients"] for line in told] == [1, 3]
    assert all(line["subject"]["p50"] > 0 and len(line["references"]) == 1 for line in told)
