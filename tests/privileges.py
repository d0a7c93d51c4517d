"""What the tests' own process may do on this host."""

import os
from pathlib import Path

from libexo.launch import paging

_CAP_CHOWN = 0
_CAP_SYS_NICE = 23


def _may(capability: int) -> bool:
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line
    )
    return bool(int(status["CapEff"], 16) >> capability & 1)


def may_place_others() -> bool:
    """Say whether it may choose the cores of another user's process: not in a container without CAP_SYS_NICE."""
    return _may(_CAP_SYS_NICE)


def may_give_files() -> bool:
    """Say whether it may give a file to another user: not in a container without CAP_CHOWN."""
    return _may(_CAP_CHOWN)


def may_page() -> bool:
    """Say whether programs can be paged: not in a container without /dev/userfaultfd."""
    try:
        os.close(paging.make())
    except OSError:
        return False
    return True
