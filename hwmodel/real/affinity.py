"""Host cores of other processes: the host keeps them thread by thread, and has no call for a whole process."""

import contextlib
import ctypes
import os
from collections.abc import Iterable

from hwmodel.machine import Deed
from hwmodel.real.errors import lending

_getcpu = ctypes.PyDLL(None).sched_getcpu


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


class Cores:
    """Where threads may run. One that has ended, or that we may not move, may run nowhere, and stays."""

    def here(self) -> int:
        """Return the core the caller is on."""
        core: int = _getcpu()
        return core

    def of(self, thread: int) -> frozenset[int]:
        """Return the cores *thread* may run on."""
        try:
            return frozenset(os.sched_getaffinity(thread))
        except OSError:
            return frozenset()

    def keep(self, thread: int, cores: frozenset[int]) -> None:
        """Let *thread* run on *cores* only."""
        with contextlib.suppress(OSError):
            os.sched_setaffinity(thread, cores)

    def threads(self, pid: int) -> Iterable[int]:
        """Return the threads of process *pid*."""
        return _threads(pid)
