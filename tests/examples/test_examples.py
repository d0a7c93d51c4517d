"""Each example runs on a real system, and prints what it is said to print."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from exo.trace import open_ring
from exo.view import open_kip
from kernel.abi.events import Event
from kernel.abi.program import ProgramKind, Role
from tests.privileges import may_page
from tests.system.command import until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
EXPECTED = Path(__file__).parent / "expected"
PAGED = ("pager", "barrier", "checkpoint", "dsm")
PATIENCE = 30
"""Seconds a system may take to be up, and an example to end."""

pytestmark = [pytest.mark.system, pytest.mark.beside, pytest.mark.slow]


class Conversation:
    """One connection to the console of a running system."""

    def __init__(self, console: Path) -> None:
        self.peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.peer.settimeout(PATIENCE)
        try:
            self.peer.connect(str(console))
        except OSError:
            self.peer.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()

    def ask(self, descriptors: list[int], **request: object) -> dict[str, Any]:
        socket.send_fds(self.peer, [json.dumps(request).encode()], descriptors)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.peer.recv(1 << 16))
        assert "error" not in answer, answer
        return answer


class RunningSystem:
    """A system booted from a topology, and what `exo run` and `exo serve` ask of it."""

    def __init__(self, run: Path) -> None:
        self.console = run / "console"

    def run(self, example: Path, *, paged: bool = False) -> tuple[int, str]:
        """Run a program to its end; return its exit status and what it wrote."""
        if paged and not may_page():
            pytest.skip("no program can be paged here")
        with contextlib.ExitStack() as opened:
            output = opened.enter_context(tempfile.TemporaryFile("w+"))
            directory, source = os.open(ROOT, os.O_PATH), os.open(example, os.O_RDONLY)
            opened.callback(os.close, directory)
            opened.callback(os.close, source)
            talk = opened.enter_context(Conversation(self.console))
            roles = (Role.STDOUT, Role.STDERR, Role.DIRECTORY, Role.SOURCE)
            request = {"kind": ProgramKind.PYTHON, "argv": [str(example)], "roles": roles}
            talk.ask([output.fileno(), output.fileno(), directory, source], op="run", paged=paged, **request)
            status = talk.answer()["exit"]["status"]
            output.seek(0)
            return status, output.read()

    @contextlib.contextmanager
    def loop(self, name: str) -> Iterator[None]:
        """Have an endless loop run, as `exo run --name` does, once it has arrived."""
        kip = open_kip(str(self.console.parent))
        with Conversation(self.console) as talk:
            argv = ["sh", "-c", "while :; do :; done"]
            talk.ask([], op="run", kind=ProgramKind.FOREIGN, argv=argv, name=name)
            until(lambda: any(row.name == name and row.started for row in kip.environments()))
            yield

    @contextlib.contextmanager
    def serving(self, server: str) -> Iterator[None]:
        """Serve `module:Class` meanwhile."""
        directory = os.open(ROOT, os.O_PATH)
        try:
            with Conversation(self.console) as talk:
                request = {"kind": ProgramKind.SERVER, "argv": [server], "share": 0, "restart": "always"}
                talk.ask([directory, directory], op="run", roles=[Role.DIRECTORY, Role.IMPORTS], **request)
                yield
        finally:
            os.close(directory)


@contextlib.contextmanager
def booted(config: Path) -> Iterator[RunningSystem]:
    """Boot the system of *config*, and end it. Its directory is one that every uid can walk to."""
    folder = Path(tempfile.mkdtemp(prefix="exo-", dir="/tmp"))
    folder.chmod(0o711)
    run = folder / "run"
    command = [sys.executable, "-m", "kernel", "--config", str(config), "--run", str(run)]
    with subprocess.Popen(command, cwd=ROOT) as kernel:
        try:
            yield RunningSystem(_await_console(run))
        finally:
            kernel.terminate()
            kernel.wait()
            shutil.rmtree(folder)


def _await_console(run: Path) -> Path:
    """Return *run* once operators can connect there: a poll, for the socket's maker is another process."""
    for _ in range(PATIENCE * 100):
        with contextlib.suppress(OSError), Conversation(run / "console"):
            return run
        time.sleep(0.01)
    raise AssertionError(f"no system came up at {run}")


def expected(example: str) -> str:
    return (EXPECTED / f"{example}.txt").read_text(encoding="utf-8")


@pytest.fixture
def system() -> Iterator[RunningSystem]:
    """The system of system.toml."""
    with booted(ROOT / "system.toml") as running:
        yield running


@pytest.mark.parametrize(
    "example",
    ["hello", "memory", "heap", "share", "restart", "publish", "rings", "tasks", "predicates", *PAGED],
)
def test_example(system: RunningSystem, example: str) -> None:
    """An example of one file prints what it is said to print."""
    status, output = system.run(EXAMPLES / f"{example}.py", paged=example in PAGED)

    assert output == expected(example)
    assert status == 0


def test_the_pager_in_the_trace(system: RunningSystem) -> None:
    """The event ring shows the faults of the example's reader, what its pager supplied, and what it evicted."""
    ran = system.run(EXAMPLES / "pager.py", paged=True)

    assert ran == (0, expected("pager"))
    ring, shown = open_ring(system.console.with_name("trace")), list[tuple[Event, int]]()
    for record in ring.read():
        if record.event in (Event.PAGE_FAULT, Event.SUPPLIED, Event.EVICTED):
            entry = Event(record.event), record.a & 0xFFFF
            if shown[-1:] != [entry]:  # the host may wake a thread too early, which then faults again
                shown.append(entry)
    assert shown == [
        (Event.PAGE_FAULT, 3),
        (Event.SUPPLIED, 3),
        (Event.PAGE_FAULT, 30),
        (Event.SUPPLIED, 30),
        (Event.PAGE_FAULT, 300),
        (Event.EVICTED, 3),
        (Event.SUPPLIED, 300),
        (Event.PAGE_FAULT, 3),
        (Event.EVICTED, 30),
        (Event.SUPPLIED, 3),
    ]


def test_counter(system: RunningSystem) -> None:
    """The counter is served by one program and called by another; its total outlives its clients."""
    with system.serving("examples.counter:CounterServer"):
        first = system.run(EXAMPLES / "counter.py")
        second = system.run(EXAMPLES / "counter.py")

    assert first == (0, expected("counter"))
    assert second == (0, "add   1: the total is 322\nadd  20: the total is 342\nadd 300: the total is 642\n")


def test_scheduler(system: RunningSystem) -> None:
    """A policy of one's own plans the whole system, while programs run, once an operator says so."""
    exo = [sys.executable, "-m", "exo", "--run", str(system.console.parent), "sched"]
    with system.loop("older"), system.loop("younger"):
        subprocess.run([*exo, "use", f"{EXAMPLES / 'scheduler.py'}:YoungFirst"], cwd=ROOT, check=True)
        shown = subprocess.run(exo, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert sorted(line[3:] for line in shown.splitlines()[-2:]) == expected("scheduler").splitlines()


def test_swap() -> None:
    """Memory of twice its frames holds what was written, in a system of which the topology has a pager."""
    with booted(EXAMPLES / "swap.toml") as running:
        status, output = running.run(EXAMPLES / "swap.py", paged=True)

    assert output == expected("swap")
    assert status == 0


def test_swap_topology_adds_a_pager() -> None:
    """examples/swap.toml is system.toml with a swap file and the server that holds it."""
    plain = tomllib.loads((ROOT / "system.toml").read_text(encoding="utf-8"))
    changed = tomllib.loads((EXAMPLES / "swap.toml").read_text(encoding="utf-8"))
    assert changed["server"].pop("pager")["holds"] == ["swap"]
    assert changed["machine"].pop("swap") == "/var/tmp"
    assert changed["machine"].pop("swap_size") == "64 MiB"

    assert changed == plain


def test_spaces() -> None:
    """A root task makes two spaces, is their pager, starts them, and comes to its end."""
    with tempfile.TemporaryDirectory(prefix="exo-") as folder:
        Path(folder).chmod(0o755)
        run = Path(folder) / "run"
        environ = {**os.environ, "EXO_RUN": str(run)}
        exo = [sys.executable, "-m", "exo"]
        degraded = [] if os.geteuid() == 0 else ["--degraded"]
        words = [*exo, "kickstart", "-d", *degraded, f"-roottask={EXAMPLES / 'spaces.py'}"]
        subprocess.run(words, env=environ, cwd=ROOT, check=True, timeout=PATIENCE)
        try:
            said = _await_last_line(run / "log" / "spaces.log", expected("spaces").splitlines()[-1])
        finally:
            subprocess.run([*exo, "down"], env=environ, cwd=ROOT, check=True, timeout=PATIENCE)

    assert said == expected("spaces")


def _await_last_line(log: Path, last: str) -> str:
    """Return what stands in *log* once its last line does."""
    for _ in range(PATIENCE * 100):
        if log.exists() and last in (said := log.read_text(encoding="utf-8")):
            return said
        time.sleep(0.01)
    raise AssertionError(log.read_text(encoding="utf-8"))


def test_every_example_is_tested() -> None:
    """No example without an expected output, and none of those without its example."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {path.stem for path in EXPECTED.glob("*.txt")}


def test_paged_examples_are_short() -> None:
    """Those about paged memory have less than 50 lines each."""
    lines = {name: len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) for name in PAGED}

    assert max(lines.values()) < 50, lines


def test_ladder_lists_every_example() -> None:
    """The table of examples/README.md names each example."""
    ladder = (EXAMPLES / "README.md").read_text(encoding="utf-8")

    assert not [path.name for path in EXAMPLES.glob("*.py") if f"[{path.stem}]({path.name})" not in ladder]
