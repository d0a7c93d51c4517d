"""`exo bench sched`: what the processor's division is worth, beside what the host does with the same loops.

The subjects are loops under a plan, on the plan's host core; what they had is the host's own account of CPU time.

- `shares`: three loops of weights 3, 2 and 1 by stride: how far each is from its part in the end, and at the worst
  moment. Beside it the host's scheduler, by `nice` and, where it has one that may be used, by a cgroup's weights;
  and what is off on average, at all looks, in slices no longer than the host's own, as these turned out to be.
- `fair`, `lottery`: the same for the other proportional policies, the second against what chance allows.
- `given`, `given-1ms`: how much of the core two loops have together, in slices of 10 ms and of 1 ms, beside two
  processes that a third stops and continues in turn.
- `switch`: from the last step of the one to the first of the other.
- `overhead`: CPU time of kernel and scheduler for each switch, with 2 to 200 environments: all sleep but two.
- `hostile`: what two loops lose when the third under the plan is no loop but a program that tries to have more.
- `deadlines`: late jobs of three programs that, with one that computes without end, have 90 % of the core reserved:
  by the policy `edf`, and by the kernel. The same under the host's real-time class says what is late by the host.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec

from bench.deadlines import CAST, by_fifo, told
from bench.errors import BenchError
from bench.facts import Facts
from bench.harness import Worker, import_path, reference
from bench.hostile import KINDS, ORDINARY, TELLS, lost
from bench.hostshares import by_cgroup, by_nice
from bench.system import System
from hwmodel.real.activity import cpu_time
from kernel.abi.kip import EnvironmentState, Head
from kernel.abi.limits import MIN_SLICE_US
from libexo.kip import EnvironmentRow

SECOND = 1_000_000_000
MS = 1_000_000
WINDOW = 5 * SECOND
"""Of `shares` and its like."""
SHORT = 2 * SECOND
HOSTILE = 3 * SECOND
"""Of `hostile`, for each window."""
LONG = 10 * SECOND
"""Of `deadlines`."""
LOOK = 50 * MS
"""From one look at the accounts to the next."""
QUANTUM = 10 * MS
KEYS = ("shares", "fair", "lottery", "given", "given-1ms", "switch", "overhead", "hostile", "deadlines")
COUNTS = (2, 50, 100, 200)
ROUNDS = 5
"""Of a second each, of `overhead`."""
PATIENCE = 60.0
"""Seconds until all sleep that do nothing."""
PARTS = (3, 2, 1)
FAIR = tuple(range(1, 9))


@dataclass(frozen=True)
class Finding:
    """A figure, with what it is beside and what is good enough."""

    key: str
    title: str
    value: float
    unit: str
    goal: float | None = None
    """The most that is good enough."""
    beside: Mapping[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None without one."""
        return None if self.goal is None else self.value <= self.goal


@dataclass(frozen=True)
class Shares:
    """What loops had, against their parts of all they had together. In percent of that, and in ns."""

    error: float
    """Of the one that is the farthest off in the end."""
    swing: float
    """How far one was from its part at the worst moment, half of the way from least to most."""
    typical: float
    """How far the one farthest from it was from its own middle, on average of all looks."""
    slice: float
    """How long one had the core at a time, on average, by the host's account."""


def measured(pids: Sequence[int], parts: Sequence[int], window: int) -> Shares:
    """Look at the accounts of *pids*, which compute, for *window* ns; compare them with *parts*."""
    begun, turns = [cpu_time(pid) for pid in pids], timeslices(pids)
    until = time.monotonic_ns() + window
    whole = sum(parts)
    off: list[tuple[float, ...]] = []
    while True:
        had = [cpu_time(pid) - before for pid, before in zip(pids, begun, strict=True)]
        total = sum(had)
        off.append(tuple(each - total * part / whole for each, part in zip(had, parts, strict=True)))
        if time.monotonic_ns() >= until:
            break
        time.sleep(LOOK / SECOND)
    swing = max((max(each) - min(each)) / 2 for each in zip(*off, strict=True))
    middles = [statistics.fmean(each) for each in zip(*off, strict=True)]  # the first look was at any moment
    typical = statistics.fmean(
        max(abs(ns - middle) for ns, middle in zip(each, middles, strict=True)) for each in off
    )
    length = total / max(timeslices(pids) - turns, 1)
    return Shares(100 * max(map(abs, off[-1])) / total, swing, typical, length)


def timeslices(pids: Sequence[int]) -> int:
    """Return how often the first threads of *pids* were given a core: the third of /proc/PID/schedstat."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[2]) for pid in pids)


class Bench:
    """A running system, with loops under its plan, whose policy is put back in the end."""

    def __init__(self, system: System, opened: contextlib.ExitStack) -> None:
        """Attach to *system*, until *opened* is closed."""
        self._system, self._opened = system, opened
        plans = system.kip.plans()
        if not plans:
            raise BenchError("this system has no processor under a plan: [machine] cpus")
        self.core = plans[0].core
        shown = msgspec.json.decode(self._exo("sched", "--json"), type=list[dict[str, object]])
        opened.callback(self._exo, "sched", "use", *str(shown[0]["policy"] or "round-robin").split(" "))
        self._started = 0

    def _exo(self, *words: str) -> bytes:
        """Give a command to the system, as an operator does; return what it prints."""
        command = [sys.executable, "-m", "exo", "--run", str(self._system.run), *words]
        environ = {**os.environ, "PYTHONPATH": import_path()}
        done = subprocess.run(command, env=environ, capture_output=True, check=False)
        if done.returncode:
            raise BenchError(done.stderr.decode(errors="replace").strip())
        return done.stdout

    def use(self, *words: str) -> None:
        """Put a policy in force."""
        self._exo("sched", "use", *words)

    @contextlib.contextmanager
    def loops(self, weights: Sequence[int]) -> Iterator[list[Worker]]:
        """Start loops of *weights*, which compute only when they are told to."""
        with contextlib.closing(System(self._system.run, booted=False)) as own:
            yield [own.worker("bench.programs.looper", self._name(), share=weight) for weight in weights]

    @contextlib.contextmanager
    def periodic(self, *, reserved: bool) -> Iterator[dict[str, Worker]]:
        """Start the programs of CAST, with what each has *reserved* by the kernel, or else says to the policy."""
        with contextlib.closing(System(self._system.run, booted=False)) as own:
            workers = {}
            for each, (_, runtime, period) in CAST.items():
                name = self._name()
                workers[each] = own.worker("bench.programs.periodic", name, share=1)
                if reserved:
                    self._exo("sched", "reserve", name, f"{runtime}ms/{period}ms")
                else:
                    self._exo("sched", "set", name, f"runtime={runtime}ms", f"period={period}ms")
            yield workers

    @contextlib.contextmanager
    def running(self, command: Sequence[str]) -> Iterator[None]:
        """Have *command* run under the plan."""
        name = self._name()
        self._exo("run", "-d", "--name", name, "--share", "1", "--", *command)
        try:
            yield
        finally:
            self._exo("kill", "--end", name)

    def _name(self) -> str:
        self._started += 1
        return f"bench-{os.getpid()}-{self._started}"

    def overhead(self) -> tuple[int, int]:
        """Return the CPU time of kernel and scheduler, in ns, and the count of switches."""
        kip = self._system.kip
        scheduler = next(row.pid for row in kip.environments() if row.name == "scheduler")
        spent = cpu_time(kip.head(Head.KERNEL_PID)) + cpu_time(scheduler)
        return spent, kip.counters()["switches"]

    @contextlib.contextmanager
    def sleepers(self, count: int) -> Iterator[None]:
        """Have so many environments that sleep under the plan."""
        with contextlib.closing(System(self._system.run, booted=False)) as own:
            for _ in range(count):
                own.start("bench.programs.idle", self._name(), share=1)
            self._settle()
            yield

    def _settle(self) -> None:
        """Wait until all of ours sleep. Of one that is alone on its processor nobody knows. Raises BenchError."""
        deadline = time.monotonic() + PATIENCE
        while sum(row.name.startswith(f"bench-{os.getpid()}-") for row in self._awake()) > 1:
            if time.monotonic() > deadline:
                raise BenchError("programs that do nothing do not fall asleep")
            time.sleep(LOOK / SECOND)

    def _awake(self) -> list[EnvironmentRow]:
        none = (EnvironmentState.BLOCKED, EnvironmentState.DEAD)
        return [row for row in self._system.kip.environments() if row.cpu >= 0 and row.state not in none]


def findings(system: System, keys: Sequence[str]) -> Iterator[Finding]:
    """Yield what is found of each of *keys*."""
    with contextlib.ExitStack() as opened:
        bench = Bench(system, opened)
        for key in keys:
            yield from FINDERS[key](bench)


def _proportional(bench: Bench, parts: Sequence[int], window: int = WINDOW) -> Shares:
    with bench.loops(parts) as loops:
        return _computing(loops, lambda: measured([each.pid for each in loops], parts, window), window)


def _computing(loops: Sequence[Worker], look: Callable[[], Shares], window: int) -> Shares:
    """Do *look* while *loops* compute."""
    for each in loops:
        each.tell("stretches", window + SECOND)
    time.sleep(0.5)  # they are all awake, and the policy has seen that
    try:
        return look()
    finally:
        for each in loops:
            each.answer()


def _shares(bench: Bench) -> Iterator[Finding]:
    bench.use("stride")
    ours = _proportional(bench, PARTS)
    theirs = {
        name: found
        for name, way in (("nice", by_nice), ("cgroup weights", by_cgroup))
        if (found := way(PARTS, bench.core, lambda pids: measured(pids, PARTS, WINDOW))) is not None
    }
    title = "stride 3:2:1, the farthest from its part after 5 s"
    beside = {name: found.error for name, found in theirs.items()}
    yield Finding("shares", title, ours.error, "%", 0.5, beside)
    yield Finding("shares", "stride 3:2:1, at the worst moment, in quanta", ours.swing / QUANTUM, "", 1)
    for name, found in theirs.items():
        yield from _beside(bench, name, found)


def _beside(bench: Bench, name: str, theirs: Shares) -> Iterator[Finding]:
    """Compare stride, in quanta no longer than the host's slices were, with *theirs*."""
    quantum = int(max(min(theirs.slice, QUANTUM), MIN_SLICE_US * 1000))
    bench.use("stride", f"quantum={quantum}")
    ours = _proportional(bench, PARTS)
    title = f"stride in quanta of {quantum / MS:.2g} ms, off on average, in times of {name}"
    told = {f"{name}, ms": theirs.typical / MS, "stride, ms": ours.typical / MS}
    slices = {f"a slice of {name}, ms": theirs.slice / MS, "of stride, ms": ours.slice / MS}
    yield Finding("shares", title, ours.typical / theirs.typical, "", 0.5, told | slices)


def _fair(bench: Bench) -> Iterator[Finding]:
    bench.use("fair")
    yield Finding("fair", "fair, weights 1 to 8, the farthest off", _proportional(bench, FAIR).error, "%", 2)


def _lottery(bench: Bench) -> Iterator[Finding]:
    bench.use("lottery")
    found = _proportional(bench, PARTS)
    draws = WINDOW / QUANTUM
    bound = 4 * 100 * max((part / 6 * (1 - part / 6) / draws) ** 0.5 for part in PARTS)
    yield Finding("lottery", "lottery 3:2:1, the farthest off (goal: 4 sigma)", found.error, "%", bound)


def _taken_by_two(bench: Bench, quantum: int) -> list[list[int]]:
    bench.use("round-robin", f"quantum={quantum}")
    with bench.loops((1, 1)) as loops:
        for each in loops:
            each.tell("stretches", SHORT)
        return [each.answer() for each in loops]


def _alternated(bench: Bench, quantum: int) -> list[list[int]]:
    with reference("bench.references.alternation", str(quantum // 1000), cores=(bench.core,)) as bare:
        first, *rest = bare.sample("stretches", SHORT)
        return [rest[:first], rest[first:]]


def had(stretches: Sequence[Sequence[int]]) -> float:
    """Return how much of the time in which both computed either of them had, in percent."""
    begun, ended = max(each[0] for each in stretches), min(each[-1] for each in stretches)
    within = sum(
        max(min(end, ended) - max(begin, begun), 0)
        for each in stretches
        for begin, end in zip(each[::2], each[1::2], strict=True)
    )
    return 100 * within / (ended - begun)


def gaps(stretches: Sequence[Sequence[int]]) -> list[int]:
    """Return the times from the end of a stretch of one to the beginning of the other's next, in ns."""
    of = sorted(
        (begin, end, who)
        for who, each in enumerate(stretches)
        for begin, end in zip(each[::2], each[1::2], strict=True)
    )
    return [after[0] - before[1] for before, after in pairwise(of) if before[2] != after[2]]


def _given(bench: Bench, key: str, quantum: int, least: float) -> Iterator[Finding]:
    ours, bare = had(_taken_by_two(bench, quantum)), had(_alternated(bench, quantum))
    title = f"what two loops do not get of the core, in slices of {quantum // MS} ms"
    goal = 100 - least if quantum == QUANTUM else max(100 - least, 100 - bare + 2)
    yield Finding(key, title, 100 - ours, "%", goal, {"bare alternation": 100 - bare})


def _switch(bench: Bench) -> Iterator[Finding]:
    ours = statistics.median(gaps(_taken_by_two(bench, QUANTUM)))
    bare = statistics.median(gaps(_alternated(bench, QUANTUM)))
    yield Finding(
        "switch", "a switch, p50", ours / 1000, "µs", 1.5 * bare / 1000, {"bare alternation": bare / 1000}
    )


def _overhead(bench: Bench) -> Iterator[Finding]:
    bench.use("round-robin")
    few, many = min(COUNTS), max(COUNTS)
    costs = {count: _cost(bench, count) for count in COUNTS}
    again = _cost(bench, few)  # the host's load may have changed since
    title = f"kernel and scheduler for a switch, {many} environments, in times of {few}"
    told = {f"{count} environments, µs": cost for count, cost in costs.items()} | {f"{few} again, µs": again}
    yield Finding("overhead", title, 2 * costs[many] / (costs[few] + again), "", 1.25, told)


def _cost(bench: Bench, count: int) -> float:
    """Return the CPU time of kernel and scheduler for a switch, in µs, when the host disturbs the least."""
    found = []
    with bench.sleepers(count - 2), bench.loops((1, 1)) as loops:
        for each in loops:
            each.tell("stretches", (ROUNDS + 1) * SECOND)
        time.sleep(0.5)
        for _ in range(ROUNDS):
            before, switches = bench.overhead()
            time.sleep(1)
            after, more = bench.overhead()
            found.append((after - before) / max(more - switches, 1) / 1000)
        for each in loops:
            each.answer()
    return min(found)


def _hostile(bench: Bench) -> Iterator[Finding]:
    bench.use("stride")
    with bench.loops((1, 1)) as loops:
        before = beside(bench, loops, ORDINARY)
        for kind, command in KINDS.items():
            had, after = beside(bench, loops, command), beside(bench, loops, ORDINARY)
            title = f"lost beside one that {TELLS[kind]}"
            told = {"of their part of the core, %": 100 * (before + after) / 2}
            yield Finding("hostile", title, lost(had, before, after), "%", 1, told)
            before = after


def beside(bench: Bench, loops: Sequence[Worker], command: Sequence[str]) -> float:
    """Return which part of the core *loops* have beside what runs by *command*."""
    pids = [each.pid for each in loops]
    with bench.running(command):
        for each in loops:
            each.tell("stretches", HOSTILE + 3 * SECOND // 2)
        time.sleep(1)  # it has started
        begun, before = time.monotonic_ns(), sum(map(cpu_time, pids))
        time.sleep(HOSTILE / SECOND)
        had = (sum(map(cpu_time, pids)) - before) / (time.monotonic_ns() - begun)
        for each in loops:
            each.answer()
    return had


def _deadlines(bench: Bench) -> Iterator[Finding]:
    """Whoever comes without a reservation divides the rest: two loops are there as well."""
    host = by_fifo(bench.core, LONG)
    theirs = {"by the host's real-time class": host.missed, "latest, ms": host.latest} if host else {}
    for way, reserved in (("edf", False), ("round-robin", True)):
        bench.use(way)
        with bench.loops((1, 1)) as loops, bench.periodic(reserved=reserved) as cast:
            for each in loops:
                each.tell("stretches", LONG + SECOND)
            time.sleep(0.5)
            ours = told(cast, LONG)
            for each in loops:
                each.answer()
        title = f"deadlines missed, 90 % reserved by {'the kernel' if reserved else way}"
        counts = {"jobs": ours.done, "the latest, ms": ours.latest}
        yield Finding("deadlines", title, ours.missed, "", host.missed if host else 0, counts | theirs)


FINDERS: Mapping[str, Callable[[Bench], Iterator[Finding]]] = {
    "shares": _shares,
    "fair": _fair,
    "lottery": _lottery,
    "given": lambda bench: _given(bench, "given", QUANTUM, 97),
    "given-1ms": lambda bench: _given(bench, "given-1ms", MS, 92),
    "switch": _switch,
    "overhead": _overhead,
    "hostile": _hostile,
    "deadlines": _deadlines,
}


def text(found: Finding) -> str:
    """Return one as a line."""
    beside = "".join(f"; {name} {value:.3g}" for name, value in found.beside.items())
    goal = (
        ""
        if found.goal is None
        else f"  {'PASS' if found.met else 'over the goal'} (goal: at most {found.goal:.3g})"
    )
    return f"{found.title}: {found.value:.3g} {found.unit}{beside}{goal}".replace(" ;", ";")


def line(found: Finding, host: Facts) -> str:
    """Return one as a JSON object."""
    made = {**msgspec.structs.asdict(host), "load": os.getloadavg()[0]}
    shown = {
        name: getattr(found, name) for name in ("key", "title", "value", "unit", "goal", "beside", "met")
    }
    return msgspec.json.encode({**shown, "host": made}).decode()
