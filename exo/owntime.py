"""How much time a process has had for itself: computing, or waiting for somebody.

How long it is there says little on a busy machine, where it waits for a core most of that time. The host counts
this, and we leave it out: who has had half a second has done as much as it does in half a second elsewhere.
"""

import os
import time
from pathlib import Path

STARTED = 19
"""The place of the start of a process, in ticks since the host's, behind its name in `/proc/PID/stat` (proc(5))."""


def own_time(pid: int) -> float:
    """Return how many seconds process *pid* has been there and did not wait for a core; 0 if there is none.

    Where the host does not count how long it waited for one, that is in it.
    """
    if pid <= 0:
        return 0.0
    place = Path("/proc", str(pid))
    try:
        started = int((place / "stat").read_text().rpartition(")")[2].split()[STARTED])
        waited = _waited(place / "schedstat")
    except (OSError, ValueError, IndexError):
        return 0.0
    there = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    return max(0.0, there - waited)


def _waited(path: Path) -> float:
    """Return how many seconds a process was ready to run and had no core. Raises ValueError for an odd file."""
    try:
        return int(path.read_text().split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0
