"""Why a program did not run: every moment of a window has one cause, found in its history.

What the kernel recorded is taken as it is: causes add up to the window, and "unknown" is one of them. CPU time is
the host's account, so a slice that lasts longer than it used the processor, and than it slept, was the host's
doing: something else had the core.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from kernel.abi.events import ANYBODY, LENT, Event
from kernel.abi.ids import KERNEL_PREDICATES
from kernel.abi.predicates import Outcome
from libexo.errors import NotFound
from libexo.trace.history import (
    RESERVED,
    STEP,
    History,
    Plans,
    Present,
    Span,
    State,
    Steps,
    Wait,
    clipped,
    overlap,
)
from libexo.trace.ring import Record, Ring

if TYPE_CHECKING:
    from libexo.kip import Kip

_MS = 1_000_000
SECOND = 1_000_000_000
_NEAR = 20 * _MS
"""A sleep counts as one for what was taken if that was lost no longer before; what ended it came no longer before
that was seen."""
_THREADS = 16
"""Page faults of one environment that are looked at for one sleep."""
_GRAIN_US = 100
"""A slice that is shorter by less was not shortened."""


class Cause(Enum):
    """What a moment of the window was spent with."""

    RAN = "ran"
    ALONE = "alone: it slept, or the host had the core"
    TURN = "others had their turn by the plan"
    UNPLANNED = "the plan had no slice of it"
    DIRECTED = "the scheduler put others before the plan"
    LENT = "others ran in slices lent by who awaits them"
    RESERVATION = "others had reserved the time"
    CARRY = "it paid back what it had overrun"
    WATCHDOG = "no plan: the kernel's own round robin"
    SLEPT = "it slept"
    PARTNER = "it waited for a message or an answer"
    PREDICATE = "it waited for its predicate to come true"
    PAGER = "it waited for a page"
    REVOCATION = "it slept since something was taken"
    STOPPED = "a signal or a debugger had stopped it"
    HOST = "the host ran something else on its core"
    SWITCHING = "the processor went from one to another"
    ABSENT = "it was not there"
    UNKNOWN = "unknown"


STOPS = [cause for cause in Cause if cause not in (Cause.RAN, Cause.ABSENT)]
"""The causes for which it did not run."""


@dataclass
class Why:
    """What is known of one environment in a window. Times in ns."""

    name: str
    processor: int
    """Under whose plan it was last; -1: under none, so the host's scheduler runs it."""
    begin: int
    end: int
    missing: int
    """How much of the window was before the first event that the ring still has."""
    spent: "Counter[Cause]" = field(default_factory=Counter)
    """Adds up to the window, less what is missing."""
    whom: "dict[Cause, Counter[str]]" = field(default_factory=dict)
    """Of some causes: who had the processor, for whom it waited, whose page, which clause of a predicate."""
    held: "Counter[str]" = field(default_factory=Counter)
    """Who had the processor while it was not its own."""
    slices: int = 0
    longest: int = 0
    """The longest time without a slice of it, while it was there."""
    planned: float = 0.0
    """The part of the processor that the plans gave it, on average, while it was there."""
    plan_us: tuple[int, int] = (0, 0)
    """What the last plan gives it of a round, and how long that is."""
    state: State = State.UNKNOWN
    """What it does at the end of the window."""
    ended: str = ""

    @property
    def known(self) -> int:
        """How much of the window is told of."""
        return sum(self.spent.values())

    @property
    def got(self) -> float:
        """The part of the time that it ran, while it was there."""
        return self.spent[Cause.RAN] / there if (there := self.known - self.spent[Cause.ABSENT]) > 0 else 0.0

    def causes(self) -> list[tuple[Cause, int]]:
        """Return what stopped it, for how long, the longest first."""
        found = [(cause, self.spent[cause]) for cause in STOPS if self.spent[cause] > 0]
        return sorted(found, key=lambda each: -each[1])

    def add(self, cause: Cause, ns: int, whom: str = "") -> None:
        """Count *ns* for *cause*, and for *whom*."""
        if ns > 0:
            self.spent[cause] += ns
            if whom:
                self.whom.setdefault(cause, Counter())[whom] += ns


def why(kip: "Kip", ring: Ring, name: str, *, now: int, seconds: float = 1.0) -> Why:
    """Return why environment *name* did not run in the last *seconds* before *now*. Raises NotFound."""
    return _whole(in_steps(kip, ring, name, now, round(seconds * SECOND)))


def explain(history: History, name: str, begin: int, end: int) -> Why:
    """Return why *name* did not run between *begin* and *end*. Raises NotFound."""
    return _whole(_explaining(history, name, begin, end))


def in_steps(kip: "Kip", ring: Ring, name: str, now: int, window: int) -> Steps[Why]:
    """Do the same for the last *window* ns, with a rest after each millisecond's work. Raises NotFound."""
    records: list[Record] = []
    for at, record in enumerate(ring.read(), 1):
        records.append(record)
        if at % STEP == 0:
            yield
    history = History(None, Present.of(kip), now)
    yield from history.read(records)
    return (yield from _explaining(history, name, now - window, now))


def _whole(steps: Steps[Why]) -> Why:
    """Take all *steps* at once."""
    while True:
        try:
            next(steps)
        except StopIteration as over:
            found: Why = over.value
            return found


def _explaining(history: History, name: str, begin: int, end: int) -> Steps[Why]:
    key = history.find(name)
    if key is None:
        raise NotFound(f"no environment is called {name!r}, and no event of the ring is of one")
    processor, first = history.processor(key), max(begin, history.begin)
    found = Why(name, processor, begin, end, first - begin)
    spans = list(clipped(history.spans.get(key, ()) if processor >= 0 else (), first, end))
    account = _Account(found, history, key)
    for at, span in enumerate(spans, 1):
        account.add(span)
        if at % (STEP // 4) == 0:
            yield
    found.state = spans[-1].state if spans else State.UNKNOWN
    found.add(Cause.UNKNOWN, end - first - found.known if spans else 0)
    runs = [span for span in spans if span.state is State.RUNS and not _goes_on(span)]
    found.slices = len(runs)
    there = [span for span in spans if span.state is not State.GONE]
    came, went = (there[0].begin, there[-1].end) if there else (first, first)
    edges = [came, *(edge for span in runs for edge in (span.begin, span.end)), went]
    found.longest = max(
        (after - before for before, after in zip(edges[::2], edges[1::2], strict=True)), default=0
    )
    _pay_back(found, runs)
    _measure(found, history, key, came, went)
    if key in history.ends:
        found.ended = _end(history, key)
    return found


def _goes_on(span: Span) -> bool:
    return span.slice_us == 0 and span.ending is None and span.used < 0


class _Account:
    """What the spans of one environment are put down to."""

    def __init__(self, found: Why, history: History, key: int) -> None:
        """Fill in *found* of *key*."""
        self._found, self._history, self._key = found, history, key
        self._spans = history.spans.get(key, [])
        self._faults = sorted((each for each in history.faults if each.key == key), key=lambda each: each.end)
        self._lost = [ns for who, ns, _ in history.losses if who == key]
        self._woken = [(ns, clause) for who, ns, clause in history.woken if who == key]
        self._plans = history.plans(found.processor) if found.processor >= 0 else []

    def add(self, span: Span) -> None:
        """Give each moment of *span* its cause."""
        found, length = self._found, span.end - span.begin
        match span.state:
            case State.RUNS:
                self._add_slice(span)
            case State.READY:
                self._add_wait(span)
            case State.ASLEEP:
                used = max(0, min(span.used, length))  # it woke, and ran beside who had the processor
                found.add(Cause.RAN, used)
                self._add_sleep(span, span.begin, length - used, span.whom)
                self._hold(span)
            case State.STANDS:
                found.add(Cause.STOPPED, length)
                self._hold(span)
            case State.GONE:
                found.add(Cause.ABSENT, length)
            case State.UNKNOWN:
                found.add(Cause.UNKNOWN, length)

    def _add_slice(self, span: Span) -> None:
        found, length = self._found, span.end - span.begin
        if span.used < 0:  # it is not over
            found.add(Cause.ALONE if span.alone else Cause.RAN, length)
            return
        used = min(span.used, length)
        slept = min(span.slept, length - used)
        rest = length - used - slept
        found.add(Cause.RAN, used)
        if span.ending in (Event.BLOCKED, Event.STOPPED):  # what was not seen as sleep was on the way there
            slept, rest = slept + rest, 0
        if slept and span.ending is Event.STOPPED:
            found.add(Cause.STOPPED, slept)
        else:
            self._add_sleep(span, span.end - slept, slept, self._next_whom(span))
        found.add(Cause.ALONE if span.alone else Cause.HOST, rest)

    def _next_whom(self, span: Span) -> int:
        """Return for whom its owner says that it waits when it sleeps right after *span*."""
        at = bisect_left(self._spans, span.end, key=lambda each: each.begin)
        after = self._spans[at : at + 1] if span.ending is Event.BLOCKED else []
        return after[0].whom if after and after[0].begin == span.end else 0

    def _add_sleep(self, span: Span, begin: int, length: int, whom: int) -> None:
        """Give a sleep of *length* from *begin* on its cause: a pager, what was taken, for whom it waits."""
        if length <= 0:
            return
        end = begin + length
        fault = self._fault(begin, end)
        if fault is not None:
            before = max(0, fault.begin - begin)
            self._add_rest(begin, before, whom, fault.begin)
            pager = self._history.name(fault.pager) if fault.pager >= 0 else ""
            self._found.add(Cause.PAGER, length - before, pager)
            return
        since = self._spans[bisect_right(self._spans, span.begin, key=lambda each: each.begin) - 1].begin
        lost = bisect_right(self._lost, end)
        if lost and self._lost[lost - 1] >= since - _NEAR and not whom:
            self._found.add(Cause.REVOCATION, length)
        else:
            self._add_rest(begin, length, whom, span.end)

    def _fault(self, begin: int, end: int) -> Wait | None:
        """Return a page fault that waited between *begin* and *end*; of several threads, one that ended soon."""
        at = bisect_right(self._faults, begin, key=lambda each: each.end)
        return next((each for each in self._faults[at : at + _THREADS] if each.begin <= end), None)

    def _add_rest(self, begin: int, length: int, whom: int, until: int) -> None:
        """Give a sleep for which nothing else is to blame to what its owner says it waits for.

        It was over by *until*. Messages of predicates divide it: who sleeps again soon is not seen awake.
        """
        end = begin + length
        if whom in (KERNEL_PREDICATES, ANYBODY):
            for clause, came in self._clauses(begin, until):
                self._found.add(Cause.PREDICATE, min(came, end) - begin, clause)
                begin = min(came, end)
        if whom == KERNEL_PREDICATES:
            self._found.add(Cause.PREDICATE, end - begin, "none so far")
        elif whom and self._history.key_of_thread(whom) != self._key:
            name = "any sender" if whom == ANYBODY else self._history.of_thread(whom)
            self._found.add(Cause.PARTNER, end - begin, name)
        else:
            self._found.add(Cause.SLEPT, end - begin)

    def _clauses(self, begin: int, until: int) -> Iterator[tuple[str, int]]:
        """Yield which clauses of predicates came true from *begin* to *until*, and when, or *until* if close."""
        first = bisect_left(self._woken, begin, key=lambda each: each[0])
        for at in range(first, len(self._woken)):
            ns, clause = self._woken[at]
            if ns > until:
                break
            said = "no clause was possible" if clause == Outcome.IMPOSSIBLE else f"clause {clause}"
            yield said, until if until - ns < _NEAR else ns

    def _others(self, span: Span) -> Iterator[Span]:
        """Yield who else had the processor of *span* meanwhile."""
        runs = self._history.on(span.processor)
        first = max(bisect_right(runs, span.begin, key=lambda run: run.begin) - 1, 0)
        last = bisect_right(runs, span.end, key=lambda run: run.begin)
        others = (each for each in runs[first:last] if each.key != span.key)
        yield from clipped(others, span.begin, span.end)

    def _hold(self, span: Span) -> None:
        for other in self._others(span):
            self._found.held[self._history.name(other.key)] += other.end - other.begin

    def _add_wait(self, span: Span) -> None:
        """Give the time in which it would have run to who had the processor, and to why they had it."""
        found, at = self._found, span.begin
        for other in self._others(span):
            if other.end <= at:
                continue
            begin = max(at, other.begin)
            found.add(Cause.SWITCHING, begin - at)
            at = other.end
            name, rest = self._history.name(other.key), at - begin
            found.held[name] += rest
            for cause, ns in self._reasons(other, begin):
                taken = min(ns, rest)
                found.add(cause, taken, name)
                rest -= taken
            found.add(Cause.UNKNOWN, rest, name)
        found.add(
            Cause.SWITCHING if at > span.begin or span.end - at < _NEAR else Cause.UNKNOWN, span.end - at
        )

    def _reasons(self, other: Span, begin: int) -> Iterator[tuple[Cause, int]]:
        """Yield why *other* has the processor from *begin* on, and for how long."""
        guarded = (span[1:] for span in self._history.watchdog if span[0] == other.processor)
        yield Cause.WATCHDOG, sum(overlap(span, begin, other.end) for span in guarded)
        if other.how:
            cause = {LENT: Cause.LENT, RESERVED: Cause.RESERVATION}.get(other.how, Cause.DIRECTED)
            yield cause, other.end - begin
        else:
            yield from _planned(self._plans, self._key, begin, other.end).items()


def _planned(plans: Plans, key: int, begin: int, end: int) -> "Counter[Cause]":
    """Return how long between *begin* and *end* there was a slice of *key* in the plan, and how long none."""
    found: Counter[Cause] = Counter()
    first = max(bisect_right(plans, begin, key=lambda plan: plan[0]) - 1, 0)
    last = bisect_right(plans, end, key=lambda plan: plan[0])
    for ns, plan, until in _lasting(plans[first:last], end):
        found[Cause.TURN if key in plan else Cause.UNPLANNED] += overlap((ns, until), begin, end)
    return found


def _lasting(plans: Plans, end: int) -> Iterable[tuple[int, dict[int, int], int]]:
    """Yield each plan with the time until which it was in force."""
    ends = [ns for ns, _ in plans[1:]] + [max(end, plans[-1][0])]
    return ((ns, plan, until) for (ns, plan), until in zip(plans, ends, strict=True))


def _pay_back(found: Why, runs: list[Span]) -> None:
    """Take what slices were shorter for overruns out of the time that others had meanwhile."""
    owed = sum(
        (span.slice_us - span.left_us) * 1000 for span in runs if span.slice_us - span.left_us > _GRAIN_US
    )
    turn = found.spent[Cause.TURN]
    owed = min(owed, turn)
    if owed:
        found.spent[Cause.TURN] -= owed
        whom = found.whom[Cause.TURN]
        for name, ns in whom.items():
            whom[name] = ns - ns * owed // turn
        found.add(Cause.CARRY, owed)


def _measure(found: Why, history: History, key: int, begin: int, end: int) -> None:
    """Say what the plans gave it from *begin* to *end*."""
    if found.processor < 0:
        return
    plans, total = history.plans(found.processor), 0
    for ns, plan, until in _lasting(plans, found.end):
        lasted = overlap((ns, until), begin, end)
        round_us = sum(plan.values())
        found.planned += lasted * plan.get(key, 0) / round_us if round_us else 0.0
        total += lasted
    found.planned = found.planned / total if total else 0.0
    last = plans[-1][1]
    found.plan_us = last.get(key, 0), sum(last.values())


def _end(history: History, key: int) -> str:
    """Say how it ended."""
    ns, status, fault = history.ends[key]
    text = f"by signal {-status}" if status < 0 else f"with status {status}"
    taken = any(who == key and ns - SECOND <= lost <= ns for who, lost, _ in history.losses)
    return (
        f"it ended {text}"
        + (", of a fault" if fault else "")
        + (", after something was taken from it" if taken else "")
    )


__all__ = ["STOPS", "Cause", "Why", "explain", "in_steps", "why"]
