"""A booted system, real from end to end, as its operator has it: boot, run programs, look, audit, end."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import psutil
import pytest

from exo.console import Console
from exo.system import Trouble
from kernel.abi.budget import Item
from kernel.abi.kip import EnvironmentState, Head, SystemState
from kernel.abi.logs import FOLDER, log_file
from kernel.abi.program import ProgramKind, Role
from libexo import kip
from libexo.errors import ExoError
from libexo.kip import EnvironmentRow, Kip
from servers.memory.server import LOOK_AGAIN
from tests.privileges import may_page

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0
"""Seconds anything may take on an idle host before a test has failed. On a busy one it is more: looks are counted,
and each of them takes as long as everything else."""
LOOK = 0.002
STILL, REST = 4, LOOK_AGAIN / 2
"""How often, and how far apart in seconds, the books must be found unchanged to be taken for settled.

The memory server has looked again meanwhile, and has given up what it carved for those who have ended.
"""
SERVERS = ("memory", "process", "scheduler")
PYTHON, FOREIGN = ProgramKind.PYTHON, ProgramKind.FOREIGN


def wait_until(holds: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Look again and again whether *holds*: what the kernel shows in its pages announces itself no other way."""
    for _ in range(int(seconds / LOOK)):
        if holds():
            return True
        select.select((), (), (), LOOK)
    return bool(holds())


def readable(descriptors: "Sequence[int | Console]", seconds: float = PATIENCE) -> "list[int | Console]":
    """Wait until one of *descriptors* can be read; return those that can."""
    for _ in range(int(seconds / LOOK)):
        if found := select.select(descriptors, (), (), LOOK)[0]:
            return found
    return []


def ended(pid: int, seconds: float = PATIENCE) -> bool:
    """Wait for the end of a process that need not be ours."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(readable([process], seconds))
    finally:
        os.close(process)


class Finished(NamedTuple):
    """How a program ended, and what it said."""

    out: str
    err: str
    status: int
    fault: int
    text: str = ""
    """The fault in words."""


class Running:
    """A program that an operator runs."""

    def __init__(self, console: Console, answer: dict[str, object], pipes: dict[Role, int]) -> None:
        self.console = console
        self.thread = int(str(answer["thread"]))
        self.name = str(answer["name"])
        self._pipes = pipes
        self._said = {Role.STDOUT: b"", Role.STDERR: b""}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def line(self) -> str:
        """Wait for the next line of its output."""
        while b"\n" not in self._said[Role.STDOUT]:
            if not self._read([Role.STDOUT]):
                raise AssertionError(f"{self.name} said no more: {self.finish()}")
        line, _, self._said[Role.STDOUT] = self._said[Role.STDOUT].partition(b"\n")
        return line.decode()

    def tell(self, line: str) -> None:
        """Write a line to its input."""
        os.write(self._pipes[Role.STDIN], f"{line}\n".encode())

    def ask(self, line: str) -> str:
        """Write a line, and wait for one."""
        self.tell(line)
        return self.line()

    def signal(self, number: int) -> None:
        """Have it sent a signal."""
        self.console.send("signal", signal=int(number))

    def finish(self) -> Finished:
        """Wait for its end."""
        self.rest()
        if not readable([self.console]):
            raise TimeoutError(f"the end of {self.name} is not reported")
        answer = self.console.receive()
        assert answer is not None, f"the console closed before the end of {self.name}"
        out, err = (self._said[role].decode(errors="replace") for role in (Role.STDOUT, Role.STDERR))
        self.close()
        return Finished(out, err, **answer["exit"])

    def rest(self) -> str:
        """Return what it still writes, until nobody does any more."""
        while self._read([Role.STDOUT, Role.STDERR]):
            pass
        return self._said[Role.STDOUT].decode(errors="replace")

    def close(self) -> None:
        """End the conversation, and the program with it."""
        self.console.close()
        for number in self._pipes.values():
            os.close(number)
        self._pipes.clear()

    def _read(self, roles: Sequence[Role]) -> bool:
        """Read what it wrote; False when it wrote its last."""
        waiting = {self._pipes[role]: role for role in roles if role in self._pipes}
        if not waiting:
            return False
        ready = [each for each in readable(list(waiting)) if isinstance(each, int)]
        if not ready:
            raise TimeoutError(f"{self.name} says nothing; so far: {self._said}")
        for number in ready:
            if data := os.read(number, 1 << 16):
                self._said[waiting[number]] += data
            else:
                os.close(self._pipes.pop(waiting[number]))
        return True


@dataclass(frozen=True)
class Books:
    """The state that must be the same before and after: the kernel's own accounts, and the host's lendings."""

    environments: tuple[tuple[str, int, int, str], ...]
    """Name, handles, frames, state."""
    names: frozenset[str]
    free: int
    endpoints: frozenset[str]
    descriptors: tuple[int, ...]
    """How many kernel and nursery have open: memory of extents, pidfds, gates, endpoints.

    Not the one that each binding keeps: a server binds to another when it first calls it, and to its successor when
    it next does.
    """
    processes: int
    """Of our uids."""


class System:
    """One booted system."""

    def __init__(self, process: "subprocess.Popen[bytes]", run: Path, log: Path) -> None:
        self.process = process
        self.run_directory = run
        self.log = log
        self.kip: Kip
        self.baseline: Books

    @property
    def pid(self) -> int:
        """The kernel's process id."""
        return self.process.pid

    @property
    def nursery(self) -> int:
        """The nursery's process id."""
        return next(
            c.pid for c in psutil.Process(self.pid).children() if "libexo.launch.nursery" in c.cmdline()
        )

    def log_of(self, name: str) -> str:
        """Return the log of the program *name*."""
        return (self.run_directory / FOLDER / log_file(name)).read_text()

    def row(self, name: str) -> EnvironmentRow | None:
        """Return the row of the living environment called *name*."""
        rows = self.kip.environments()
        return next((r for r in rows if r.name == name and r.state != EnvironmentState.DEAD), None)

    def server(self, name: str) -> EnvironmentRow:
        """Return the row of a server, waiting for it to be back: the very row that was found, not a later look."""
        found: list[EnvironmentRow] = []

        def is_back() -> bool:
            row = self.row(name)
            if row is not None and row.pid and row.state:
                found.append(row)
            return bool(found)

        assert wait_until(is_back), f"{name} is not there"
        return found[0]

    def start(
        self,
        program: str | Sequence[str],
        *arguments: object,
        name: str = "",
        share: int = 1,
        restart: str = "never",
        detach: bool = False,
        streams: bool = True,
        paged: bool = False,
    ) -> Running:
        """Start a program: Python text, or the argv of an executable; without *streams* it has a log."""
        if paged and not may_page():
            pytest.skip("no program can be paged here")
        theirs: dict[Role, int] = {}
        ours: dict[Role, int] = {}
        for role in (Role.STDIN, Role.STDOUT, Role.STDERR) if streams else ():
            reading, writing = os.pipe()
            theirs[role], ours[role] = (reading, writing) if role is Role.STDIN else (writing, reading)
        kind, argv = FOREIGN, [*program]
        if isinstance(program, str):
            kind, argv = PYTHON, [f"{name or 'program'}.py"]
            theirs[Role.SOURCE] = os.memfd_create("source", os.MFD_CLOEXEC)
            os.write(theirs[Role.SOURCE], program.encode())
        console = Console(str(self.run_directory))
        try:
            answer = console.ask(
                "run", list(theirs.values()), kind=int(kind), argv=[*argv, *map(str, arguments)], name=name,
                share=share, restart=restart, roles=[int(role) for role in theirs], detach=detach,
                paged=paged,
            )  # fmt: skip
        except Trouble:
            console.close()
            for number in ours.values():
                os.close(number)
            raise
        finally:
            for number in theirs.values():
                os.close(number)
        return Running(console, answer, ours)

    def run(
        self,
        program: str | Sequence[str],
        *arguments: object,
        name: str = "",
        share: int = 1,
        paged: bool = False,
    ) -> Finished:
        """Run a program to its end."""
        with self.start(program, *arguments, name=name, share=share, paged=paged) as running:
            return running.finish()

    def books(self) -> Books:
        """Return the accounts as they stand."""
        rows = sorted(self.kip.environments(), key=lambda row: row.name)
        lent = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (self.pid, self.nursery)]  # noqa: PTH208
        lent[0] -= sum(self.kip.budget(row.number)[Item.BINDINGS].used for row in rows)
        return Books(
            tuple(
                (row.name, row.handles, row.frames, "dead" if row.state == EnvironmentState.DEAD else "alive")
                for row in rows
            ),
            frozenset(self.kip.names()),
            self.kip.head(Head.FREE_FRAMES),
            frozenset(path.name for path in (self.run_directory / "ipc").iterdir()),
            tuple(lent),
            len(self.processes()),
        )

    def balances(self) -> bool:
        """Say whether the books are those every test is held to."""
        return self.books() == self.baseline

    def rebase(self) -> None:
        """Take the books as they are, once they stand still, for those every test is held to."""
        self.settle()
        self.baseline, stood = self.books(), 0
        for _ in range(int(PATIENCE / REST)):
            select.select((), (), (), REST)
            now = self.books()
            self.baseline, stood = now, stood + 1 if now == self.baseline else 0
            if stood >= STILL:
                return
        raise AssertionError(f"the books never stand still: {self.baseline}")

    def processes(self) -> list[int]:
        """Return the process ids of everybody whose uid is of this system's block."""
        block = (self.kip.environments()[0].uid - 200_000) // 2048
        return [p.pid for p in psutil.process_iter() if _block(p) == block]

    def settle(self) -> None:
        """Run a program that uses every server: what they keep for a while is then for this one alone."""
        finished = self.run(SETTLER, name="settler", share=2)
        assert (finished.out, finished.status) == ("settled\n", 0), finished

    def wait_ready(self) -> None:
        """Wait until every server serves."""
        rows = (EnvironmentState.READY, EnvironmentState.RUNNING)
        assert wait_until(self._publishes), self.log.read_text()
        assert wait_until(
            lambda: all((row := self.row(n)) is not None and row.state in rows for n in SERVERS)
        )
        assert wait_until((self.run_directory / "console").exists)

    def _publishes(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            self.kip = kip.read(self.run_directory / "kip")
        except (OSError, ValueError, ExoError):
            return False
        return self.kip.state == SystemState.UP

    def close(self, number: int = signal.SIGTERM) -> int:
        """End it; return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


SETTLER = """
import libexo
from libexo import vm
from tests.privileges import may_page
from servers.memory.api import Memory
from servers.scheduler.api import Scheduler
from servers.process.api import Processes
env = libexo.attach()
memory = Memory.connect(env)
extent = memory.allocate(1)
vm.map(env, extent)[0] = 1
memory.free(extent)
assert Scheduler.connect(env).plan()
Processes.connect(env).register(f"settled-{env.number}")
print("settled")
"""


def _block(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return (process.uids().real - 200_000) // 2048
    return -1


@contextmanager
def boot(
    config: str = "", prefix: Sequence[str] = (), owner: int = -1, python: Sequence[str] = (sys.executable,)
) -> Iterator[System]:
    """Boot a system in a directory of its own, and end it after.

    *config* is the text of its topology, *prefix* a command that starts the kernel's, *owner* who owns the
    directory, *python* how Python is called.
    """
    # pytest's own directories are shut to the uids of environments.
    with tempfile.TemporaryDirectory(prefix="exo-") as folder, open(f"{folder}/log", "wb") as log:  # noqa: PTH123
        Path(folder).chmod(0o711)
        os.chown(folder, owner, owner)
        topology, run = ROOT / "system.toml", Path(folder) / "run"
        if config:
            topology = Path(folder) / "system.toml"
            topology.write_text(config)
        command = [*prefix, *python, "-m", "kernel", "--config", str(topology), "--run", str(run)]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, start_new_session=True
        )
        system = System(process, run, Path(folder) / "log")
        try:
            system.wait_ready()
            yield system
        finally:
            vars(system).pop("kip", None)  # a mapping, and its descriptor
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
