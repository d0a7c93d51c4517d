"""The writer of the kernel interface page: what the kernel exposes to all. Layout: `kernel.abi.kip`."""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.kip import (
    ABI_LEVEL,
    BUDGET_ROW,
    BUDGETS,
    ENVIRONMENT,
    ENVIRONMENTS,
    EXTENT_WORDS,
    FRAMES,
    NAME,
    NAMES,
    PLAN_HEAD,
    PLAN_SIZE,
    PLAN_SLICE,
    PLANS,
    THREAD,
    THREADS,
    TURN_BUCKETS,
    Counter,
    Head,
    extent_at,
    kip_size,
)
from kernel.abi.limits import MAX_ENVIRONMENTS, MAX_NAMES
from kernel.errors import Refused
from kernel.x2.page import write_processor, write_records, write_x2

if TYPE_CHECKING:
    from hwmodel.machine import Descriptor, Machine
    from kernel.budget import Budget

_TRAPS_WORD = 5
"""Offset of the trap count in a row of the environment table, in words."""


class Shown(Protocol):
    """An environment, as its table shows it."""

    number: int

    def exposed(self, traps: int) -> tuple[int | bytes, ...]:
        """Return the fields of its row, where *traps* is how many it made."""


class Kip:
    """The kernel interface page and its tables."""

    def __init__(self, machine: "Machine") -> None:
        """Lay the page out on *machine* and publish it."""
        self.size = kip_size(machine.memory.frames)
        self._page = machine.page("kip", self.size)
        self._buffer = self._page.buffer
        self._words = self._buffer.cast("Q")
        self._budgets = self._buffer[BUDGETS : BUDGETS + MAX_ENVIRONMENTS * BUDGET_ROW].cast("I")
        self.extents = self._buffer[extent_at(machine.memory.frames, 0) :].cast("I")
        """The rows of extents, one a frame: `kernel.abi.kip.ExtentWord`."""
        self._names: dict[str, int] = {}
        self.payers: dict[str, Budget] = {}
        """The payer of each name that is not an environment's own."""
        self._names_of: dict[int, dict[str, None]] = {}
        """The names of each thread."""
        self._free_names = list(range(MAX_NAMES - 1, -1, -1))
        self._lay_out(machine)
        machine.publish("kip", self._page)
        machine.measure(self._words[Head.TURN_TRAP : Head.TURNS + TURN_BUCKETS])

    def _lay_out(self, machine: "Machine") -> None:
        write_x2(self._buffer, machine)
        words = self._words
        words[Head.ABI_LEVEL] = ABI_LEVEL
        words[Head.BOOT_NS] = machine.clock.now()
        words[Head.FRAME_COUNT] = words[Head.FREE_FRAMES] = machine.memory.frames
        words[Head.CPU_COUNT] = len(machine.cores)

    def show_records(self, records: bytes) -> None:
        """Write the boot records (`kernel.x2.records`), once, before the first reader."""
        write_records(self._buffer, self._words[Head.FRAME_COUNT], records)

    def show_processor(self, number: int, internal: int, external: int) -> None:
        """Show the frequencies of processor *number*, in kHz."""
        write_processor(self._buffer, number, internal, external)

    def set_head(self, word: Head, value: int) -> None:
        """Write one word of the head."""
        self._words[word] = value

    def head(self, word: int) -> int:
        """Return one word: of the head, or of all."""
        return self._words[word]

    def note_cause(self, trap: int) -> None:
        """Note what the loop does: a trap's number, or 0."""
        self._words[Head.TURN_TRAP] = trap

    def raise_epoch(self) -> None:
        """Make every receiver forget which senders it identified."""
        self._words[Head.BINDING_EPOCH] += 1

    def count(self, counter: Counter, by: int = 1) -> None:
        """Add one to *counter*."""
        self._words[Head.COUNTERS + counter] += by

    def counter(self, counter: Counter) -> int:
        """Return *counter*."""
        return self._words[Head.COUNTERS + counter]

    def count_trap(self, number: int, trap: int) -> None:
        """Count a *trap*, for all and for environment *number*."""
        words = self._words
        words[Head.TURN_TRAP] = trap
        words[Head.COUNTERS + Counter.TRAPS] += 1
        words[(ENVIRONMENTS + number * ENVIRONMENT.size) // 8 + _TRAPS_WORD] += 1

    @contextmanager
    def _writing(self, sequence: Head) -> Iterator[None]:
        self._words[sequence] += 1
        yield
        self._words[sequence] += 1

    def show(self, environment: Shown) -> None:
        """Write the row of *environment*."""
        words, at = self._words, ENVIRONMENTS + environment.number * ENVIRONMENT.size
        row = environment.exposed(words[at // 8 + _TRAPS_WORD])
        words[Head.ENVIRONMENT_SEQUENCE] += 1  # as `_writing`, which costs as much as the rest
        ENVIRONMENT.pack_into(self._buffer, at, *row)
        words[Head.ENVIRONMENT_SEQUENCE] += 1

    def clear(self, number: int) -> None:
        """Empty row *number*."""
        at = ENVIRONMENTS + number * ENVIRONMENT.size
        with self._writing(Head.ENVIRONMENT_SEQUENCE):
            self._buffer[at : at + ENVIRONMENT.size] = bytes(ENVIRONMENT.size)
        self._buffer[BUDGETS + number * BUDGET_ROW :][:BUDGET_ROW] = bytes(BUDGET_ROW)

    def budget_row(self, number: int) -> memoryview:
        """Return the row of environment *number* in the table of budgets: for each item, used and limit."""
        words = BUDGET_ROW // 4
        return self._budgets[number * words : (number + 1) * words]

    def show_thread(self, number: int, row: Sequence[int]) -> None:
        """Write the *row* of thread *number*."""
        with self._writing(Head.THREAD_SEQUENCE):
            THREAD.pack_into(self._buffer, THREADS + number * THREAD.size, *row)

    def show_frames(self, first: int, count: int, user: Shown | None) -> None:
        """Show frames *first*.. as those of *user*, as its number plus one; 0: free."""
        number = user.number + 1 if user is not None else 0
        self._buffer[FRAMES + first * 4 : FRAMES + (first + count) * 4] = number.to_bytes(4, "little") * count

    def show_extent(self, first: int, words: Sequence[int]) -> None:
        """Write the row of the extent that begins at frame *first*."""
        at = first * EXTENT_WORDS
        with self._writing(Head.EXTENT_SEQUENCE):
            self.extents[at : at + len(words)] = array("I", words)

    def owner(self, name: str) -> int:
        """Return the thread *name* is published for, or 0."""
        slot = self._names.get(name)
        return 0 if slot is None else int(NAME.unpack_from(self._buffer, NAMES + slot * NAME.size)[0])

    def check_room(self) -> None:
        """Refuse unless one more name can be published."""
        if not self._free_names:
            raise Refused(Refusal.TABLE_FULL, f"{MAX_NAMES} names are published")

    def publish(self, name: str, thread: int) -> None:
        """Publish *name* for *thread*; 0 withdraws it. Raises Refused when the table is full."""
        slot = self._names.get(name)
        if slot is None:
            if not thread:
                return
            self.check_room()
            slot = self._names[name] = self._free_names.pop()
        self._rename(name, self.owner(name), thread)
        with self._writing(Head.NAME_SEQUENCE):
            NAME.pack_into(self._buffer, NAMES + slot * NAME.size, thread, name.encode() if thread else b"")
        if not thread:
            del self._names[name]
            self._free_names.append(slot)
            if payer := self.payers.pop(name, None):
                payer.release(Item.NAMES)

    def _rename(self, name: str, before: int, now: int) -> None:
        """Note that *name* is *now*'s and no longer *before*'s."""
        if (names := self._names_of.get(before)) is not None:
            names.pop(name, None)
            if not names:
                del self._names_of[before]
        if now:
            self._names_of.setdefault(now, {})[name] = None

    def withdraw(self, thread: int) -> None:
        """Withdraw every name of *thread*."""
        for name in list(self._names_of.get(thread, ())):
            self.publish(name, 0)

    def show_plan(self, processor: int, core: int, plan: Sequence[tuple[Shown, int]]) -> None:
        """Write the plan of *processor*, which is *core* of the host, with nobody running."""
        at = PLANS + processor * PLAN_SIZE
        with self._writing(Head.PLAN_SEQUENCE):
            PLAN_HEAD.pack_into(self._buffer, at, core, len(plan), 0, 0, 0)
            for index, (environment, microseconds) in enumerate(plan):
                offset = at + PLAN_HEAD.size + index * PLAN_SLICE.size
                PLAN_SLICE.pack_into(self._buffer, offset, environment.number, microseconds)

    def show_running(
        self, processor: int, running: Shown | None, interrupted: Shown | None, begun: int
    ) -> None:
        """Show which environment has *processor*, whose slice was interrupted, and how many have *begun*."""
        at = PLANS + processor * PLAN_SIZE + 8
        numbers = [each.number + 1 if each is not None else 0 for each in (running, interrupted)]
        self._buffer[at : at + 8] = (numbers[0] | numbers[1] << 32 | begun << 48).to_bytes(8, "little")

    def descriptor(self) -> "Descriptor":
        """Return the descriptor by which readers map it."""
        return self._page.descriptor(writable=False)

    def close(self) -> None:
        """Free the page."""
        self.extents.release()
        self._budgets.release()
        self._words.release()
        self._page.close()
