"""The aims of the ring transport: which there are, where they can be measured, and a small run over ZeroMQ."""

import os
from pathlib import Path

import msgspec
import pytest

from bench import cli, rings
from bench.errors import BenchError
from bench.harness import reference
from bench.rings import APART, KEYS, MAKERS
from tests.privileges import may_place_others


def test_every_measure_can_be_made_and_has_a_goal() -> None:
    """A ratio, or a rate."""
    assert set(MAKERS) == set(KEYS)
    assert set(rings.GOALS) == set(KEYS) - {"stream"}
    assert set(KEYS) >= APART


def test_one_core_leaves_what_needs_no_second() -> None:
    """Measures that need two cores are left out by default, and refused when nothing else was asked for."""
    assert rings.possible(KEYS, (0, 1)) == list(KEYS)
    assert rings.possible(KEYS, (3,)) == [key for key in KEYS if key not in APART]
    with pytest.raises(BenchError, match="two cores"):
        rings.possible(["call"], (3,))


@pytest.mark.system
@pytest.mark.beside
@pytest.mark.slow
def test_a_bare_word_goes_there_and_back() -> None:
    """Any number of times, one block after the other, each sample taking time."""
    with reference("bench.references.word") as worker:
        for count in (1, 3, 2):
            samples = worker.sample("word", count)
            assert len(samples) == count
            assert min(samples) > 0


@pytest.mark.system
@pytest.mark.beside
@pytest.mark.slow
def test_a_raw_stream_ends_when_all_was_taken() -> None:
    """A sample is the time of one message of it."""
    with reference("bench.references.zmq_stream") as worker:
        assert min(worker.sample("stream", 2)) > 0


@pytest.mark.system
@pytest.mark.beside
@pytest.mark.slow
@pytest.mark.skipif(not may_place_others(), reason="needs CAP_SYS_NICE, to place others")
def test_measures_run_on_a_system_they_boot(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those that take no gibibyte: a line each, of which none without a reference and a verdict."""
    monkeypatch.setenv("EXO_RUN", f"{tmp_path}/nobody")
    monkeypatch.setattr(rings, "BLOCK", 5)
    monkeypatch.setattr(rings, "STREAM_BLOCK", 1)
    wanted = [key for key in KEYS if key not in rings.MAPPING | {"clients"}]
    keys = rings.possible(wanted, sorted(os.sched_getaffinity(0)))

    assert cli.main(["rings", "--rounds", "1", "--transport", "zmq", "--only", ",".join(keys), "--json"]) == 0

    told = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["measure"] for line in told] == keys
    assert all(line["references"] and line["met"] is not None for line in told)
