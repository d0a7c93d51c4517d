"""A system that has ended: how, and its last words."""

import fcntl
import os
from pathlib import Path

from exo import logs
from exo.system import log_path
from kernel.abi.logs import LAST_LINE

TAIL = 8


def is_over(run: str) -> bool:
    """Whether the remains at *run* are nobody's: neither the kernel nor the nursery holds its lock."""
    try:
        number = os.open(Path(run, "lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(number)


def last_words(run: str) -> list[str] | None:
    """Return the end of the kernel's log at *run*; None if there is none."""
    path = Path(log_path(run))
    return logs.last_lines(logs.Log("kernel", path).begin(), TAIL) if path.exists() else None


def ended_in_order(words: list[str]) -> bool:
    """Whether a kernel with these last *words* ended because it was asked to."""
    return words[-1:] == [LAST_LINE]
