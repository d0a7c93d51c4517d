"""What the kernel sets for its own host process, and sets back when it leaves."""

import contextlib
import os
import resource
from collections.abc import Callable

from hwmodel.real.libc import (
    PR_GET_DUMPABLE,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    is_subreaper,
    prctl,
)

NICENESS = -10


class Process:
    """The kernel's own host process, made fit to be one.

    Not dumpable: nobody of its uid looks into it. Subreaper: if the nursery is killed, what it leaves comes
    to us. As many descriptors as the host allows, and a processor before programs where we may ask for it.
    """

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

    def restore(self) -> None:
        """Set everything back."""
        while self._undo:
            self._undo.pop()()

    def _set(self, before: int, after: int, setter: Callable[[int], object]) -> None:
        setter(after)
        self._undo.append(lambda: setter(before))
