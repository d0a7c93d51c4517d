"""The kernel's own host process: its settings, and their restoration at the end."""

import contextlib
import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path

from hwmodel.real.libc import (
    PR_GET_DUMPABLE,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    is_subreaper,
    prctl,
    run_for,
)

NICENESS = -10
SLICE = 100_000
"""Nanoseconds, the least there is: who traps gives way to the kernel, where the host would let him go on first."""
AUTOGROUP = Path("/proc/self/autogroup")
YOUNG, MIDDLE, NEVER = 700, 10, 1 << 30
"""Thresholds of the collector: the young generations as usual, the old one not at all."""


class Process:
    """The kernel's own host process, with the settings it needs.

    Not dumpable: no process of its uid looks into it. Subreaper: if the nursery is killed, its orphans come
    to us. As many descriptors as the host allows, and a processor before programs if the host lets us ask.
    """

    leads = False
    """The host prefers our whole session to others."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []
        self._set(prctl(PR_GET_DUMPABLE), 0, lambda value: prctl(PR_SET_DUMPABLE, value))
        self._set(int(is_subreaper()), 1, lambda value: prctl(PR_SET_CHILD_SUBREAPER, value))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._set(
            limits[0], limits[1], lambda soft: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, limits[1]))
        )
        with contextlib.suppress(PermissionError):
            niceness = os.getpriority(os.PRIO_PROCESS, 0)
            self._set(
                niceness, min(niceness, NICENESS), lambda value: os.setpriority(os.PRIO_PROCESS, 0, value)
            )
        with contextlib.suppress(OSError):
            self._set(0, SLICE, run_for)
        if AUTOGROUP.exists() and os.getsid(0) == os.getpid():
            self._lead()

    def _lead(self) -> None:
        """Have the host prefer our session, which is ours alone: it weighs sessions (sched(7), autogroup).

        Niceness means nothing to processes of other sessions then. A terminal's session is not ours to change.
        """
        before = _weight()
        self._set(before, min(before, NICENESS), _weigh)
        self.leads = _weight() <= NICENESS

    def settle(self) -> None:
        """Keep all present objects; from now on the collector searches only young ones for cycles.

        A search through everything takes 2 ms for each 20,000 capabilities, in which nobody is served. So whatever
        may get old is freed by its last reference: where there is a cycle, its end breaks it.
        """
        gc.collect()
        gc.freeze()
        before = gc.get_threshold()
        gc.set_threshold(YOUNG, MIDDLE, NEVER)
        self._undo += [gc.unfreeze, lambda: gc.set_threshold(*before)]

    def restore(self) -> None:
        """Restore all settings."""
        while self._undo:
            self._undo.pop()()

    def _set(self, before: int, after: int, setter: Callable[[int], object]) -> None:
        setter(after)
        self._undo.append(lambda: setter(before))


def _weight() -> int:
    """Return the niceness of our session."""
    return int(AUTOGROUP.read_text(encoding="ascii").split()[-1])


def _weigh(value: int) -> None:
    """Set it, if we may, unless the host has just set it for another process."""
    with contextlib.suppress(OSError):
        AUTOGROUP.write_text(str(value), encoding="ascii")
