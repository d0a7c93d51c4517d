"""The activity of a host process: read from /proc, thread by thread, and by process group if it has children."""

import os
import time
from collections.abc import Iterator

from hwmodel.real import affinity
from kernel.abi.program import Activity

WAITING = b"SDIZXx"
"""States of /proc/PID/stat in which a thread uses no processor and wants none; also those of dead ones."""
MAX_LOOKED_AT = 32
"""Threads of an environment to examine: one with more is judged by these, and by the CPU time it uses."""
REFRESH = 0.04
"""Seconds for which a list of a group's processes is used again: making one takes a walk through /proc."""
_CUTIME, _CSTIME = 13, 14
"""Fields of /proc/PID/stat, from the state on (proc_pid_stat(5))."""
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_STAT = 64 + 16
"""Bytes to read for the state, and some to spare."""


def cpu_clock(pid: int) -> int:
    """Return the clock of the CPU time of a process and all its threads: linux/posix-timers.h, CPUCLOCK_SCHED."""
    return ~pid << 3 | 2


def cpu_time(pid: int) -> int:
    """Return the CPU time of a process and all its threads, in ns; 0 when it has ended."""
    try:
        return time.clock_gettime_ns(cpu_clock(pid))
    except OSError:
        return 0


def state_of(line: bytes) -> bytes:
    """Return the state in a line of /proc/PID/stat; the name before it may hold anything, even a bracket."""
    at = line.rfind(b")") + 2
    return line[at : at + 1]


def waited_for(pid: int) -> int:
    """Return the CPU time of all children of *pid* that ended and that it waited for, and theirs, in ns.

    To the host's tick. 0 when it has ended itself.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return (int(fields[_CUTIME]) + int(fields[_CSTIME])) * _TICK


def is_traced(pid: int) -> bool:
    """Say whether a debugger has the process."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            found = next((line for line in file if line.startswith(b"TracerPid:")), b"TracerPid: 0")
    except OSError:
        return False
    return int(found.split()[1]) != 0


def of_threads(pid: int) -> Activity:
    """Return the joint activity of the threads of process *pid*: one that runs is enough."""
    found = Activity.WAITS
    for state in _states(pid):
        if state == b"t":
            return Activity.TRACED
        if state == b"T":
            found = Activity.STOPPED
        elif state not in WAITING:
            return Activity.RUNS
    return found


def _states(pid: int) -> Iterator[bytes]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")[:MAX_LOOKED_AT]
    except OSError:
        return
    for thread in threads:
        yield read_state(f"/proc/{pid}/task/{thread}/stat")


def read_state(path: str) -> bytes:
    """Return the state in the file *path*; a thread that is gone counts as dead."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b"X"
    try:
        return state_of(os.read(number, _STAT)) or b"X"
    except OSError:
        return b"X"
    finally:
        os.close(number)


class Children:
    """The other processes of the group that a foreign program leads: their activity and their CPU time.

    Of those that came and went between two looks, only those count that the leader waited for.
    """

    def __init__(self, leader: int) -> None:
        """Know none of the children of *leader* yet."""
        self._leader = leader
        self._used: dict[int, int] = {}
        """CPU time of each, in ns, when last asked."""
        self._gone = 0
        """CPU time of those that ended."""
        self._looked = float("-inf")

    def refresh(self) -> None:
        """List the processes of the group, if the last list is too old."""
        now = time.monotonic()
        if now - self._looked < REFRESH:
            return
        self._looked = now
        there = {*affinity.processes_of(self._leader, group=True)} - {self._leader}
        for pid in self._used.keys() - there:
            self._gone += self._used.pop(pid)
        for pid in there - self._used.keys():
            self._used[pid] = 0
        self._gone = max(self._gone, waited_for(self._leader))

    def consumed(self) -> int:
        """Return the CPU time of all that were ever found, in ns."""
        for pid in self._used:
            self._used[pid] = max(self._used[pid], cpu_time(pid))  # it ended: its last reading remains
        return self._gone + sum(self._used.values())

    def run(self) -> bool:
        """Say whether one of them runs, or wants to."""
        self.refresh()
        return any(of_threads(pid) is Activity.RUNS for pid in list(self._used)[:MAX_LOOKED_AT])
