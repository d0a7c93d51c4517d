"""The aims of memory without a server: each has a goal, and a small run ends with a verdict on each."""

import os
from pathlib import Path

import msgspec
import pytest

from bench import cli, heap
from tests.privileges import may_place_others


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
    monkeypatch.setattr(heap, "BLOCK", 5)

    assert cli.main(["heap", "--rounds", "1", "--json"]) == 0

    told = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["measure"] for line in told] == list(heap.KEYS)
    assert all(line["references"] and line["met"] is not None for line in told)
