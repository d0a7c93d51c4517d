"""Host cores of other processes: the host keeps them thread by thread, and has no call for a whole process."""

import contextlib
import os
from collections.abc import Iterable

from hwmodel.machine import Deed
from hwmodel.real.errors import lending


def move(pid: int, core: int, *, group: bool) -> Deed:
    """Confine all threads of process *pid* to host *core*; with *group*, those of its process group too.

    A thread that starts meanwhile has the core of its starter, so the walk is repeated until it finds
    none to move. A thread that has ended, or that we may not move, stays where it is.
    """
    moved: set[int] = set()
    while (
        new := {thread for process in processes_of(pid, group=group) for thread in _threads(process)} - moved
    ):
        for thread in new:
            with lending, contextlib.suppress(ProcessLookupError, PermissionError):
                os.sched_setaffinity(thread, (core,))
        moved |= new
        yield


@lending
def processes_of(pid: int, *, group: bool) -> Iterable[int]:
    """Return *pid*, or the processes of the group it leads."""
    if not group:
        return (pid,)
    return [
        process for process in map(int, filter(str.isdecimal, os.listdir("/proc"))) if _is_in(process, pid)
    ]


def _is_in(process: int, group: int) -> bool:
    with contextlib.suppress(OSError):
        return os.getpgid(process) == group
    return False


def _threads(process: int) -> Iterable[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{process}/task")]
    except OSError:  # it has ended
        return ()
