"""Facts that the figures depend on: the host, the libraries, the commit."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import zmq

from bench.harness import ROOT

LIBRARIES = ("grpcio", "iceoryx2", "msgspec", "pynng", "uvloop")
"""Distributions that figures depend on, besides pyzmq."""


class Facts(msgspec.Struct, frozen=True):
    """The place and the means of a run."""

    cpus: int
    processor: str
    kernel: str
    python: str
    pyzmq: str
    libzmq: str
    commit: str
    """Empty where there is no git; with a + where the tree differs from it."""
    cores: tuple[int, ...]
    """Where both parties were kept; empty: where the host put them."""
    libraries: Mapping[str, str] = {}
    """The version of each of `LIBRARIES` that is installed."""
    when: str = ""
    """The start of the run: ISO 8601, UTC, to the second."""
    load: float = 0.0
    """The mean length of the host's run queue in the minute before: more than 0 is other programs' work."""

    def __str__(self) -> str:
        """Show them on one line."""
        placement = f"everybody on core {', '.join(map(str, self.cores))}" if self.cores else "nobody pinned"
        commit = f", commit {self.commit}" if self.commit else ""
        return (
            f"{self.cpus} CPUs ({self.processor}), Linux {self.kernel}, Python {self.python}, "
            f"pyzmq {self.pyzmq}, libzmq {self.libzmq}{commit}; {placement}; load before {self.load:.1f}"
        )


def gather(cores: Sequence[int] = ()) -> Facts:
    """Look around."""
    return Facts(
        cpus=os.cpu_count() or 1,
        processor=_processor(),
        kernel=platform.release(),
        python=platform.python_version(),
        pyzmq=zmq.pyzmq_version(),
        libzmq=zmq.zmq_version(),
        commit=_commit(),
        cores=tuple(cores),
        libraries=_versions(),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        load=round(os.getloadavg()[0], 2),
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
