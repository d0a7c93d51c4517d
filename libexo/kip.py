"""The kernel interface page, read: environments, threads, plans, frames, counters. No trap is made here.

`Kip(view)` reads a mapped page; `read(path)` opens the one a system publishes in its run directory, so that
tools need not attach.
"""

import mmap
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kernel.abi.budget import Item
from kernel.abi.ids import thread_number
from kernel.abi.kip import (
    ABI_LEVEL,
    BUDGET_ROW,
    BUDGETS,
    ENVIRONMENT,
    ENVIRONMENTS,
    FRAMES,
    MAGIC,
    NAME,
    NAMES,
    PLAN_HEAD,
    PLAN_SIZE,
    PLAN_SLICE,
    PLANS,
    THREAD,
    THREADS,
    TURN_BUCKETS,
    X2,
    Counter,
    EnvironmentState,
    ExtentWord,
    Head,
    SystemState,
    ThreadState,
    extent_at,
    holders_shown,
)
from kernel.abi.limits import MAX_ENVIRONMENTS, MAX_NAMES, MAX_THREADS
from libexo.errors import ExoError

_NAME_AT = 8
"""Offset of the name in a row of the name table, behind the thread."""
_ROW = struct.Struct(f"{ENVIRONMENT.size}s")
_ATTEMPTS, _AT_ONCE = 20_000, 100
"""How often a table that is being written is read again, and how often without a pause.

On a busy host the kernel may be kept waiting in the middle of a row, on the very processor we look on."""
_PAUSE = 0.0001
_USED = re.compile(rb"[^\0]")
"""The first byte of a frame's word that is somebody's."""


class EnvironmentRow(NamedTuple):
    """One environment, as the kernel shows it. Times in nanoseconds."""

    number: int
    state: EnvironmentState
    uid: int
    pid: int
    cpu: int
    thread: int
    started: int
    consumed: int
    traps: int
    frames: int
    handles: int
    fault: int
    name: str
    family: int = 0
    """The number of its family; 0: it is a server of the topology, or an operator."""

    @property
    def is_first(self) -> bool:
        """Whether it is the first of its family, or its successor: an operator started it."""
        return self.family != 0 and self.family % MAX_THREADS == thread_number(self.thread)


class ThreadRow(NamedTuple):
    """One thread, as the kernel shows it."""

    thread: int
    environment: int
    """The number of its environment."""
    state: ThreadState
    pager: int
    scheduler: int
    redirector: int
    """The redirector of its environment; 0: none."""


class Account(NamedTuple):
    """One item of the budget of one environment."""

    used: int
    limit: int
    """The limit, less what was given to its children."""


class Holding(NamedTuple):
    """One capability to an extent."""

    environment: int
    """The number of its holder."""
    rights: int


class ExtentRow(NamedTuple):
    """One extent, as the kernel shows it."""

    first: int
    """The first of its frames."""
    frames: int
    pages: int
    resident: int
    """Pages that are supplied; -1: it is not paged."""
    pager: int
    """The number of its pager's environment; -1: none."""
    capabilities: int
    """How many capabilities to it there are."""
    holdings: tuple[Holding, ...]
    """The oldest of them, as many as are shown."""

    @property
    def paged(self) -> bool:
        """Whether its pages come from a pager."""
        return self.resident >= 0


class PlanView(NamedTuple):
    """The plan of one processor: the running environment, and the slices as (environment number, microseconds)."""

    core: int
    running: int
    """Number of the running environment, -1: none."""
    slices: tuple[tuple[int, int], ...]
    interrupted: int = -1
    """Number of the environment whose slice goes on after those of reservations, -1: none."""
    begun: int = 0
    """How many of them have begun in this round; 0: none since the plan was made."""


class Turns(NamedTuple):
    """The turns of the kernel's loop: CPU time of its thread, and time by the clock. In ns."""

    longest_ns: int
    longest_lasted_ns: int
    """By the clock."""
    longest_trap: int
    """Number of the last trap in it, 0: none."""
    most_lasted_ns: int
    """The longest by the clock."""
    histogram: tuple[int, ...]
    """Turns of less than 1 us of CPU time, of 1 us, of 2..3 us, of 4..7 us, and so on; the last: all others."""


class Kip:
    """A reader of the page."""

    def __init__(self, view: memoryview) -> None:
        """Read *view*. Raises ExoError when it is no KIP, or of another ABI level."""
        self._view = view.toreadonly()
        self.words = self._view.cast("Q")
        self._places: dict[int, int] = {}
        """Row numbers of environments by thread, as last seen."""
        self._rows: dict[int, tuple[bytes, EnvironmentRow | None]] = {}
        """The rows of environments as they were last read: most are the same at the next look."""
        if self.words[X2.MAGIC] & 0xFFFF_FFFF != MAGIC:
            raise ExoError("this is not a kernel interface page: wrong magic")
        if self.words[Head.ABI_LEVEL] != ABI_LEVEL:
            raise ExoError(
                f"the system speaks ABI level {self.words[Head.ABI_LEVEL]}, this library {ABI_LEVEL}: "
                "use the library that came with the system"
            )

    @property
    def epoch(self) -> int:
        """The binding epoch: when it has changed, a receiver forgets which senders it identified."""
        return self.words[Head.BINDING_EPOCH]

    def head(self, word: Head) -> int:
        """Return one word of the head."""
        return self.words[word]

    def word(self, at: int) -> int:
        """Return the 64-bit word at byte *at*, a multiple of 8: a field of X.2's. Raises ValueError."""
        if at % 8 or not 0 <= at < self._view.nbytes:
            raise ValueError(f"the kernel interface page has no word at byte {at:#x}")
        return self.words[at // 8]

    def text(self, at: int) -> str:
        """Return the text at byte *at*, up to its zero byte. Raises ValueError."""
        if not 0 <= at < self._view.nbytes:
            raise ValueError(f"byte {at:#x} is outside the kernel interface page")
        end = at
        while end < self._view.nbytes and self._view[end]:
            end += 1
        return _text(bytes(self._view[at:end]))

    @property
    def state(self) -> SystemState:
        """The state of the system."""
        return SystemState(self.words[Head.STATE])

    def counters(self) -> dict[str, int]:
        """Return the counters since boot, by name."""
        return {c.name.lower(): self.words[Head.COUNTERS + c] for c in Counter}

    def turns(self) -> Turns:
        """Return the turns of the kernel's loop."""
        words = self.words
        return Turns(
            longest_ns=words[Head.LONGEST_TURN],
            longest_lasted_ns=words[Head.LONGEST_TURN_WALL],
            longest_trap=words[Head.LONGEST_TURN_TRAP],
            most_lasted_ns=words[Head.LONGEST_WALL],
            histogram=tuple(words[Head.TURNS : Head.TURNS + TURN_BUCKETS]),
        )

    def lookup(self, name: str) -> int:
        """Return the thread *name* is published for, or 0."""
        row = name.encode().ljust(NAME.size - _NAME_AT, b"\0")
        table = self._name_table()
        at = table.find(row)
        while at >= 0 and at % NAME.size != _NAME_AT:
            at = table.find(row, at + 1)
        return int(NAME.unpack_from(table, at - _NAME_AT)[0]) if at >= 0 else 0

    def names(self) -> dict[str, int]:
        """Return every published name with its thread."""
        table = self._name_table()
        return {_text(name): thread for thread, name in NAME.iter_unpack(table) if thread}

    def _name_table(self) -> bytes:
        return self._stable(Head.NAME_SEQUENCE, NAMES, NAMES + MAX_NAMES * NAME.size)

    def environments(self) -> list[EnvironmentRow]:
        """Return every environment, with the dead whose record is kept."""
        end = ENVIRONMENTS + MAX_ENVIRONMENTS * ENVIRONMENT.size
        table = self._stable(Head.ENVIRONMENT_SEQUENCE, ENVIRONMENTS, end)
        return [
            row for number, (raw,) in enumerate(_ROW.iter_unpack(table)) if (row := self._row(number, raw))
        ]

    def _row(self, number: int, raw: bytes) -> EnvironmentRow | None:
        """Return environment *number* from its *raw* row; None: there is none."""
        before = self._rows.get(number)
        if before is None or before[0] != raw:
            before = self._rows[number] = raw, next(_rows(raw, number), None)
        return before[1]

    def environment(self, number: int) -> EnvironmentRow | None:
        """Return environment *number*; None: there is none."""
        if not 0 <= number < MAX_ENVIRONMENTS:
            return None
        at = ENVIRONMENTS + number * ENVIRONMENT.size
        row = self._stable(Head.ENVIRONMENT_SEQUENCE, at, at + ENVIRONMENT.size)
        return next(_rows(row, number), None)

    def budget(self, number: int) -> dict[Item, Account]:
        """Return the budget of environment *number*, by item. Each number by itself is read whole."""
        at = BUDGETS + number * BUDGET_ROW
        row = self._view[at : at + BUDGET_ROW].cast("I").tolist()
        return {item: Account(row[2 * item], row[2 * item + 1]) for item in Item}

    def processor(self, number: int) -> int:
        """Return the processor whose plan environment *number* is under; 0: none."""
        row = self.environment(number)
        return max(row.cpu, 0) if row is not None else 0

    def environment_of(self, thread: int) -> EnvironmentRow | None:
        """Return the environment of *thread*, or None. Quick: the row where it was last found is tried first."""
        number = self._places.get(thread)
        if number is not None:
            at = ENVIRONMENTS + number * ENVIRONMENT.size
            row = self._stable(Head.ENVIRONMENT_SEQUENCE, at, at + ENVIRONMENT.size)
            for found in _rows(row, number):
                if found.thread == thread:
                    return found
        self._places = {row.thread: row.number for row in self.environments()}
        return self.environment_of(thread) if thread in self._places else None

    def threads(self) -> list[ThreadRow]:
        """Return every thread, with the inactive, by number."""
        table = self._stable(Head.THREAD_SEQUENCE, THREADS, THREADS + MAX_THREADS * THREAD.size)
        return [_thread(row) for row in THREAD.iter_unpack(table) if row[1]]

    def thread(self, thread: int) -> ThreadRow | None:
        """Return the row of *thread*, a global id; None: there is none of that number and version."""
        at = THREADS + thread_number(thread) * THREAD.size
        if thread_number(thread) >= MAX_THREADS:
            return None
        row = THREAD.unpack(self._stable(Head.THREAD_SEQUENCE, at, at + THREAD.size))
        return _thread(row) if row[1] and row[0] == thread else None

    def plans(self) -> list[PlanView]:
        """Return the plan of every processor."""
        count = self.words[Head.CPU_COUNT]
        table = self._stable(Head.PLAN_SEQUENCE, PLANS, PLANS + count * PLAN_SIZE)
        return [_plan(table, number * PLAN_SIZE) for number in range(count)]

    def processors_off(self) -> frozenset[int]:
        """Return the processors that were taken out; one that still has members goes on until they are moved."""
        off = self.words[Head.PROCESSORS_OFF]
        return frozenset(number for number in range(self.words[Head.CPU_COUNT]) if off >> number & 1)

    def frame_users(self) -> memoryview:
        """Return one 32-bit word a frame: 0 for free, otherwise the number of its environment plus one."""
        return self._view[FRAMES : FRAMES + 4 * self.words[Head.FRAME_COUNT]].cast("I")

    def extent(self, first: int) -> "ExtentRow | None":
        """Return the extent that begins at frame *first*; None: there is none."""
        return self._extent(first, self.words[Head.FRAME_COUNT])

    def extent_frames(self, first: int) -> int:
        """Return how many frames the extent has that begins at frame *first*; 0: none begins there."""
        at = extent_at(self.words[Head.FRAME_COUNT], first)
        return int.from_bytes(self._view[at : at + 4], "little")

    def extents(self) -> Iterator["ExtentRow"]:
        """Yield every extent with a holder, by first frame. Each row is read whole, one after another."""
        users = self.frame_users()
        first, total, table = 0, len(users), users.cast("B")
        while (found := _USED.search(table, 4 * first)) is not None:
            first = found.start() // 4
            row = self._extent(first, total)
            if row is not None:
                yield row
            first += max(row.frames if row is not None else 0, 1)

    def _extent(self, first: int, total: int) -> "ExtentRow | None":
        at = extent_at(total, first)
        frames = int.from_bytes(self._view[at : at + 4], "little")
        if not 0 < frames <= total - first:
            return None  # it is being carved, or freed
        end = at + 4 * (ExtentWord.HOLDERS + holders_shown(frames))
        now, pages, resident, pager, many, *held = memoryview(
            self._stable(Head.EXTENT_SEQUENCE, at, end)
        ).cast("I")
        if now != frames:
            return None
        holdings = tuple(Holding((word & 0xFFFF) - 1, word >> 16) for word in held[:many])
        return ExtentRow(first, frames, pages, resident - 1, pager - 1, many, holdings)

    def _stable(self, sequence: Head, start: int, end: int) -> bytes:
        """Copy a table at a moment when it is not being written."""
        for attempt in range(_ATTEMPTS):
            if attempt >= _AT_ONCE:
                time.sleep(_PAUSE)
            before = self.words[sequence]
            copy = bytes(self._view[start:end])
            if not before & 1 and self.words[sequence] == before:
                return copy
        raise ExoError(
            f"the {sequence.name.split('_')[0].lower()} table was being written at each try: is the kernel stuck?"
        )


def read(path: Path) -> Kip:
    """Open the KIP a system publishes at *path*. Raises OSError, ExoError."""
    with path.open("rb") as file:
        return Kip(memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)))


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


def _rows(table: bytes, first: int = 0) -> Iterator[EnvironmentRow]:
    for number, row in enumerate(ENVIRONMENT.iter_unpack(table), first):
        if row[0] != EnvironmentState.FREE:
            state, *fields, family, name = row
            yield EnvironmentRow._make((number, EnvironmentState(state), *fields, _text(name), family))


def _thread(row: tuple[int, ...]) -> ThreadRow:
    thread, environment, state, *others = row
    return ThreadRow(thread, environment - 1, ThreadState(state), *others)


def _plan(table: bytes, at: int) -> PlanView:
    core, count, running, interrupted, begun = PLAN_HEAD.unpack_from(table, at)
    start = at + PLAN_HEAD.size
    slices = tuple(PLAN_SLICE.iter_unpack(table[start : start + count * PLAN_SLICE.size]))
    return PlanView(core, running - 1, slices, interrupted - 1, begun)
