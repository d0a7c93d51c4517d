"""What the figures depend on: the host, the libraries, the commit."""

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec
import zmq

from bench.harness import ROOT


class Facts(msgspec.Struct, frozen=True):
    """Where and with what a run was made."""

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

    def __str__(self) -> str:
        """Show them on one line."""
        placement = f"everybody on core {', '.join(map(str, self.cores))}" if self.cores else "nobody pinned"
        commit = f", commit {self.commit}" if self.commit else ""
        return (
            f"{self.cpus} CPUs ({self.processor}), Linux {self.kernel}, Python {self.python}, "
            f"pyzmq {self.pyzmq}, libzmq {self.libzmq}{commit}; {placement}"
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
    )


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
