"""The steps of the tour: each does one piece of work with one server, and checks the result."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import libexo
from exo import serve, view
from exo.console import Console, own_directory
from exo.kill import end, send
from exo.programs.counter import Counter
from exo.programs.reader import Reader
from exo.run import DIRECTORY, PYTHON, SOURCE
from kernel.abi.program import ProgramKind
from libexo import vm
from libexo.errors import NoPartner
from libexo.kip import EnvironmentRow
from servers.memory.api import Memory
from servers.process.api import Processes, ProgramSpec
from servers.scheduler.api import Scheduler

PAGES = 16
TEXT = b"written in one environment, read in another"
LOOP = Path(__file__).with_name("programs") / "loop.py"
SHARES = {"tour-a": 3, "tour-b": 2, "tour-c": 1}
LOOK = 0.6
"""Seconds for which shares are measured: ten rounds of the plan, if the core is ours."""
ENOUGH = 420_000_000
"""Nanoseconds of the core, seven rounds, that the measurement takes at least, on a busy host."""
TOLERANCE = 0.06
PATIENCE = 10.0
PAUSE = 0.002


@dataclass
class Done:
    """The outcome of a step: its work, its time, and whether it was right."""

    server: str
    what: str
    took: int
    ok: bool
    notes: list[str] = field(default_factory=list)


class Stage:
    """The place of the tour: an environment of its own, and a line to the operators' console."""

    def __init__(self, run: str) -> None:
        """Attach to the system at *run*."""
        self.run = run
        self.environment = libexo.attach(run, f"tour-{os.getpid()}")
        self.processes = Processes.connect(self.environment)
        self._consoles: list[Console] = []

    def wait(self, until: Callable[[], bool]) -> bool:
        """Wait until something holds; False: it took too long."""
        deadline = time.monotonic() + PATIENCE
        while not until():
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE)
        return True

    def row(self, name: str) -> EnvironmentRow | None:
        """Return the row of the environment called *name*, if there is one."""
        return next((row for row in self.environment.kip.environments() if row.name == name), None)

    def start(self, source: Path, name: str, share: int) -> Console:
        """Start a Python program, which ends with the conversation that is returned."""
        console = Console(self.run)
        self._consoles.append(console)
        descriptors = [own_directory(), os.open(source, os.O_RDONLY | os.O_CLOEXEC)]
        console.ask(
            "run",
            descriptors,
            kind=PYTHON,
            argv=[str(source)],
            name=name,
            share=share,
            roles=[DIRECTORY, SOURCE],
        )
        for descriptor in descriptors:
            os.close(descriptor)
        return console

    def close(self) -> None:
        """Leave; the programs started here end."""
        for console in self._consoles:
            console.close()
        self.environment.close()


def steps(stage: Stage) -> Iterator[Done]:
    """Take one step after the other."""
    for step in (allocate, share, exit_status, divide, restart, serve_counter):
        began = time.perf_counter_ns()
        done = step(stage)
        done.took = done.took or time.perf_counter_ns() - began
        yield done


def allocate(stage: Stage) -> Done:
    """Allocate, map, write, read back."""
    memory = Memory.connect(stage.environment)
    free = memory.statistics().free
    began = time.perf_counter_ns()
    extent = memory.allocate(pages=PAGES)
    whole = vm.map(stage.environment, extent)
    was_zeroed = not any(whole)
    whole[: len(TEXT)] = TEXT
    whole[-1] = 0xFF
    took = time.perf_counter_ns() - began
    is_right = was_zeroed and whole[: len(TEXT)] == TEXT and whole[-1] == 0xFF  # noqa: PLR2004 - what was written
    del whole
    memory.free(extent)
    returned = stage.wait(lambda: memory.statistics().free == free)
    return Done(
        "memory",
        f"{PAGES} frames: allocated, mapped, zeroed, written, read back",
        took,
        is_right and returned,
    )


def share(stage: Stage) -> Done:
    """Share a page for reading; another program reads it, and dies when it writes."""
    memory = Memory.connect(stage.environment)
    extent = memory.allocate(pages=1)
    vm.map(stage.environment, extent)[: len(TEXT)] = TEXT
    spec = ProgramSpec(int(ProgramKind.SERVER), ("exo.programs.reader:ReaderServer",), "tour-reader", share=0)
    thread = stage.processes.spawn(spec)
    reader = Reader.connect(stage.environment)
    is_read = reader.read(extent.read_only(), len(TEXT)) == TEXT
    began = time.perf_counter_ns()
    is_alone = is_read and reader.read(extent.read_only(), len(TEXT)) == TEXT
    took = time.perf_counter_ns() - began
    try:
        reader.overwrite(extent.read_only())
        is_stopped = False
    except NoPartner:
        is_stopped = stage.processes.wait(thread).status == -signal.SIGSEGV
    unharmed = bytes(vm.map(stage.environment, extent)[: len(TEXT)]) == TEXT
    memory.free(extent)
    return Done(
        "memory",
        "a page shared read-only: another program maps and reads it",
        took,
        is_alone and is_stopped and unharmed,
        ["it then wrote there, and died of SIGSEGV: the host's hardware guards the page"]
        if is_stopped
        else [],
    )


def exit_status(stage: Stage) -> Done:
    """Start a program, and wait for its exit status."""
    spec = ProgramSpec(int(ProgramKind.FOREIGN), ("/bin/sh", "-c", "exit 42"), "tour-exit")
    ended = stage.processes.wait(stage.processes.spawn(spec))
    return Done("process", "a program spawned and awaited: it exits with 42", 0, ended.status == 42)  # noqa: PLR2004


def divide(stage: Stage) -> Done:
    """Divide a processor 3:2:1 between endless loops."""
    loops = [stage.start(LOOP, name, share) for name, share in SHARES.items()]
    plan = Scheduler.connect(stage.environment).plan

    def is_planned() -> bool:
        slices = {slice_.thread: slice_.microseconds for slice_ in plan()}
        rows = [stage.row(name) for name in SHARES]
        parts = [slices.get(row.thread, 0) / SHARES[row.name] for row in rows if row is not None and row.pid]
        return len(parts) == len(SHARES) and parts[0] > 0 and len(set(parts)) == 1

    ready = stage.wait(is_planned)
    rows = [row for name in SHARES if (row := stage.row(name)) is not None]
    before = _used(rows)
    began = time.perf_counter_ns()
    time.sleep(LOOK)
    stage.wait(lambda: sum(_used(rows)) - sum(before) > ENOUGH)
    took = time.perf_counter_ns() - began
    used = [after - was for after, was in zip(_used(rows), before, strict=True)]
    for console in loops:
        console.close()
    total = sum(used) or 1
    parts = {name: one / total for name, one in zip(SHARES, used, strict=True)}
    whole = sum(SHARES.values())
    is_fair = all(abs(part - SHARES[name] / whole) < TOLERANCE for name, part in parts.items())
    notes = [f"{SHARES[name]} {view.bar(part, 40)} {100 * part:5.2f} %" for name, part in parts.items()]
    notes.append(f"{100 * total / took:.1f} % of the core was theirs")
    return Done(
        "scheduler",
        "three endless loops share a core 3:2:1, preempted all along",
        took,
        ready and is_fair,
        notes,
    )


def _used(rows: list[EnvironmentRow]) -> list[int]:
    """Return the CPU time of each, by the host's own nanoseconds."""
    return [time.clock_gettime_ns(~row.pid << 3 | 2) for row in rows]


def restart(stage: Stage) -> Done:
    """Kill the scheduler by SIGKILL, and call it again."""
    scheduler = Scheduler.connect(stage.environment)
    scheduler.plan()
    before = stage.environment.lookup("scheduler")
    began = time.perf_counter_ns()
    send(stage.run, "scheduler", signal.SIGKILL)
    is_new = stage.wait(lambda: stage.environment.kip.lookup("scheduler") not in (0, before))
    scheduler.plan()
    took = time.perf_counter_ns() - began
    return Done(
        "process", "scheduler killed with SIGKILL: restarted, and answering under its name", took, is_new
    )


def serve_counter(stage: Stage) -> Done:
    """Start a server of one's own, call it, and end it."""
    began = time.perf_counter_ns()
    name = serve.spawn(stage.run, "exo.programs.counter:CounterServer", "tour-counter")
    counter = Counter.connect(stage.environment)
    sums = [counter.add(n) for n in (1, 2, 3)]
    first = time.perf_counter_ns() - began
    began = time.perf_counter_ns()
    for _ in range(100):
        counter.add(0)
    each = (time.perf_counter_ns() - began) // 100
    end(stage.run, [name])
    is_gone = stage.wait(lambda: stage.row(name) is None)
    notes = [f"a call takes {each / 1000:.0f} us: there and back, typed and checked"]
    return Done(
        "yours",
        "a counter server: started, found by its name, called",
        first,
        sums == [1, 3, 6] and is_gone,
        notes,
    )
