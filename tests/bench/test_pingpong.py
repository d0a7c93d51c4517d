"""Ping-pong: what is swept, how it is shown, and a small run on a system of its own."""

import itertools
import os
from pathlib import Path

import msgspec
import pytest

from bench import cli, pingpong, plot, report
from bench.errors import BenchError
from bench.facts import Facts
from bench.harness import Result, run_together
from bench.pingpong import KEYS, OneWay, Party, Variant
from tests.privileges import may_place_others

FACTS = Facts(2, "processor", "6.1", "3.11", "27", "4.3", "abc", (0, 1))


class RoundTrip:
    """A subject whose round trips last as long as they are told, and so much longer for each word."""

    def __init__(self, name: str, lasts: int) -> None:
        self.name = name
        self._lasts = lasts

    def sample(self, count: int) -> list[int]:
        """Take no time."""
        return [self._lasts] * count


def party(name: str, empty: int, word: int) -> Party:
    return lambda words: OneWay(RoundTrip(name, empty + words * word))


def variant(key: str = "inter-ipc-same") -> Variant:
    return Variant(
        key, party("Ipc", 80_000, 40), (party("raw pyzmq", 40_000, 20), party("SEQPACKET", 8_000, 2))
    )


def swept(key: str = "inter-ipc-same") -> dict[int, Result]:
    counts = (0, 21, 42, 63)
    measures = [variant(key).measure(words, block=5) for words in counts]
    return dict(zip(counts, run_together(measures, rounds=2), strict=True))


@pytest.mark.parametrize(
    ("step", "counts"), [(21, [0, 21, 42, 63]), (63, [0, 63]), (50, [0, 50, 63]), (1, list(range(64)))]
)
def test_a_sweep_goes_from_no_word_to_as_many_as_there_may_be(step: int, counts: list[int]) -> None:
    """Whatever the step: 0 and 63 are always measured, and nothing twice."""
    assert pingpong.counts(step) == counts


def test_a_step_beyond_the_last_word_leaves_both_ends() -> None:
    """A slope takes two points at least."""
    assert pingpong.counts(1000) == [0, 63]


@pytest.mark.parametrize(("trips", "rounds"), [(1000, 20), (1000, 7), (1, 20)])
def test_all_rounds_together_are_at_least_the_round_trips_asked_for(trips: int, rounds: int) -> None:
    """A block is rounded up, and by less than one round trip a round."""
    assert trips <= pingpong.block(trips, rounds) * rounds < trips + rounds


def test_a_sample_is_half_a_round_trip() -> None:
    """The subject and its references alike, so the ratio is that of the round trips."""
    result = swept()[0]

    assert result.figures.p50 == 40_000
    assert [reference.figures.p50 for reference in result.references] == [20_000, 4_000]
    assert result.references[0].ratio.value == 2


def test_one_core_leaves_what_happens_on_one() -> None:
    """The variants on two CPUs are left out by default, and refused when nothing else was asked for."""
    assert pingpong.possible(KEYS, (0, 1)) == list(KEYS)
    assert pingpong.possible(KEYS, (3,)) == [key for key in KEYS if key.endswith("-same")]
    with pytest.raises(BenchError, match="two cores"):
        pingpong.possible(["inter-ipc-other"], (3,))


def test_every_variant_says_who_is_where() -> None:
    """Six titles, all different: environments or threads, the call, and the CPU."""
    titles = {variant(key).title for key in KEYS}

    assert len(titles) == len(KEYS) == 6
    assert "two threads of one environment, Lipc, other CPU" in titles


def test_the_table_has_a_row_for_each_count_of_words() -> None:
    """`MRs| time (µs)` as ping-pong has always had it, then p99, n and each reference with the ratio to it."""
    title, head, *rows, _ = report.sweep("two environments", swept()).splitlines()

    assert title.startswith("two environments")
    assert head.startswith("MRs| time (µs)")
    assert [int(row.partition("|")[0]) for row in rows] == [0, 21, 42, 63]
    assert rows[0].split("|")[1].split() == ["40.00", "40.0", "10"]
    assert rows[0].split("|")[2].split()[:3] == ["20.00", "20.0", "2.00"]
    assert len({tuple(at for at, c in enumerate(row) if c == "|") for row in (head, *rows)}) == 1


def test_the_foot_says_what_a_word_more_costs() -> None:
    """40 ns more a word there and back are 20 one way; and so for the references."""
    foot = report.sweep("two environments", swept()).splitlines()[-1]

    assert {name: slope.value for name, slope in report.slopes(swept()).items()} == {
        "Ipc": 20, "raw pyzmq": 10, "SEQPACKET": 1
    }  # fmt: skip
    assert foot == (
        "a word more costs 20.0 [20.0, 20.0] ns; raw pyzmq 10.0 [10.0, 10.0]; SEQPACKET 1.0 [1.0, 1.0]"
    )


def test_the_json_says_how_many_words_a_point_had() -> None:
    """A line a point, and one more for the slopes of a sweep, under the key of its variant."""
    points = swept()
    line = msgspec.json.decode(report.line(points[21], FACTS, words=21))
    last = msgspec.json.decode(report.slope_line("two environments", points, FACTS))

    assert (line["measure"], line["words"], line["subject"]["p50"]) == ("inter-ipc-same", 21, 40_420)
    assert [each["name"] for each in line["references"]] == ["raw pyzmq", "SEQPACKET"]
    assert (last["measure"], last["slopes"]["Ipc"]["value"]) == ("inter-ipc-same", 20)


@pytest.mark.slow
def test_a_picture_has_a_line_for_each_variant(tmp_path: Path) -> None:
    """Side by side the placements, and in each the sweeps that were run there."""
    pytest.importorskip("matplotlib")
    panels = pingpong.panels({variant(key): swept(key) for key in KEYS})

    plot.sweeps(panels, str(FACTS), tmp_path / "pingpong.svg")

    assert "<svg" in (tmp_path / "pingpong.svg").read_text(encoding="utf-8")


def test_sweeps_are_shown_by_placement() -> None:
    """Three sweeps on the same CPU, and three across."""
    panels = pingpong.panels({variant(key): swept(key) for key in KEYS})

    assert list(panels) == ["same CPU", "other CPU"]
    assert [len(panel) for panel in panels.values()] == [3, 3]


@pytest.mark.system
@pytest.mark.beside
@pytest.mark.slow
@pytest.mark.skipif(not may_place_others(), reason="needs CAP_SYS_NICE, to place others")
def test_every_variant_runs_on_a_system_it_boots(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A few round trips of each, with the fewest and the most words: a line each, with both references."""
    monkeypatch.setenv("EXO_RUN", f"{tmp_path}/nobody")
    keys = pingpong.possible(KEYS, sorted(os.sched_getaffinity(0)))

    assert cli.main(["pingpong", "--rounds", "1", "--trips", "3", "--step", "63", "--json"]) == 0

    told = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    points = [line for line in told if "words" in line]
    assert [(line["measure"], line["words"]) for line in points] == list(itertools.product(keys, (0, 63)))
    assert all(line["subject"]["n"] == 3 and len(line["references"]) == 2 for line in points)
    assert [line["measure"] for line in told if "slopes" in line] == keys
