"""The last deaths of servers, from the logs: while the system is there, and after its end."""

import os
from pathlib import Path

from exo.system import log_path
from kernel.abi.obituary import Obituary

TAIL = 256 * 1024
"""Bytes at the end of a log in which deaths are searched for."""


def recent(run: str, count: int) -> list[Obituary]:
    """Return the last *count* deaths of the system at *run*, oldest first, from those logs that may be read."""
    logs = [Path(run, "log", "process.log"), Path(run, "log", "kernel.log"), Path(log_path(run))]
    found = {(each.name, each.thread, each.at_ns): each for log in logs for each in _in(log)}
    return sorted(found.values(), key=lambda each: each.at_ns)[-count:]


def _in(log: Path) -> list[Obituary]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [each for each in map(Obituary.read, lines) if each is not None]
