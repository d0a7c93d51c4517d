"""The `exo` command on a real system, as the tests type it."""

import contextlib
import json
import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0
DEGRADED = [] if os.geteuid() == 0 else ["--degraded"]


C = TypeVar("C", bound="Command")


class Command:
    """The `exo` command, about a system of a folder of its own."""

    def __init__(self, base: Path) -> None:
        self.run, self.folder = base / "run", base / "work"  # apart: programs may read where they work
        self.environ = {**os.environ, "EXO_RUN": str(self.run), "PYTHONPATH": str(ROOT)}

    def words(self, *words: str | Path) -> list[str]:
        """The program to start for *words*."""
        return [sys.executable, "-m", "exo", *map(str, words)]

    def exo(self, *words: str | Path, stdin: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
        """Do what *words* say, and check the exit status."""
        done = subprocess.run(
            self.words(*words),
            env=self.environ,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, f"exo {shlex.join(map(str, words))}: {done.stdout}{done.stderr}"
        return done

    def listed(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in json.loads(self.exo("ps", "--json").stdout)}

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def up(self) -> None:
        self.exo("up", "-d", *DEGRADED)

    def on_terminal(self) -> tuple[int, int, bytes]:
        """Boot one on a terminal; return that process, the terminal, and what it has shown by then."""
        with warnings.catch_warnings():  # it execs at once, whatever threads there are
            warnings.simplefilter("ignore", DeprecationWarning)
            pid, terminal = pty.fork()
        if pid == 0:
            os.execvpe(sys.executable, self.words("up", *DEGRADED), self.environ)
        shown = b""
        while b"traps/s" not in shown:
            assert select.select([terminal], [], [], PATIENCE)[0]
            shown += os.read(terminal, 1 << 16)
        return pid, terminal, shown

    def pid(self) -> int:
        return int(json.loads(self.exo("status", "--json").stdout)["pid"])


def until(holds: Callable[[], object]) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"


def family(pid: int) -> list[psutil.Process]:
    kernel = psutil.Process(pid)
    return [kernel, *kernel.children(recursive=True)]


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; what only its parent has not collected yet does not."""
    alive = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            alive += [process] if process.status() != psutil.STATUS_ZOMBIE else []
    return alive


@contextlib.contextmanager
def place(kind: type[C]) -> Iterator[C]:
    """A folder that programs, which have uids of their own, can read; a system that is left there is ended."""
    base = Path(tempfile.mkdtemp(prefix="exo-"))
    command = kind(base)
    command.folder.mkdir(0o755)
    base.chmod(0o755)
    try:
        yield command
    finally:
        if (command.run / "kip").exists():
            command.exo("down")
        shutil.rmtree(base)
