"""A system to measure: the one at EXO_RUN if it is up, else one of our own, booted for the run and ended after."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.errors import BenchError
from bench.harness import ROOT, Worker, import_path, place
from exo.console import Console
from kernel.abi.kip import Head, SystemState
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.program import ProgramKind, Role
from libexo import kip
from libexo.attach import run_directory
from libexo.errors import ExoError
from servers.memory.policy import QUOTA_DIVISOR

PROGRAMS = ROOT / "bench" / "programs"
PATIENCE = 30.0
"""Seconds a system may take to boot, a program to start, and a system to end."""
PAUSE = 0.02
PAGER = """
[server.pager]
module = "servers.memory.pagers"
thread = 100
importance = 2
holds = ["swap"]
calls = ["memory"]
"""
"""What a topology has besides when it swaps."""
SHARED = "/dev/shm"  # noqa: S108 - a directory of one's own is made there
"""Where Linux has a file system in memory that everybody may write to."""


class System:
    """A running system, reached as an operator reaches it: through its console and its published KIP."""

    def __init__(self, run: Path, booted: bool) -> None:  # noqa: FBT001
        """Use the system at *run*; *booted*: it is ours."""
        self.run = run
        self.booted = booted
        self.kip = kip.read(run / "kip")
        self._open = contextlib.ExitStack()

    def start(
        self,
        module: str,
        name: str,
        *,
        environ: Mapping[str, str] | None = None,
        streams: Sequence[int] = (),
        paged: bool = False,
        share: int = 0,
    ) -> int:
        """Start *module* as an environment with *share* parts of the plan, 0: outside it.

        *streams* are its first descriptors. Return its process id. It ends with `close`.
        Raises Trouble, BenchError.
        """
        console = Console(str(self.run))
        self._open.callback(console.close)
        roles = [int(role) for role in (Role.STDIN, Role.STDOUT, Role.STDERR)][: len(streams)]
        console.ask(
            "run", streams, kind=int(ProgramKind.SERVER), argv=[module], name=name, share=share,
            environ=list((environ or {}).items()), roles=roles, paged=paged,
        )  # fmt: skip
        return self._pid(name)

    def _pid(self, name: str) -> int:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for row in self.kip.environments():
                if row.name == name and row.pid:
                    return row.pid
            time.sleep(PAUSE)
        raise BenchError(f"{name} did not start: see {self.run / 'log'}")

    def worker(
        self,
        module: str,
        name: str,
        environ: Mapping[str, str] | None = None,
        *,
        paged: bool = False,
        share: int = 0,
    ) -> Worker:
        """Start *module*, an environment that measures."""
        inside_in, told = os.pipe()
        says, inside_out = os.pipe()
        try:
            streams = (inside_in, inside_out, 2)
            pid = self.start(module, name, environ=environ, streams=streams, paged=paged, share=share)
        finally:
            os.close(inside_in)
            os.close(inside_out)
        worker = Worker(os.fdopen(told, "wb"), os.fdopen(says, "rb"), pid, lambda: None)
        self._open.callback(worker.close)
        return worker

    @property
    def quota(self) -> int:
        """How many bytes one environment may have, unless an operator gave it more."""
        return self.kip.head(Head.FRAME_COUNT) // QUOTA_DIVISOR * FRAME_SIZE

    def place(self, pids: Sequence[int], cores: Sequence[int]) -> None:
        """Keep environments on *cores*, and with them the kernel, if it is ours."""
        kernel = [self.kip.head(Head.KERNEL_PID)] if self.booted else []
        place([*pids, *kernel], cores)

    def close(self) -> None:
        """End what was started here."""
        self._open.close()


@contextlib.contextmanager
def running(memory: str = "", *, swaps: bool = False) -> Iterator[System]:
    """Give the system at EXO_RUN (or its default place), or a new one in a directory of its own.

    The new one has so much *memory*, like "4 GiB"; empty: as much as system.toml says. It *swaps*, if told to.
    """
    if _is_up(run_directory()):
        with contextlib.closing(System(run_directory(), booted=False)) as system:
            yield system
        return
    with tempfile.TemporaryDirectory(prefix="exo-bench-", dir=_memory()) as name:
        Path(name).chmod(0o711)  # programs have uids of their own, and pass through
        with (
            _boot(Path(name), memory, swaps=swaps) as run,
            contextlib.closing(System(run, booted=True)) as system,
        ):
            yield system


def _memory() -> str | None:
    """Return where files are in memory, as a run directory's are under /run, if this process may make any there.

    The name of each binding's end point is a file for a moment. On a disk's file system making it takes longer than
    all the rest of the binding.
    """
    return SHARED if os.access(SHARED, os.W_OK | os.X_OK) else None


def _is_up(run: Path) -> bool:
    try:
        state = kip.read(run / "kip").state
    except (OSError, ValueError, ExoError):
        return False
    return state == SystemState.UP and (run / "console").exists()


@contextlib.contextmanager
def _boot(directory: Path, memory: str, *, swaps: bool) -> Iterator[Path]:
    """Boot a kernel in *directory*; end it after. Its last words are shown when it does not come up."""
    run, config = directory / "run", directory / "system.toml"
    text = (ROOT / config.name).read_text(encoding="utf-8")
    if memory:
        text = re.sub("(?m)^memory = .*$", f'memory = "{memory}"', text)
    if swaps:
        text = (
            text.replace("[machine]\n", f'[machine]\nswap = "{directory}"\nswap_size = "32 MiB"\n', 1) + PAGER
        )
    config.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "kernel", "--config", str(config), "--run", str(run)]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("EXO_")}
    environ["PYTHONPATH"] = import_path()
    process = subprocess.Popen(command, env=environ, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _is_up(run):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"the system did not boot ({process.poll()}): {' '.join(command)}")
            time.sleep(PAUSE)
        yield run
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
