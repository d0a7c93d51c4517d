"""What the kernel's processor and the scheduler server stand on in a trial: each is the real one.

Rows of the kernel interface page are as old as on the real one: a program's CPU time is that of when the kernel
last showed it. Messages arrive at once, and the scheduler takes no time to answer.
"""

from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import msgspec

from kernel.abi.kip import Counter, EnvironmentState
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import Kind
from kernel.abi.traps import Inspection, Slice
from kernel.idleness import TICK
from kernel.processor import MAX_WAKE_POLL, WAKE_POLL, Processor
from libexo.estate import Estate
from libexo.ipc.message import Message
from libexo.kip import EnvironmentRow, PlanView
from libexo.sched import Policy
from libexo.workload import Described, Done
from servers.scheduler.server import SchedulerServer
from servers.scheduler.settings import Said, Settings, State, check_share
from servers.scheduler.trial.machine import Body, Core, Happening, Ran

if TYPE_CHECKING:
    from hwmodel.machine import Machine
    from kernel.environment import Environment as Record
    from kernel.exposure import Exposure
    from libexo.environment import Environment
    from libexo.stub import Server

CPU = 0
HANDLE = 1
FIRST_THREAD = 1000


class Leaping(Processor):
    """A processor that leaves out looks that would find nothing, as nobody wakes or sleeps until then.

    It looks at the same times otherwise, so that all is as if it had looked each time.
    """

    def __init__(self, core: Core, bench: "Bench") -> None:
        """Run the bodies of *core*."""
        super().__init__(cast("Machine", core), cast("Exposure", bench), CPU, CPU)
        self._trial = core

    def _look(self) -> None:
        self._trial.users.clear()  # it sees all that they did until now
        super()._look()

    def _next_look(self) -> int:
        delay = super()._next_look()
        current = self._current
        body = cast("Body | None", current and current.environment.body)
        least = MAX_WAKE_POLL if body is None else WAKE_POLL if self._alone else TICK
        quiet = body is None or self._alone or self._trial.computes(body)
        if delay < least or not quiet or self._trial.used_by_others(body):
            return delay
        now = self._clock.now()
        stirs = (self._trial.next_stir(), self._trial.clock.next())
        nothing = min((at - now - 1 for at in stirs if at is not None), default=delay)
        if current is not None and not self._alone:
            nothing = min(nothing, self._rest(current), self._end - now)
        return max(nothing // least, 1) * least


class Program:
    """The kernel's record of a program, as far as a processor and the scheduler ask."""

    def __init__(self, number: int, described: Described, body: Body) -> None:
        """Be environment *number*."""
        self.number, self.name, self.body = number, described.name, body
        self.thread = FIRST_THREAD + number
        self.cpu = CPU
        self.state = EnvironmentState.READY
        self.page: dict[int, int] = defaultdict(int)
        self.first = SimpleNamespace(row=-1)
        """Its first thread, which waits for nobody's message."""
        self.row = self.as_row()

    def add(self, word: int) -> None:
        """Count in its page."""
        self.page[word] += 1

    def as_row(self) -> EnvironmentRow:
        """Return what the kernel interface page shows of it."""
        consumed = self.body.consumed()
        return EnvironmentRow(
            self.number, self.state, 0, 0, CPU, self.thread, self.number, consumed, 0, 0, 0, 0, self.name
        )


class Bench:
    """Shows what the processor shows, and carries messages to the scheduler and its plans back."""

    def __init__(self, core: Core) -> None:
        """Time is that of *core*."""
        self.core, self.clock = core, core.clock
        self.kip = self.host = self.sys = self.trace = self.views = self
        self.thread = SimpleNamespace(core=SimpleNamespace())
        self.words: Sequence[int] = ()
        self.programs: dict[int, Program] = {}
        """By thread."""
        self.counts: Counts[int] = Counts()
        self.log: Callable[[str], object] = lambda _line: None
        self.author = cast("Record", self)
        """Stands for the scheduler's environment."""
        self.number = -1
        self.processor: Leaping
        self.scheduler: SchedulerServer
        self._running = PlanView(CPU, -1, ())
        self.installed = 0
        """How many plans were."""

    # ---------------------------------------------------------------------------------- for the processor

    def show(self, program: Program) -> None:
        """Show it as it is now."""
        program.row = program.as_row()

    def show_plan(self, number: int, core: int, plan: object) -> None:
        """Show nobody."""

    def show_slice(self, program: Program, began: int, ends: int) -> None:
        """Show nobody: described programs do not look."""

    def show_running(
        self, _number: int, running: Program | None, interrupted: Program | None, begun: int
    ) -> None:
        """Show who has the processor, whose slice was interrupted, and how many of the plan have begun."""
        who = (-1 if each is None else each.number for each in (running, interrupted))
        self._running = PlanView(CPU, next(who), (), next(who), begun)

    def record(self, event: int, *words: int) -> None:
        """Record nothing: what bodies do is told by the core."""

    def count(self, counter: int, by: int = 1) -> None:
        """Count."""
        self.counts[counter] += by

    def tell(self, _to: object, label: int, words: tuple[int, ...]) -> None:
        """Have the scheduler hear it."""
        self.scheduler.kernel_message(0, Message(label, words))

    # ---------------------------------------------------------------------------------- for the scheduler

    def keep(self, programs: Sequence[Program], described: Sequence[Described]) -> None:
        """Make the estate, in which the scheduler finds what was said of *programs*."""
        settings, said = {}, {}
        for program, each in zip(programs, described, strict=True):
            settings[program.thread] = Settings(part=check_share(each.weight))
            said[program.thread] = Said(dict(each.parameters))
        state = msgspec.msgpack.encode(State(settings, said))
        self._estate = memoryview(bytearray(4 * len(state) + 8 * FRAME_SIZE))
        Estate(self._estate).store(state)

    def map(self, _handle: int) -> memoryview:
        """Return the estate."""
        return self._estate

    def environments(self) -> Iterator[EnvironmentRow]:
        """Yield the rows, as last shown."""
        return (each.row for each in self.programs.values())

    def plans(self) -> Sequence[PlanView]:
        """Return who has the processor, without the plan."""
        return [self._running]

    def processors_off(self) -> frozenset[int]:
        """Return that the processor is on."""
        return frozenset()

    def holdings(self, kind: Kind) -> Mapping[int, Inspection]:
        """Return the processor, and the estate."""
        held = kind in (Kind.CPU, Kind.EXTENT)
        return {HANDLE: Inspection(kind, 0, 0, CPU, 1, 0, 0, "", ())} if held else {}

    def plan(self, _cpu: int, slices: Sequence[Slice], how: int) -> None:
        """Install a plan."""
        self.installed += 1
        entries = [(self.programs[each.thread], each.microseconds) for each in slices]
        self.processor.install(self.author, cast("Sequence[tuple[Record, int]]", entries), how)

    def now(self) -> int:
        """Return the time."""
        return self.clock.now()

    def limited(self, does: Callable[[], object], _seconds: float) -> object:
        """Let policies take their time: it is not the trial's."""
        return does()

    def after(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call *callback* later."""
        self.clock.alarm(self.clock.now() + round(seconds * 1e9), lambda: (callback(), None)[1])


class Trial:
    """Programs under one policy, from the time 0 on."""

    def __init__(
        self,
        policy: Policy,
        programs: Sequence[Described],
        seed: int = 0,
        told: Callable[[Happening], object] = lambda _happening: None,
        ran: Callable[[Ran], object] | None = None,
    ) -> None:
        """Begin with *programs*, and tell each thing that happens, and who ran when. Raises ValueError."""
        self.done: list[Done] = []
        self.core = Core(told, self.done.append, ran)
        self._bench = bench = Bench(self.core)
        made = [self._make(number, each, seed) for number, each in enumerate(programs)]
        bench.keep(made, programs)
        bench.processor = Leaping(self.core, bench)
        bench.scheduler = SchedulerServer(cast("Environment", bench), policy)
        bench.scheduler.server = cast("Server", bench)
        for each in made:
            bench.programs[each.thread] = each
            bench.processor.admit(cast("Record", each))

    def _make(self, number: int, described: Described, seed: int) -> Program:
        return Program(number, described, self.core.add(described, seed))

    def run(self, nanoseconds: int) -> None:
        """Go on for so long."""
        self.core.run(self.core.clock.now() + nanoseconds)

    @property
    def refused(self) -> str:
        """Why the policy's last plan was refused, if it was."""
        return self._bench.scheduler.refused()

    @property
    def used(self) -> dict[str, int]:
        """CPU time of each, in ns."""
        return {each.name: each.consumed() for each in self.core.bodies}

    @property
    def counts(self) -> dict[str, int]:
        """Switches, plans, and what else the kernel counted."""
        return {"plans": self._bench.installed} | {
            Counter(each).name.lower(): count for each, count in self._bench.counts.items()
        }
