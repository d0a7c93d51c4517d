"""Predicates: what threads sleep for. The kernel looks, so that who writes the words makes no trap for it.

*When.* A time has an alarm. Words are looked at every LOOK: what counts is what stands there, not that it was
written. A look takes one clause of each family after another, until it has had all, or has done its WORK. So who
waits for much waits longer, and nobody else does.

*What* may be read is decided at each look. A clause with a word that may not be read is impossible, for good.
"""

import operator
from collections import deque
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.events import Event
from kernel.abi.ids import KERNEL_PREDICATES, thread_id
from kernel.abi.messages import Label
from kernel.abi.predicates import Outcome, Source, Term
from kernel.errors import Refused
from kernel.frames import Extent

if TYPE_CHECKING:
    from hwmodel.machine import Alarm, Machine
    from kernel.environment import Environment, Thread
    from kernel.exposure import Exposure
    from kernel.jobs import Jobs, Steps

LOOK = 2_000_000
"""Nanoseconds between looks: as within `processor.TICK`, the kernel notices at the latest that a program woke."""
WORK = 64
"""Clauses and words of one look: less than 8 % of a core on a busy host, whatever is asked."""
_CONSTANT, _CLOCK, _INTERFACE, _PAGE = (int(source) for source in Source)
_COMPARE = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)


class Clause:
    """Clause *index* of predicate *number* of *thread*."""

    def __init__(self, thread: "Thread", number: int, index: int, terms: tuple[Term, ...]) -> None:
        """Make it; nobody looks at it yet."""
        self.thread, self.number, self.index, self.terms = thread, number, index, terms
        self.family = thread.environment.budget.family or -1 - thread.environment.number
        self.alarm: Alarm | None = None


class Predicates:
    """All that threads wait for."""

    def __init__(self, machine: "Machine", exposure: "Exposure", jobs: "Jobs") -> None:
        """Start with none."""
        self._clock, self._exposure, self._jobs = machine.clock, exposure, jobs
        self._waits: dict[Thread, dict[int, list[Clause]]] = {}
        """By thread and number: the clauses that are possible."""
        self._polled: dict[int, dict[Clause, None]] = {}
        """By family: those that have words. What was looked at last is last."""
        self._looks = False
        self.work = 0
        """Clauses looked at, and words read, since boot."""

    def wait(self, thread: "Thread", number: int, clauses: tuple[tuple[Term, ...], ...]) -> "Steps[int]":
        """Have *thread* wait for one of *clauses*, if none is true. Raises Refused: then it waits as before."""
        space, found = thread.environment, int(Outcome.WAITS)
        for index, terms in enumerate(clauses):
            if min([self._holds(space, term) for term in terms]):  # each is checked, whatever the others say
                found = min(found, index)
            yield None
            if not thread.living or thread.environment is not space:
                return Outcome.NONE
        self.cancel(thread, number)
        if found == Outcome.WAITS:
            space.budget.check(Item.UPCALLS)
            space.budget.charge(Item.PREDICATES)
            space.budget.hold(Item.UPCALLS)  # its message will find room
            made = [Clause(thread, number, index, terms) for index, terms in enumerate(clauses)]
            self._waits.setdefault(thread, {})[number] = made
            for clause in made:
                times = [term.since for term in clause.terms]
                if at := max(times):
                    clause.alarm = self._clock.alarm(at, partial(self._look_at, clause))
                if not all(times):
                    self._polled.setdefault(clause.family, {})[clause] = None
            if not self._looks:
                self._arm()
        return found

    def cancel(self, thread: "Thread", number: int) -> int:
        """Forget predicate *number* of *thread*; return NONE if there was none, else WAITS."""
        waits = self._waits.get(thread, {})
        if number not in waits:
            return Outcome.NONE
        for clause in waits.pop(number):
            self._drop(clause)
        if not waits:
            del self._waits[thread]
        for item in (Item.PREDICATES, Item.UPCALLS):
            thread.environment.budget.release(item)
        return Outcome.WAITS

    def release(self, thread: "Thread") -> None:
        """Forget all of *thread*, which is gone."""
        for number in list(self._waits.get(thread, ())):
            self.cancel(thread, number)

    def _drop(self, clause: Clause) -> None:
        if clause.alarm is not None:
            clause.alarm.cancel()
        if clause in (clauses := self._polled.get(clause.family, {})):
            del clauses[clause]
            if not clauses:
                del self._polled[clause.family]

    def _arm(self) -> None:
        self._looks = bool(self._polled)
        if self._looks:
            self._clock.alarm(self._clock.now() + LOOK, self._begin)

    def _begin(self) -> None:
        self._jobs.begin(self._look(), self._arm)

    def _look(self) -> "Steps[None]":
        turns = deque(deque(islice(clauses, WORK)) for clauses in self._polled.values())
        end = self.work + WORK
        while turns and self.work < end:
            turn = turns.popleft()
            clause = turn.popleft()
            if turn:
                turns.append(turn)
            if clause in (clauses := self._polled.get(clause.family, {})):
                self._polled[clause.family] = self._polled.pop(clause.family)
                clauses[clause] = clauses.pop(clause)
                self._look_at(clause)
                yield None

    def _look_at(self, clause: Clause) -> None:
        """Tell the thread if *clause* is true, or was the last that was possible."""
        self.work += 1
        thread, number, found = clause.thread, clause.number, clause.index
        space, left = thread.environment, self._waits[thread][number]
        try:
            if not all(self._holds(space, term) for term in clause.terms):
                return
        except Refused:
            self._drop(clause)
            left.remove(clause)
            if left:
                return
            found = Outcome.IMPOSSIBLE
        self.cancel(thread, number)
        self._exposure.trace.record(Event.WOKEN, space.number, found, number)
        sender = thread_id(KERNEL_PREDICATES, number)
        self._exposure.tell(space, Label.WOKEN, (found,), sender=sender, thread=thread.id)

    def _holds(self, space: "Environment", term: Term) -> bool:
        one, other = self._value(space, term.source, term.at), self._value(space, term.other, term.than)
        return one is not None and other is not None and bool(_COMPARE[term.operator](one, other))

    def _value(self, space: "Environment", source: int, at: int) -> int | None:
        """Return a value; None: its memory is on the move. Raises Refused if *space* may not read it."""
        if source in (_CONSTANT, _CLOCK):
            return at if source == _CONSTANT else self._clock.now()
        self.work += 1
        if source == _INTERFACE and at < self._exposure.kip.size // 8:
            return self._exposure.kip.head(at)
        if source == _PAGE and at < space.page.nbytes // 8:
            return space.page[at]
        capability = space.table.lookup(source)
        extent = capability.resource
        if not isinstance(extent, Extent) or extent.resident >= 0:
            raise Refused(Refusal.WRONG_KIND, f"{extent!r} is no extent, or a paged one")
        return extent.word(capability, at)
