"""Carving where many extents exist: the verdicts, and a small run, to a limit of descriptors of its own."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bench import extents
from bench.harness import Result
from kernel.abi.errors import Refusal
from tests.bench.test_harness import measured
from tests.privileges import may_place_others

ROOT = Path(__file__).parents[2]
LIMIT = 1200
"""Descriptors of the kernel: fewer than its holders would hold extents."""


def point(own: int, other: int) -> dict[str, Result]:
    """Results that took *own*, where the reference took *other*."""
    return dict.fromkeys(extents.KEYS, measured(own, other)[0])


def test_verdicts() -> None:
    """What takes as long as before passes, what takes longer than the host's drift does not; the limit is named."""
    cost = extents.Cost({0: 1 << 20, 1000: 3 << 20}, 1234, int(Refusal.HOST_FULL))
    flat = extents.verdicts({0: point(20, 10), 1000: point(40, 20)}, cost)
    steep = extents.verdicts({0: point(20, 10), 1000: point(40, 10)}, cost)
    early = extents.verdicts({0: point(20, 10), 1000: point(40, 20)}, extents.Cost(cost.resident))

    assert all(flat.values())
    assert [met for sentence, met in steep.items() if "times" in sentence] == [False] * len(extents.KEYS)
    assert any(sentence.startswith("the kernel has 2097 bytes for each extent") for sentence in flat)
    assert any(f"with 1234 extents one more is refused: {Refusal.HOST_FULL.text}" in each for each in flat)
    assert list(early.values()) == [True] * (len(early) - 1) + [False]


def test_counts_leave_descriptors_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more extents than the host lets the kernel have memory files."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 10_001))

    assert extents.counts() == [0, 1000, 4000, 8000]


SMALL = f"""
import resource, sys
from bench import cli, extents
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
extents.HOLDERS, extents.COUNTS, extents.SPARE, extents.BLOCK = 3, (0, 30), 0, 5
sys.exit(cli.main(["extents", "--rounds", "1"]))
"""


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid")
@pytest.mark.skipif(not may_place_others(), reason="needs CAP_SYS_NICE, to keep the system on one core")
def test_a_small_run() -> None:
    """A line for each point; then the host's limit is reached, and the refusal is the host's."""
    environ = {**os.environ, "EXO_RUN": "/tmp/exo-nobody"}
    done = subprocess.run(
        [sys.executable, "-c", SMALL], env=environ, cwd=ROOT, capture_output=True, text=True, check=True
    )

    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines if " extents: " in line] == [
        ["0", "extents:"],
        ["30", "extents:"],
    ]
    most = re.match(rf"with (\d+) extents one more is refused: {Refusal.HOST_FULL.text} .*: PASS", lines[-1])
    assert most is not None, done.stdout
    assert LIMIT // 2 < int(most[1]) < LIMIT
    assert "raise it (ulimit -n)" in done.stderr
