"""Memory of one long string serves the next."""

import platform
import subprocess
import sys

import pytest

TURNS, BLOCKS = 20, 4
PAGES = 256
"""Of a block."""
PROGRAM = f"""
import resource
from libexo.host import heap

def turn():
    return len([b"x" * (1 << 20) for _ in range({BLOCKS})])

heap.keep()
turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({TURNS}): turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_pages_are_used_again() -> None:
    """Blocks as long strings take them are made and thrown away: the host is asked for hardly a page."""
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )

    assert int(finished.stdout) < TURNS * BLOCKS * PAGES / 10
