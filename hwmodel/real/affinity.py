"""On which host core another process runs: the host keeps that thread by thread, and has no call for them all."""

import contextlib
import os
from collections.abc import Iterable

from hwmodel.machine import Deed
from hwmodel.real.errors import lending


def move(pid: int, core: int, *, group: bool) -> Deed:
    """Confine all threads of process *pid* to host *core*; with *group*, those of its process group too.

    A thread that is started meanwhile has the core of the one that started it, so we look again until there is
    none that was not moved. One that has ended, or that we may not move, stays where it is.
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
