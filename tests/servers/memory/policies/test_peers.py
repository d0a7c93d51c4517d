"""The policies beside libcachesim, which counts the misses of the same traces in an environment of its own."""

import json
import subprocess
from pathlib import Path

import pytest

from servers.memory.policies import POLICIES
from tests.servers.memory.policies.traces import belady, misses, traces

ROOT = Path(__file__).resolve().parents[4]
PYTHON = ROOT / ".peers" / "bin" / "python"
KINDS = {"FIFO": "fifo", "LRU": "lru", "Clock": "clock"}


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason="libcachesim is not there: make peers")
def test_misses_are_those_of_libcachesim(seed: int, tmp_path: Path) -> None:
    """FIFO, LRU and CLOCK miss as often as those of libcachesim, and the best possible as often as its Belady."""
    cases = [(trace, frames) for trace in traces(seed).values() for frames in (2, 10, 33, 80)]
    script = ROOT / "tests" / "peers" / "count_misses.py"
    done = subprocess.run(
        [PYTHON, script, *KINDS, "Belady"],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(tmp_path)},  # it keeps a cache there
    )

    assert json.loads(done.stdout) == [
        {peer: misses(POLICIES[ours](frames), trace) for peer, ours in KINDS.items()}
        | {"Belady": belady(trace, frames)}
        for trace, frames in cases
    ]
