"""A process's time for itself: computing, or waiting for anything but a core.

Its age says little on a busy machine, where it waits for a core most of that time. The host counts
this wait, and we subtract it: half a second for itself is as much work as half a second on an idle machine.
"""

import os
import time
from pathlib import Path

STARTED = 19
"""Index of a process's start, in ticks since the host's, after the name in `/proc/PID/stat` (proc(5))."""


def own_time(pid: int) -> float:
    """Return the seconds that process *pid* has existed without waiting for a core; 0: there is no such process.

    If the host does not count the wait for a core, that is included.
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
    """Return the seconds for which a process was ready and had no core. Raises ValueError for an odd file."""
    try:
        return int(path.read_text().split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0
