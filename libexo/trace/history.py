"""What the events of the ring say of each environment: spans in which it ran, wanted to, slept or stood still.

A *history* is made from records and from what the kernel interface page shows now: names of those that live, and
the plans, from which those before follow backwards. The number of an environment is used again when it has ended; a
*key* is not. Before the first record nothing is known; from there to now, every moment of an environment is in
exactly one of its spans.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kernel.abi.events import ANYBODY, Event
from kernel.abi.ids import USER_BASE, thread_number
from kernel.abi.kip import EnvironmentState
from libexo.trace.ring import Record

if TYPE_CHECKING:
    from libexo.kip import Kip

_KEY = 16
"""A key is an environment's number, and from this bit on how many had the number before, as far as is known."""
_LOW = (1 << 32) - 1
_SIGN = 1 << 15
_WALL = 3
"""A slice that lasts longer than so many times its length has no end: nobody else wants the processor."""
_ALONE = 2
"""In the detail of PREEMPTED."""
RESERVED = 3
"""In place of the detail of SWITCHED (DIRECTED, LENT), for a reservation."""
_STATES = {
    EnvironmentState.BLOCKED: "ASLEEP",
    EnvironmentState.READY: "READY",
    EnvironmentState.RUNNING: "RUNS",
}


T = TypeVar("T")
Steps = Generator[None, None, T]
"""What makes a T, and yields now and then, so that others have their turn."""
STEP = 128
"""Records between two yields: about a millisecond."""
Plans = list[tuple[int, dict[int, int]]]
"""Plans of a processor: from when on, and by key how many microseconds of a round."""


class State(IntEnum):
    """What an environment does in a span."""

    RUNS = 1
    """It has the processor."""
    READY = 2
    """It would run."""
    ASLEEP = 3
    STANDS = 4
    """A signal or a debugger stopped it."""
    GONE = 5
    """It is not there: not yet, or it has ended."""
    UNKNOWN = 6


class Span(NamedTuple):
    """A time in which an environment did one thing. Times in ns; of RUNS there is more."""

    key: int
    state: State
    begin: int
    end: int
    processor: int = -1
    whom: int = 0
    """Of a sleeper: the number of the thread for which it says that it waits; 0: none, ANYBODY: any."""
    slice_us: int = 0
    """The length of its slice; 0: it began before the first record."""
    left_us: int = 0
    """How much of that it had, for what it used too much or too little before."""
    how: int = 0
    """Why it has the processor: 0 by the plan, DIRECTED, LENT, RESERVED."""
    used: int = -1
    """CPU time, in ns, also of a sleeper, that woke and was not seen at once; -1: unknown, the span is not over."""
    slept: int = 0
    """What it slept in its slice, in ns."""
    ending: Event | None = None
    """The event that ended the slice; None: it goes on, or was not told."""
    alone: bool = False
    """Nobody else wanted the processor, so the kernel did not look what it did."""


class Wait(NamedTuple):
    """A page fault that waits for its pager."""

    key: int
    begin: int
    end: int
    pager: int
    """Key of the pager; -1: unknown."""
    object: int
    """Its first frame."""
    page: int


class Present(NamedTuple):
    """What the kernel interface page shows now."""

    names: Mapping[int, str] = {}
    """By number of an environment."""
    threads: Mapping[int, int] = {}
    """Thread number to number of its environment."""
    states: Mapping[int, tuple[int, int]] = {}
    """Number of an environment to state and processor."""
    plans: Sequence[Sequence[tuple[int, int]]] = ()
    """Of each processor, numbers and microseconds."""
    pagers: Mapping[int, int] = {}
    """First frame of an object to number of its pager."""

    @classmethod
    def of(cls, kip: "Kip") -> "Present":
        """Read *kip*."""
        rows = kip.environments()
        return cls(
            {row.number: row.name for row in rows},
            {thread_number(row.thread): row.environment for row in kip.threads()},
            {row.number: (int(row.state), row.cpu) for row in rows},
            [plan.slices for plan in kip.plans()],
            {row.first: row.pager for row in kip.extents() if row.pager >= 0},
        )


@dataclass
class _Open:
    """The span in which an environment is."""

    state: State
    begin: int
    more: dict[str, Any] = field(default_factory=dict)


class History:
    """Spans, page faults, plans and losses, from *records* and the *present*.

    *Now* is the time, in ns, before they were read: what takes a while to read is no longer than it was.
    """

    def __init__(self, records: Iterable[Record] | None, present: Present, now: int) -> None:
        """Go through the records once; None: `read` does it, in steps."""
        self.now = now
        self.begin = now
        """The time of the first record."""
        self.events: list[tuple[int, Record]] = []
        """Every record with the key of its environment."""
        self.names: dict[int, str] = {}
        """By key."""
        self.spans: dict[int, list[Span]] = {}
        """Of each key, in order, without a hole from the first record to now."""
        self.faults: list[Wait] = []
        self.losses: list[tuple[int, int, int]] = []
        """Key, time and kind of what was taken by force."""
        self.ends: dict[int, tuple[int, int, int]] = {}
        """Of each key that ended: time, exit status, fault."""
        self.watchdog: list[tuple[int, int, int]] = []
        """Processor, begin and end: the kernel walked a round robin of its own."""
        self.planned: list[tuple[int, int, int, int]] = []
        """Time, processor, key of the author, and microseconds of a round, of each plan that was installed."""
        self.bound: list[tuple[int, int, int]] = []
        """Each binding that was made: time, key of the sender, thread number of the receiver."""
        self.woken: list[tuple[int, int, int]] = []
        """Key, time, and clause, or 8 if none can be true: a predicate for which it waited."""
        self._present = present
        self._serial: dict[int, int] = {}
        self._threads: dict[int, int] = {}
        """Thread number to key."""
        self._open: dict[int, _Open] = {}
        self._running: dict[int, int] = {}
        """Processor to the key that has it."""
        self._waits: dict[int, list[Wait]] = {}
        self._parts: list[tuple[int, int, int, int]] = []
        self._fallback: dict[int, int] = {}
        self._reserved = -1
        """The key whose slice is about to begin by its reservation."""
        self._on: dict[int, list[Span]] = {}
        self._plans: dict[int, Plans] = {}
        self._takers: dict[int, Callable[[Record, int], None]] = {
            Event.CREATED: self._created,
            Event.RESERVED: self._reserve,
            Event.SWITCHED: self._switched,
            Event.PREEMPTED: self._over,
            Event.CONTINUED: self._over,
            Event.BLOCKED: self._over,
            Event.STOPPED: self._over,
            Event.READY: self._ready,
            Event.ENDED: self._ended,
            Event.NAME: self._named,
            Event.PAGE_FAULT: self._faulted,
            Event.SUPPLIED: self._supplied,
            Event.PART: self._part,
            Event.PLANNED: self._plan,
            Event.FALLBACK: self._fell_back,
            Event.LOST: self._lost,
            Event.BOUND: self._bound,
            Event.WOKEN: self._woken,
        }
        if records is not None:
            deque(self.read(records), maxlen=0)

    def read(self, records: Iterable[Record]) -> Iterator[None]:
        """Go through the records, with a rest after each millisecond's work."""
        for at, record in enumerate(records, 1):
            self.begin, self.now = min(self.begin, record.ns), max(self.now, record.ns)
            self._take(record)
            if at % STEP == 0:
                yield
        self._finish()

    # ---------------------------------------------------------------------------------------------- questions

    def find(self, name: str) -> int | None:
        """Return the key of the environment called *name* that came last; None: there is none."""
        keys = [key for key, known in self.names.items() if known == name]
        living = [key for key in keys if key not in self.ends]
        return max(living or keys, key=lambda key: self.ends.get(key, (key, 0, 0))[0], default=None)

    def name(self, key: int) -> str:
        """Return the name of *key*, or its number."""
        return self.names.get(key, f"#{key & (1 << _KEY) - 1}")

    def of_thread(self, number: int) -> str:
        """Return the name of the environment of thread *number*."""
        key = self._threads.get(number)
        if key is None:
            return "the kernel" if number < USER_BASE else f"thread {number}"
        return self.name(key)

    def key_of_thread(self, number: int) -> int | None:
        """Return the key of the environment of thread *number*."""
        return self._threads.get(number)

    def processor(self, key: int) -> int:
        """Return the processor under whose plan *key* was last; -1: under none."""
        known = [span.processor for span in self.spans.get(key, ()) if span.processor >= 0]
        return known[-1] if known else self._present.states.get(self._number(key), (0, -1))[1]

    def on(self, processor: int) -> list[Span]:
        """Return who had *processor* when, in order."""
        if not self._on:
            runs = (span for spans in self.spans.values() for span in spans if span.state is State.RUNS)
            for span in sorted(runs, key=lambda span: span.begin):
                self._on.setdefault(span.processor, []).append(span)
        return self._on.get(processor, [])

    def plans(self, processor: int) -> Plans:
        """Return the plans of *processor* since the first record: from when, and each part of a round, in us."""
        if processor not in self._plans:
            self._plans[processor] = self._find_plans(processor)
        return self._plans[processor]

    def _find_plans(self, processor: int) -> Plans:
        slices = self._present.plans[processor] if processor < len(self._present.plans) else ()
        plan: dict[int, int] = {}
        for number, microseconds in slices:
            key = self._key(number)
            plan[key] = plan.get(key, 0) + microseconds
        found = []
        for ns, where, key, change in reversed(self._parts):
            if where == processor:
                found.append((ns, {each: us for each, us in plan.items() if us > 0}))
                plan[key] = plan.get(key, 0) - change
        found.append((self.begin, {each: us for each, us in plan.items() if us > 0}))
        return found[::-1]

    # ----------------------------------------------------------------------------------------------- records

    def _number(self, key: int) -> int:
        return key & (1 << _KEY) - 1

    def _key(self, number: int) -> int:
        return number | self._serial.get(number, 0) << _KEY

    def _take(self, record: Record) -> None:
        take = self._takers.get(record.event)
        if take is not None:
            take(record, self._key(record.environment))
        self.events.append((self._key(record.environment), record))

    def _created(self, record: Record, key: int) -> None:
        if key in self._open or key in self.ends:
            self._serial[record.environment] = self._serial.get(record.environment, 0) + 1
            key = self._key(record.environment)
        self._threads[thread_number(record.a)] = key
        self.spans[key] = [Span(key, State.GONE, self.begin, record.ns)] if record.ns > self.begin else []
        self._open[key] = _Open(State.GONE, record.ns)

    def _enter(self, key: int, state: State, ns: int, before: State, **more: Any) -> None:  # noqa: ANN401 - fields of a span
        """Let *key* be in *state* from *ns* on; if it was not known, it was in *before* until now."""
        self._leave(key, ns, before)
        self._open[key] = _Open(state, ns, more)

    def _leave(self, key: int, ns: int, before: State, **more: Any) -> None:  # noqa: ANN401 - the same
        opened = self._open.pop(key, None) or _Open(before, self.begin)
        if opened.state is State.RUNS and self._running.get(opened.more.get("processor", -1)) == key:
            del self._running[opened.more["processor"]]
        if ns > opened.begin:
            span = Span(key, opened.state, opened.begin, ns)
            self.spans.setdefault(key, []).append(span._replace(**opened.more, **more))

    def _reserve(self, _record: Record, key: int) -> None:
        self._reserved = key

    def _switched(self, record: Record, key: int) -> None:
        processor, last = record.b & _LOW, self._running.get(record.b & _LOW)
        if last is not None:
            self._enter(last, State.READY, record.ns, State.RUNS, processor=processor)
        for wait in self._waits.pop(key, ()):
            self.faults.append(wait._replace(end=record.ns))
        how, self._reserved = RESERVED if self._reserved == key else record.detail, -1
        left, length = record.b >> 32, record.a & _LOW
        self._enter(
            key, State.RUNS, record.ns, State.READY,
            processor=processor, slice_us=length, left_us=left or length, how=how,
        )  # fmt: skip
        self._running[processor] = key

    def _over(self, record: Record, key: int) -> None:
        """Its slice is over, or it goes on."""
        event, processor = Event(record.event), record.b & _LOW
        before = self._open.get(key) or _Open(State.RUNS, self.begin)
        if before.state is not State.RUNS and event is Event.CONTINUED:
            return
        more: dict[str, Any] = {"used": record.a, "slept": (record.b >> 32) * 1000, "ending": event}
        if event in (Event.PREEMPTED, Event.CONTINUED):
            more["alone"] = bool(record.detail & _ALONE)
        place: dict[str, Any] = {"processor": processor}
        if before.state is not State.RUNS:
            more = {}
        self._leave(key, record.ns, State.RUNS, **more)
        if event is Event.CONTINUED:
            kept = {name: before.more[name] for name in ("slice_us", "left_us", "how") if name in before.more}
            self._open[key] = _Open(State.RUNS, record.ns, place | kept)
            self._running[processor] = key
            return
        state = _AFTER[event]
        if state is State.ASLEEP:
            place["whom"] = record.detail
        self._open[key] = _Open(state, record.ns, place)

    def _ready(self, record: Record, key: int) -> None:
        known = self._open.get(key)
        woke = known is None or known.state is State.ASLEEP
        self._leave(key, record.ns, State.ASLEEP, **({"used": record.a} if woke else {}))
        self._open[key] = _Open(State.READY, record.ns, {"processor": record.b & _LOW})

    def _ended(self, record: Record, key: int) -> None:
        self._enter(key, State.GONE, record.ns, State.UNKNOWN)
        self._waits.pop(key, None)
        self.ends[key] = record.ns, record.a - 256, record.b

    def _named(self, record: Record, key: int) -> None:
        words = record.a.to_bytes(8, "little") + record.b.to_bytes(8, "little")
        text = words.rstrip(b"\0").decode(errors="replace")
        self.names[key] = text if not record.detail else self.names.get(key, "") + text

    def _faulted(self, record: Record, key: int) -> None:
        number = self._present.pagers.get(record.b, -1)
        pager = self._key(number) if number >= 0 else -1
        self._waits.setdefault(key, []).append(
            Wait(key, record.ns, self.now, pager, record.b, record.a & _LOW)
        )

    def _supplied(self, record: Record, key: int) -> None:
        first = record.a & _LOW
        for who, waits in list(self._waits.items()):
            over = [w for w in waits if w.object == record.b and first <= w.page < first + (record.a >> 32)]
            self.faults += [wait._replace(end=record.ns, pager=key) for wait in over]
            self._waits[who] = [wait for wait in waits if wait not in over]

    def _part(self, record: Record, key: int) -> None:
        more = (record.detail ^ _SIGN) - _SIGN
        self._parts.append((record.ns, record.b & _LOW, key, more * record.a))

    def _plan(self, record: Record, key: int) -> None:
        processor = record.b & _LOW
        self.planned.append((record.ns, processor, key, record.a))
        begin = self._fallback.pop(processor, None)
        if begin is not None:
            self.watchdog.append((processor, begin, record.ns))

    def _fell_back(self, record: Record, _key: int) -> None:
        self._fallback.setdefault(record.a, record.ns)

    def _lost(self, record: Record, key: int) -> None:
        self.losses.append((key, record.ns, record.b))

    def _bound(self, record: Record, key: int) -> None:
        self.bound.append((record.ns, key, thread_number(record.a)))

    def _woken(self, record: Record, key: int) -> None:
        self.woken.append((key, record.ns, record.a))

    # --------------------------------------------------------------------------------------------------- now

    def _finish(self) -> None:
        """Add what is known of now."""
        for number, name in self._present.names.items():
            self.names.setdefault(self._key(number), name)
        for number, owner in self._present.threads.items():
            self._threads.setdefault(number, self._key(owner))
        for number, (state, processor) in self._present.states.items():
            known = _STATES.get(EnvironmentState(state)) if processor >= 0 else None
            if self._key(number) not in self._open and known is not None:
                self._open[self._key(number)] = _Open(State[known], self.begin, {"processor": processor})
        for key, opened in list(self._open.items()):
            longest = _WALL * opened.more.get("left_us", 0) * 1000
            alone = opened.state is State.RUNS and self.now - opened.begin > longest
            self._leave(key, self.now, opened.state, **({"alone": True} if alone else {}))
        self.faults += [wait for waits in self._waits.values() for wait in waits]
        self.watchdog += [(processor, begin, self.now) for processor, begin in self._fallback.items()]


_AFTER = {Event.PREEMPTED: State.READY, Event.BLOCKED: State.ASLEEP, Event.STOPPED: State.STANDS}
"""The state in which a slice leaves its owner."""


def overlap(span: tuple[int, int], begin: int, end: int) -> int:
    """Return for how long *span* and *begin* to *end* coincide."""
    return max(0, min(span[1], end) - max(span[0], begin))


def clipped(spans: Iterable[Span], begin: int, end: int) -> Iterator[Span]:
    """Yield those of *spans* between *begin* and *end*, cut to there: what was used and slept, in proportion."""
    for span in spans:
        first, last = max(span.begin, begin), min(span.end, end)
        if last > first:
            part = (last - first) / (span.end - span.begin)
            used = span.used if span.used < 0 else round(span.used * part)
            yield span._replace(begin=first, end=last, used=used, slept=round(span.slept * part))


__all__ = ["ANYBODY", "History", "Present", "Span", "State", "Wait", "clipped", "overlap"]
