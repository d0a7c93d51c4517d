"""Shares of the processor by the host's own scheduler: by `nice`, and by the weights of a cgroup.

The loops are plain processes of one session on one core: no other session's weight plays a part.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from bench.worker import peer

T = TypeVar("T")
Look = Callable[[Sequence[int]], T]
STEP = 1.25
"""What one nice level is worth: kernel/sched/core.c, sched_prio_to_weight."""
_CGROUP = Path("/sys/fs/cgroup")
WEIGHTS = ((_CGROUP, "cpu.weight", 100), (_CGROUP / "cpu", "cpu.shares", 1024))
"""Where cgroups are, v2 and v1; the file of their weights; the weight of a part."""
_MOST_NICE = 19


def by_nice(parts: Sequence[int], core: int, look: Look[T]) -> T | None:
    """Return what *look* says of loops that are as nice as comes nearest to *parts*."""
    with _loops(len(parts), core) as pids:
        for pid, part in zip(pids, parts, strict=True):
            os.setpriority(os.PRIO_PROCESS, pid, nice(part, max(parts)))
        time.sleep(0.5)
        return look(pids)


def nice(part: int, most: int) -> int:
    """Return the nice level that is nearest to *part* of *most*."""
    return min(range(_MOST_NICE + 1), key=lambda level: abs(STEP**-level - part / most))


def by_cgroup(parts: Sequence[int], core: int, look: Look[T]) -> T | None:
    """Return what *look* says of loops in cgroups of those weights; None: this process may make none."""
    with _loops(len(parts), core) as pids, contextlib.ExitStack() as opened:
        try:
            for number, (pid, part) in enumerate(zip(pids, parts, strict=True)):
                opened.enter_context(_group(f"exo-bench-{os.getpid()}-{number}", pid, part))
        except OSError:
            return None
        time.sleep(0.5)
        return look(pids)


@contextlib.contextmanager
def _group(name: str, pid: int, part: int) -> Iterator[None]:
    """Put *pid* into a cgroup of its own, of that weight; it goes back in the end. Raises OSError."""
    for root, weight, unit in WEIGHTS:
        if not (root / "cgroup.procs").exists():
            continue
        folder = root / name
        folder.mkdir()
        try:
            if not (folder / weight).exists():
                continue  # that hierarchy has no CPU controller here
            (folder / weight).write_text(str(part * unit))
            (folder / "cgroup.procs").write_text(str(pid))
            yield
            (root / "cgroup.procs").write_text(str(pid))
            return
        finally:
            folder.rmdir()
    raise PermissionError("no cgroup has a weight of the processor")


@contextlib.contextmanager
def _loops(count: int, core: int) -> Iterator[list[int]]:
    """Have *count* processes compute on *core*."""
    with contextlib.ExitStack() as opened:
        pids = [opened.enter_context(peer(_compute, own_session=False)) for _ in range(count)]
        for pid in pids:
            os.sched_setaffinity(pid, (core,))
        yield pids


def _compute() -> None:
    while True:
        pass
