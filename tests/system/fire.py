"""An innocent client under fire: how long its calls take, in quiet times and while others lay siege."""

import json
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import psutil

from exo.kill import Ending
from exo.system import Trouble
from libexo.launch.precedence import NICENESS
from tests.privileges import may_place_others
from tests.system.booted import System
from tests.system.programs import PRELUDE
from tests.system.sieges import BESIEGER, Siege

INNOCENT = (
    PRELUDE
    + """
import json, select, time
memory, process, scheduler = Memory.connect(env), Processes.connect(env), Scheduler.connect(env)
mine = f"innocent-{os.getpid()}"
def allocate(): memory.free(memory.allocate(1))
CALLS = {"memory": allocate, "process": lambda: process.register(mine), "scheduler": scheduler.plan}
def told(): return bool(select.select((sys.stdin,), (), (), 0)[0])
def p99(times): return sorted(times)[(len(times) * 99 - 1) // 100]
def measure(is_over):
    took = {name: [] for name in CALLS}
    late = []
    failed = []
    while not is_over(len(took["memory"])):
        for name, call in CALLS.items():
            began = time.monotonic_ns()
            try: call()
            except ExoError as error: failed.append(f"{name}: {type(error).__name__}: {error}"[:200])
            took[name].append(time.monotonic_ns() - began)
        began = time.monotonic_ns()
        time.sleep(0.001)
        late.append(time.monotonic_ns() - began - 1_000_000)
    times = {name: [p99(each), max(each), len(each)] for name, each in took.items()}
    return {"took": times, "late": p99(late), "failed": failed[:5]}
for line in sys.stdin:
    rounds = int(line)
    print(json.dumps(measure(lambda n: n >= abs(rounds) and (rounds > 0 or told()))), flush=True)
"""
)
"""Told a number, it makes so many rounds of calls; told minus that, so many and more, until it is told again."""

ROUNDS = 300
"""How many calls of each kind are measured at the least: of fewer, a percentile is one of the two slowest."""
FOREVER = 3600
"""Seconds for which besiegers would go on: they are ended when enough was measured."""
TIMES = 20
LONGEST_NS = 100_000_000
"""What the 99th percentile of a call may be under fire, or `TIMES` its own in quiet times, whichever is more."""
GROWTH = 16 << 20
"""Bytes that the kernel and each server may grow by while a siege lasts."""
GUARDED = ("memory", "process", "scheduler")


class Times(NamedTuple):
    """Times of the calls of one kind, in ns."""

    p99: int
    longest: int
    calls: int


class Fared(NamedTuple):
    """How the innocent fared: the times of its calls by server, and the first that failed."""

    times: dict[str, Times]
    late: int
    """By how many ns it woke too late from a sleep, between its calls, at the 99th percentile: how busy the machine
    is. It is shown, and allows nothing, for the besiegers have a part in it."""
    failed: list[str]


class Talk(Protocol):
    """A conversation with a program, line by line."""

    def tell(self, line: str) -> None:
        """Write a line to it."""

    def line(self) -> str:
        """Wait for a line of its output."""


class Innocent:
    """The client."""

    def __init__(self, running: Talk) -> None:
        """Drive *running*, a program whose text is `INNOCENT`."""
        self._running = running
        self.quiet = self._told(ROUNDS)

    def begin(self) -> None:
        """Call without end, until `end`."""
        self._running.tell(str(-ROUNDS))

    def end(self) -> Fared:
        """Stop, once it has made enough calls, and say how it went.

        The line that stops it is one more number of rounds: one.
        """
        self._running.tell("1")
        fared = self._read()
        self._read()
        return fared

    def _told(self, rounds: int) -> Fared:
        self._running.tell(str(rounds))
        return self._read()

    def _read(self) -> Fared:
        said = json.loads(self._running.line())
        return Fared({name: Times(*row) for name, row in said["took"].items()}, said["late"], said["failed"])


@contextmanager
def innocent(system: System) -> Iterator[Innocent]:
    """Start one, outside the plans, as an operator may, and as urgent as servers are for the host.

    What is measured is the servers, and not how long it waits for its own turn on a machine that is busy otherwise.
    """
    with system.start(INNOCENT, name="innocent", share=0) as running:
        client = Innocent(running)
        hasten(system.server("innocent").pid)
        yield client
        running.signal(signal.SIGKILL)
        running.finish()


def hasten(pid: int) -> None:
    """Have the host treat process *pid* as it does servers, where it may be asked to."""
    if not may_place_others():
        return
    for thread in psutil.Process(pid).threads():
        os.setpriority(os.PRIO_PROCESS, thread.id, NICENESS)
    if (session := Path(f"/proc/{pid}/autogroup")).exists():
        session.write_text(str(NICENESS))


def anonymous(pid: int) -> int:
    """Return how many bytes of memory of its own process *pid* has in RAM."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:  # noqa: PTH123
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))


def guarded(system: System) -> dict[str, tuple[int, int]]:
    """Return thread and process id of everybody that no siege may end."""
    names = (*GUARDED, "innocent", "vault")
    rows = {row.name: (row.thread, row.pid) for row in system.kip.environments() if row.name in names}
    return {**rows, "kernel": (0, system.pid)}


def sizes(system: System) -> dict[str, int]:
    """Return the memory of the kernel, the nursery and each server, in bytes."""
    pids = {name: system.server(name).pid for name in GUARDED}
    return {
        name: anonymous(pid)
        for name, pid in {**pids, "kernel": system.pid, "nursery": system.nursery}.items()
    }


@contextmanager
def laid(system: System, siege: Siege) -> Iterator[list[int]]:
    """Have the programs of *siege* do what they do meanwhile; one that is ended early is not started again.

    Gives their process ids.
    """
    with ExitStack() as stack:
        besiegers = [
            stack.enter_context(
                system.start(
                    BESIEGER + siege.program,
                    FOREVER,
                    name=f"{siege.name}-{number}",
                    streams=siege.streams,
                    paged=siege.paged,
                )
            )
            for number in range(siege.programs)
        ]
        yield [row.pid for each in besiegers if (row := system.row(each.name)) is not None]
        for each in besiegers:
            end_family(system, each.name)
        for each in besiegers:
            each.finish()


def end_family(system: System, name: str) -> None:
    """End the program called *name* with all it started, and what it has yet to start, as an operator does."""
    with suppress(Trouble):  # nobody of it is left
        Ending(str(system.run_directory), name, 0, "end_family").wait()


def wait_for(seconds: float) -> None:
    """Let a siege go on for *seconds*."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        select.select((), (), (), left)


class Turns(NamedTuple):
    """A process's turns at the processor, in ns."""

    computed: int
    waited: int
    """While it was let run, and the host had others on its core."""


def turns(pid: int) -> Turns:
    """Return how long the threads of process *pid* have computed, and waited for a core."""
    rows = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return Turns(sum(int(row[0]) for row in rows), sum(int(row[1]) for row in rows))


def grown(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Return the processes that grew by more than a siege may make them."""
    sizes = {name: after[name] - before[name] for name in after}
    return [f"{name} grew by {size >> 20} MiB" for name, size in sizes.items() if size >= GROWTH]


def excess(fared: Fared, quiet: Fared) -> list[str]:
    """Return what of *fared* is not as it must be, beside *quiet*."""
    wrong = [f"a call failed: {text}" for text in fared.failed]
    for name, times in fared.times.items():
        bound = max(LONGEST_NS, TIMES * quiet.times[name].p99)
        if times.p99 > bound:
            wrong.append(
                f"{name}: p99 {times.p99 / 1e6:.1f} ms of {times.calls} calls, "
                f"{quiet.times[name].p99 / 1e6:.2f} in quiet times, a bare wake-up {fared.late / 1e6:.2f}"
            )
    return wrong
