"""Memory of one long string serves the next, and the holes that many leave are given back."""

import platform
import subprocess
import sys

import pytest

TURNS, BLOCKS = 20, 4
PAGES = 256
"""Of a block."""
USED_AGAIN = f"""
import resource
from libexo.transport import heap

def turn():
    return len([b"x" * (1 << 20) for _ in range({BLOCKS})])

heap.keep()
turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({TURNS}): turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
HOLES = """
from libexo.transport import heap

def size():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))

heap.keep()
before = size()
between = []
blocks = []
for _ in range(16):
    blocks.append(b"x" * (1 << 20))
    between.append(b"y" * 200_000)
blocks.clear()
left = size() - before
heap.trim()
print(left, size() - before)
"""
"""Sizes in KiB."""

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are"
)


def test_pages_are_used_again() -> None:
    """Blocks as long strings take them are made and thrown away: the host is asked for hardly a page."""
    assert int(said(USED_AGAIN)) < TURNS * BLOCKS * PAGES / 10


def test_holes_are_given_back() -> None:
    """16 MiB of blocks are thrown away, and what lies between them stays: glibc keeps all until it is told."""
    left, kept = map(int, said(HOLES).split())

    assert left > 15 << 10
    assert kept < left - (10 << 10)


def said(program: str) -> str:
    """Return what *program* prints, in a process of its own."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
