"""The table of environments: their beginnings, their ends, and what remains of them."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hwmodel.machine import Exhausted
from kernel.abi.budget import Item, default_limits
from kernel.abi.errors import Fault, Refusal
from kernel.abi.events import Event, name_words
from kernel.abi.ids import FIRST_PROGRAM, ThreadId, thread_number
from kernel.abi.kip import FAMILY_SERIALS, PAGE_SIZE, Counter, EnvironmentState, Page
from kernel.abi.limits import MAX_ENVIRONMENTS, MAX_THREADS, RESERVED_ENVIRONMENTS
from kernel.abi.messages import Label
from kernel.abi.program import Back, Program, ProgramKind
from kernel.budget import Budget
from kernel.environment import Environment
from kernel.errors import Refused
from kernel.names import Names
from kernel.offers import withdraw_offers
from kernel.places import Places
from kernel.starts import Start, Starts, close, duplicates
from kernel.taking import Taking

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwmodel.machine import Body, Descriptor, Machine
    from kernel.exposure import Exposure
    from kernel.jobs import Jobs, Steps
    from kernel.processor import Processor
    from kernel.threads import Threads

_KILLED = -9
"""Exit status of an environment that the kernel ended."""


class Environments:
    """All environments, by number: the rows of the exposed table."""

    def __init__(
        self,
        machine: "Machine",
        exposure: "Exposure",
        jobs: "Jobs",
        threads: "Threads",
        processors: "Sequence[Processor]",
    ) -> None:
        """Start with none."""
        self._machine, self._exposure, self._jobs = machine, exposure, jobs
        self._threads, self._processors = threads, processors
        self._rows: dict[int, Environment] = {}
        self.names = Names(exposure.kip, self._rows.values())
        self.places = Places(processors, self._rows.values())
        self._free = deque(range(MAX_ENVIRONMENTS))
        self._by_body: dict[Body, Environment] = {}
        self._leaving: set[Environment] = set()
        """Rows that are given up, but whose capabilities are not taken yet."""
        self.closed = False
        """The system is ending: no new environment is let in."""
        self.on_ended: Callable[[Environment], object] = bool
        """Called when an environment ended; by it the boot loader watches the root task."""

    def __iter__(self) -> Iterator[Environment]:
        """Iterate over a copy: environments may end meanwhile."""
        return iter(list(self._rows.values()))

    def of(self, body: "Body") -> Environment | None:
        """Return the environment whose body *body* is."""
        return self._by_body.get(body)

    def named(self, name: str) -> Environment | None:
        """Return the living environment called *name*."""
        return next((e for e in self._rows.values() if e.alive and e.name == name), None)

    def create(
        self,
        name: str,
        program: Program,
        descriptors: "list[Descriptor]",
        *,
        cpu: int = -1,
        may_bind: frozenset[int] = frozenset(),
        number: int | None = None,
        keeps: bool = False,
        budget: Budget | None = None,
    ) -> Environment:
        """Create an environment and start its program; *number* asks for a thread number.

        Without a *budget* it has that of a server. Raises Refused, and Exhausted: then nothing has changed.
        """
        self._machine.spare()
        environment = self.enter(name, cpu, may_bind, number, budget=budget)
        try:
            if keeps:
                environment.keep(Starts([Start(program.roles, duplicates(descriptors))]))
            self.launch(environment, program, descriptors)
        except Exhausted:
            self._take_back(environment, None)
            raise
        environment.keeps = keeps
        self.introduce(environment)
        return environment

    def succeed(
        self,
        dead: Environment,
        program: Program,
        descriptors: "Sequence[Descriptor]" = (),
        back: int = Back.SAME,
    ) -> Environment:
        """Start the successor of *dead*: its thread with the next version, its capabilities, its descriptors.

        Other *descriptors*, or those of an earlier start (*back*), replace them; *descriptors* stay the caller's.

        Raises Refused and Exhausted: then *dead* may still be succeeded.
        """
        starts, heir, again = dead.starts.after(program.roles, descriptors, back), None, []
        try:
            again = duplicates(starts.last.descriptors)
            heir = self._enter_heir(dead)
            self.launch(heir, program.having(starts.last.roles), again)
        except (Exhausted, Refused):
            close(again)
            starts.close(but=dead.starts)
            if heir is not None:
                self._take_back(heir, dead)
            raise
        self._inherit(dead, heir)
        heir.keep(starts)
        self.introduce(heir)
        return heir

    def _enter_heir(self, dead: Environment) -> Environment:
        thread, budget = self._threads.allocate(thread_number(dead.thread)), dead.budget
        cpu = self.places.near(dead.cpu)
        return self.enter(dead.name, cpu, dead.may_bind, None, thread, budget=budget, reserved=True)

    def _take_back(self, environment: Environment, predecessor: Environment | None) -> None:
        """Forget *environment*, for which the host had no body."""
        self._threads.take_back(environment.first, predecessor.first if predecessor else None)
        if predecessor is not None:
            environment.budget = self._no_budget(environment)
            predecessor.budget.show_in(self._exposure.kip.budget_row(predecessor.number))
        environment.keep(Starts())
        self._close_page(environment)
        self._erase(environment)

    def _no_budget(self, of: Environment) -> Budget:
        """Return an empty budget for *of*, whose own has gone to another."""
        budget = Budget(of.name, [0] * len(Item))
        budget.show_in(self._exposure.kip.budget_row(of.number))
        return budget

    def _inherit(self, dead: Environment, heir: Environment) -> None:
        """Give *heir* what *dead* left."""
        dead.budget = self._no_budget(dead)
        heir.redirector, heir.utcb_area, heir.kip_area = dead.redirector, dead.utcb_area, dead.kip_area
        heir.family = dead.family
        heir.keeps, heir.table, heir.frames = True, dead.table, dead.frames
        heir.table.holder = heir
        heir.starts, dead.starts = dead.starts, Starts()
        dead.keeps, dead.frames, dead.table = False, 0, type(dead.table)(dead)
        self._jobs.begin(self._show_inheritance(heir))
        self._exposure.kip.show(dead)
        self._exposure.count(Counter.RESTARTS)

    def _show_inheritance(self, heir: Environment) -> "Steps[None]":
        """Show what *heir* inherited as its own."""
        for capability in list(heir.table):
            if not capability.taken:
                capability.resource.inherited(heir)
            yield None

    def adopt(
        self,
        body: "Body",
        name: str,
        number: int | None,
        may_bind: frozenset[int],
        budget: Budget | None = None,
    ) -> Environment:
        """Make an environment of a body that attached by itself; it succeeds a dead one of that name that keeps."""
        dead = next((e for e in self._rows.values() if e.keeps and not e.alive and e.name == name), None)
        if dead is None:
            environment = self.enter(name, -1, may_bind, number, budget=budget)
        elif dead.over:
            environment = self._enter_heir(dead)
        else:
            raise Refused(Refusal.STILL_ALIVE, f"{name} is still ending: attach again")
        self._embody(environment, body)
        if dead is not None:
            self._inherit(dead, environment)
        self.introduce(environment)
        self.started(environment)
        if dead is not None:
            self._jobs.begin(self._pass_on(dead, environment))
        return environment

    def _pass_on(self, dead: Environment, heir: Environment) -> "Steps[None]":
        """Make the capabilities of those who watched *dead* lead to *heir*, of which they do not know."""
        while dead.watchers:
            watcher, _ = dead.watchers.popitem()
            watcher.lead_to(heir)
            heir.gained(watcher)
            self._exposure.tell(watcher.holder, Label.SUCCEEDED, (dead.thread, heir.thread))
            yield None
        self.review(dead)

    def enter(
        self,
        name: str,
        cpu: int,
        may_bind: frozenset[int],
        number: int | None,
        thread: ThreadId | None = None,
        *,
        budget: Budget | None = None,
        reserved: bool = False,
    ) -> Environment:
        """Take a row and a thread id, or *thread*, for a new environment. Raises Refused."""
        if self.closed:
            raise Refused(Refusal.ENDING, name)
        if cpu >= 0 and not reserved:
            self.places.check(cpu)
        if len(self._free) <= (0 if reserved else RESERVED_ENVIRONMENTS):
            raise Refused(Refusal.TOO_MANY_ENVIRONMENTS, f"{len(self._rows)} exist")
        if not reserved:
            self.names.check_free(name, system=number is not None)
        self._exposure.kip.check_room()
        if thread is None:
            self._threads.check_free(number)
        shared = self._machine.page(f"environment {name}", PAGE_SIZE)
        thread = thread if thread is not None else self._threads.allocate(number)
        budget = budget or Budget(name, default_limits(server=True))
        if budget.family is None:
            serial = self._exposure.kip.counter(Counter.ENVIRONMENTS_CREATED) % (FAMILY_SERIALS - 1) + 1
            first = thread_number(thread)
            budget.family = serial * MAX_THREADS + first if first >= FIRST_PROGRAM else 0
        environment = Environment(self._free.popleft(), name, thread, cpu, may_bind, budget, self.review)
        budget.show_in(self._exposure.kip.budget_row(environment.number))
        environment.shared = shared
        environment.page = environment.shared.buffer.cast("Q")
        self._rows[environment.number] = environment
        self._threads.enter(environment.first)
        return environment

    def launch(self, e: Environment, program: Program, descriptors: "list[Descriptor]") -> None:
        """Make a body for *e*; the descriptors are consumed. Raises Exhausted."""
        e.serves = program.kind == ProgramKind.SERVER
        launch, urgent = self._machine.launch, e.cpu < 0 and not e.budget.family
        self._embody(e, launch(e.number, e.name, program, list(descriptors), cpu=e.cpu, urgent=urgent))
        descriptors.clear()

    def _embody(self, environment: Environment, body: "Body") -> None:
        environment.body, environment.launched = body, True
        self._by_body[body] = environment

    def introduce(self, environment: Environment) -> None:
        """Make *environment* known to all; the first thread of a program is active at once."""
        exposure = self._exposure
        if environment.launched:
            self._threads.start(environment.first)
        exposure.kip.publish(environment.name, environment.thread)
        exposure.trace.record(Event.CREATED, environment.number, environment.thread)
        exposure.kip.show(environment)
        exposure.count(Counter.ENVIRONMENTS_CREATED)  # last: a reader who sees it sees the row

    def started(self, environment: Environment) -> None:
        """Note that the program runs."""
        environment.state = EnvironmentState.READY
        environment.started = self._machine.clock.now()
        self._exposure.trace.record(Event.STARTED, environment.number, environment.pid)
        self._exposure.kip.show(environment)
        if environment.cpu >= 0:
            self._processors[environment.cpu].admit(environment)

    def fault(self, environment: Environment, fault: Fault, detail: str) -> None:
        """End *environment* because it broke the contract."""
        if environment.fault or not environment.alive:
            return
        environment.fault, environment.detail = fault, detail
        self._exposure.kip.show(environment)
        self._exposure.count(Counter.FAULTS)
        self._exposure.trace.record(Event.FAULT, environment.number, fault)
        self._exposure.log(f"{environment.name}: fault: {fault.text}: {detail}")
        self.kill(environment)

    def kill(self, environment: Environment) -> None:
        """End *environment* at once. Of one that attached by itself the machine tells no end."""
        if not environment.launched:
            self.end(environment, _KILLED)
            return
        environment.body.kill()
        if not environment.body.owned:
            clock = self._machine.clock
            clock.alarm(clock.now(), lambda: self.end(environment, _KILLED))

    def end(self, environment: Environment, status: int) -> None:
        """Let *environment* be dead at once; everything it had returns step by step."""
        if not environment.alive:
            return
        environment.state, environment.status = EnvironmentState.DEAD, status
        self._exposure.kip.show(environment)
        if environment.launched:
            del self._by_body[environment.body]
        if environment.cpu >= 0:
            self._processors[environment.cpu].remove(environment)
        for processor in self._processors:
            processor.scheduler_gone(environment)
        self._raise_exception(environment)
        for thread in environment.threads.values():
            thread.active = thread.living = False
        for other in self:
            other.budget.void(environment)
        environment.budget.void()
        environment.budget.release(Item.UPCALLS, len(environment.backlog))
        environment.backlog.clear()
        if environment.launched:
            environment.body.discard()
        self._jobs.begin(self._end(environment))

    def _end(self, environment: Environment) -> "Steps[None]":
        """Return everything; then announce the end."""
        exposure = self._exposure
        for thread in list(environment.threads.values()):
            yield from self._threads.end(thread)
        yield from withdraw_offers(exposure, environment)
        if environment.launched and environment.body.owned:  # others only left the system, and may go on
            yield from _forget_mappings(environment)
        if not environment.keeps:
            yield from self._strip(environment)
        self._close_page(environment)
        exposure.count(Counter.ENVIRONMENTS_ENDED)
        exposure.trace.record(Event.ENDED, environment.number, environment.status + 256, environment.fault)
        for at, a, b in name_words(environment.name):
            exposure.trace.record(Event.NAME, environment.number, a, b, at)
        yield from self._announce(environment)

    def _raise_exception(self, e: Environment) -> None:
        """Tell the thread that *e* named of a bad end of it, as X.2 tells an exception.

        The deletion of its first thread is none: its deleter knows.
        The program writes the thread into its page: a thread it may not send to counts as none.
        """
        if e.ending or (e.status >= 0 and not e.fault):
            return
        try:
            handler = self._threads.find(e.page[Page.EXCEPTION_HANDLER])
            e.check_may_bind(handler.environment)
        except Refused:
            return
        words = (0, 0, 0, max(-e.status, 0), int(e.fault), e.first.utcb)
        self._exposure.tell(handler.environment, Label.EXCEPTION, words, sender=e.thread, thread=handler.id)

    def _strip(self, environment: Environment) -> "Steps[None]":
        """Take every capability, with what was derived from it."""
        for capability in environment.table:
            yield from Taking(self._exposure, capability, environment).steps(itself=True, forced=True)
            yield None
        environment.keep(Starts())
        self._threads.release(environment.first)

    def _close_page(self, environment: Environment) -> None:
        environment.page.release()
        environment.shared.close()

    def _announce(self, e: Environment) -> "Steps[None]":
        self._exposure.kip.show(e)
        for watcher in list(e.watchers):
            if not watcher.taken:
                words = (e.thread, e.number, e.status & 0xFFFF, e.fault)
                self._exposure.tell(watcher.holder, Label.DEATH, words, e.detail)
            yield None
        e.over = True
        self.on_ended(e)
        e.ended.open()
        if not e.held:
            self.conclude(e)

    def conclude(self, e: Environment) -> None:
        """Note that the end of *e* is complete, and that its successor, if any, is there."""
        for watched in [
            c.resource for c in e.table if isinstance(c.resource, Environment) and c.resource.over
        ]:
            self.review(watched)
        self.review(e)

    def review(self, ended: Environment) -> None:
        """Forget *ended*, and others like it, if nobody alive can ask how it ended, or succeed it.

        One that left its capabilities to a successor may be watched by a dead one, even by itself.
        """
        group, seen = [ended], {ended}
        for each in group:
            if each.held or not each.over:
                return
            for watcher in each.watchers:
                holder = self._rows[watcher.holder.number]
                if holder not in seen:
                    seen.add(holder)
                    group.append(holder)
        for each in group:
            self.forget(each)

    def forget(self, environment: Environment) -> None:
        """Free the row of *environment*; nobody will ask about its end any more.

        Its capabilities, taken now, may be the last that watched others, which then follow.
        """
        if environment.keeps:
            environment.keeps = False
            self._leaving.add(environment)
            self._jobs.add(self._strip_and_erase(environment))
        elif environment not in self._leaving:
            self._erase(environment)

    def _strip_and_erase(self, environment: Environment) -> "Steps[None]":
        yield from self._strip(environment)
        self._leaving.remove(environment)
        self._erase(environment)

    def _erase(self, environment: Environment) -> None:
        if self._rows.pop(environment.number, None) is not None:
            environment.budget.end()
            self._exposure.kip.clear(environment.number)
            self._free.append(environment.number)
            # They refer to one another; nothing looks for cycles among what has lived long (hwmodel.real.process).
            environment.first = environment.first.record()
            del environment.table.holder


def _forget_mappings(dead: Environment) -> "Steps[None]":
    """Forget what its host process had mapped, which ended with the process."""
    for capability in list(dead.table):
        capability.mapped = False
        yield None
