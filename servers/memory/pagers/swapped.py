"""One swapped object: pages that are zeros until they are written, in fewer frames than there are pages.

A touch of an absent page is answered in steps, one fault of an object after another: make room, read the page or
zeros, supply it. A step that waits, for the store or for a time, is a *request* that the steps yield; meanwhile the
pager serves others. What is done for one object waits for what is done for another only in the queue of the disk.

What is where is said by two things only, and both outlive the pager. The kernel says which pages are there, and
which of them were written. A *mark* a page says whether the store has it (STORED), and whether memory has something
newer that the kernel does not count as written any more (NEWER). What is absent is in the store, or zeros. So
whenever the pager is killed its successor goes on from there, and no store is lost: a page leaves guarded, when it
has been written to the store and is marked. What was written, and its program was not told of yet, is marked, too
(DIRTY).
"""

import os
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from kernel.abi.errors import Refusal
from kernel.abi.limits import FRAME_SIZE, MAX_BATCH, MAX_RUN
from kernel.abi.traps import PageState
from libexo.errors import TrapRefused
from libexo.pager import GRACE, Fault, PagedObject
from servers.memory.pagers.hot import MOST_PAGES, runs
from servers.memory.pagers.slots import Place
from servers.memory.pagers.steps import Request, Steps, Walk
from servers.memory.pagers.uses import Uses
from servers.memory.policies import POLICIES, Handover

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.extent import Extent, Ram
    from servers.memory.pagers.disk import Disk

STORED, NEWER, DIRTY = 1, 2, 4
"""Bits of a mark."""
_SUPPLIED, _WRITTEN, _GUARDED, _ = (int(state) for state in PageState)
PATIENCE = 10.0
"""Seconds that a fault waits for its page."""
_TRIES, _PAUSE = 20, 0.025
"""How often a fault is tried for which the host had no room, or the store failed, and seconds in between."""
_MOST_TRIED = 64
"""Pages that are told to leave for one fault, where the store takes none of them."""
_HANDED_OVER = 256
"""Pages that the next policy takes over in one step: more than come for one fault."""
_SHORTEST_GRACE, _LONGEST_GRACE = int(GRACE * 1e9), 5_000_000
"""Nanoseconds that a page stays at least: at first, and when those that went were touched again at once."""


class Ground(NamedTuple):
    """What all objects of a pager stand on."""

    environment: "Environment"
    disk: "Disk | None"
    after: Callable[[float, Callable[[], object]], None]
    """Calls something in so many seconds."""
    log: Callable[[str], object]


class Counts:
    """What happened to an object."""

    def __init__(self) -> None:
        """Count from zero."""
        self.faults = self.zeroed = self.read = self.written = self.evicted = 0
        self.failed = self.preloaded = self.stopped = 0


class Swapped:
    """An object, its policy, and its pages in the store."""

    def __init__(
        self, ground: Ground, frames: int, policy: str, around: int, place: Place, family: int
    ) -> None:
        """Keep *frames* of its pages in memory, the others at *place* in the store, in the turns of *family*."""
        self.counts = Counts()
        self.around = around
        """Pages that are brought in for one fault, where they lie in a row."""
        self.frames = frames
        self.resident = 0
        self.closed = False
        self.touched: dict[int, None] | None = None
        """Pages in the order in which they came, since one of them was waited for, if that is recorded."""
        self.on_released: Callable[[], object] = lambda: None
        """Called once it is closed and nothing is under way in its slots."""
        self._ground = ground
        self._now = ground.environment.host.now
        self._family = family
        self._place, self._marks = place, place.marks
        self.policy = policy
        """The name of its policy, or of the one that takes over."""
        self._policy = POLICIES[policy](frames)
        self._came = array("Q", bytes(8 * place.pages))
        """When each page came last."""
        self._grace = _SHORTEST_GRACE
        self._next = -1
        """The page behind those that came last."""
        self._written: set[int] = set()
        """Pages that came to be written."""
        self._uses = Uses(frames)
        self._faults: deque[tuple[int, bool, int]] = deque()
        """Pages that are waited for, whether to be written, and how often each was tried."""
        self._ahead: list[range] = []
        self._on_preloaded: Callable[[], object] = lambda: None
        self._changes = False
        """Whether another policy is to take over."""
        self._walk = Walk(self._serve, self.close, self._rested)
        self.paged: PagedObject

    # ------------------------------------------------------------------------------------- its beginning, its end

    def create(self, ram: "Ram", pages: int) -> None:
        """Carve it from *ram*. Raises TrapRefused, OSError."""
        self.paged = PagedObject(
            self._ground.environment, ram, pages, self.frames, self._faulted, patience=PATIENCE
        )
        self._expect_loss()

    def inherit(self, extent: "Extent", *, named: bool) -> None:
        """Go on with that of a predecessor: if it is *named*, what is there counts as touched first.

        Raises TrapRefused, OSError.
        """
        self.paged = PagedObject(self._ground.environment, extent, extent.pages, self.frames, self._faulted)
        for page in range(extent.pages):
            if self.paged.known(page) & _SUPPLIED:
                self._policy.inserted(page)
                self.resident += 1
        if named:
            there = (page for page in range(extent.pages) if self.paged.known(page) & _SUPPLIED)
            self.touched = dict.fromkeys(islice(there, MOST_PAGES))
        self._expect_loss()

    def _expect_loss(self) -> None:
        """Its memory may be taken at any time by whom it was carved for: that ends an object, and no pager."""
        self.paged.expect_loss()

    def close(self) -> None:
        """Give it up. Twice is harmless."""
        if not self.closed:
            self.closed = True
            self._faults.clear()
            with suppress(TrapRefused):  # it was taken
                self.paged.close()
            self._preloaded()
            self._walk.stop()

    def _rested(self) -> None:
        """Nothing is under way any more."""
        self.on_released()

    def set_policy(self, name: str) -> None:
        """Let the policy called *name* go on with the pages that are there, which it takes over in steps."""
        self._changes |= name != self.policy
        self.policy = name
        self._walk.go()

    def _hand_over(self) -> None:
        """Have the next policy take over some pages: what has to wait for that is told by `_changes`."""
        if not isinstance(self._policy, Handover):
            self._policy = Handover(self._policy, POLICIES[self.policy](self.frames))
        if self._policy.step(_HANDED_OVER):
            self._policy = self._policy.after
            self._changes = self._policy.name != self.policy

    def preload(self, ahead: list[range], done: Callable[[], object]) -> None:
        """Bring in pages that will be touched, of an object that nobody has yet; then *done* is called."""
        self._on_preloaded = done
        self._ahead = [run[at : at + MAX_RUN] for run in ahead for at in range(0, len(run), MAX_RUN)]
        self._walk.go()

    def _preloaded(self) -> None:
        """All is brought in that will be, or nothing will be any more."""
        done, self._on_preloaded = self._on_preloaded, lambda: None
        done()

    # ------------------------------------------------------------------------------------- what its program asks

    def clean(self, run: range) -> list[int]:
        """Return which pages of *run* were written since this was asked; no write falls between.

        Raises TrapRefused, as the next two do: then some may be said to be written that were not.
        """
        before = [self._marks[page] for page in run]
        self._mark((page for page in run if self.paged.known(page) & _SUPPLIED), NEWER | DIRTY)
        found = []
        for page, mark, state in zip(run, before, self.paged.clean(run.start, len(run)), strict=True):
            if state & _WRITTEN or mark & DIRTY:
                found.append(page)
            self._marks[page] = (mark | NEWER if state & _WRITTEN else mark) & ~DIRTY
        return found

    def protect(self, run: range) -> None:
        """Have the first write to each page of *run* that is there wait for us."""
        self.paged.guard(run.start, len(run))

    def unprotect(self, run: range) -> None:
        """Let all writes to *run* go on."""
        for part in runs(page for page in run if self.paged.known(page) & _GUARDED):
            self.paged.supply(part.start, b"", len(part))

    # -------------------------------------------------------------------------------------------------- its steps

    def _faulted(self, _: PagedObject, fault: Fault) -> None:
        page = fault.page
        if all(page != waiting for waiting, _, _ in self._faults):
            self.counts.faults += not self.paged.known(page) & _SUPPLIED
            self._faults.append((page, fault.write, 0))
        self._walk.go()

    def _pause(self, seconds: float) -> Request:
        return lambda done: self._ground.after(seconds, partial(done, 0))

    def _serve(self) -> Steps:
        """Answer what is waited for, and bring in what will be."""
        while self._ahead or self._faults or self._changes:
            if self._changes:
                self._hand_over()
            if self._ahead:
                self._bring_ahead()
                if not self._ahead:
                    self._preloaded()
            elif self._faults:
                page, write, tries = self._faults.popleft()
                before = self.counts.failed
                yield from self._attempt(self._answer(page, write=write))
                if self.counts.failed > before and not self.paged.known(page) & _SUPPLIED:
                    yield from self._again(page, tries, write=write)
            if self._ahead or self._faults or self._changes:
                yield self._pause(0)  # others have their turn

    def _attempt(self, steps: Steps) -> Steps:
        """Do *steps*; where the host has no room for them, count that."""
        try:
            yield from steps
        except TrapRefused as refused:
            if refused.refusal == Refusal.STALE_HANDLE:
                raise
            self.counts.failed += 1
            self._ground.log(f"{self.paged.extent!r}: {refused}")

    def _again(self, page: int, tries: int, *, write: bool) -> Steps:
        """Try again a little later, some times."""
        if tries < _TRIES:
            self._faults.append((page, write, tries + 1))
            yield self._pause(_PAUSE)
        else:
            self._ground.log(
                f"{self.paged.extent!r}: page {page} is lost to who waits for it: the store fails"
            )

    def _answer(self, page: int, *, write: bool) -> Steps:
        """Bring *page* in, and with it what lies around, unless it is there."""
        state = self.paged.known(page)
        if state & _SUPPLIED:
            if state & _GUARDED:  # it is protected, or was to leave and could not
                self.counts.stopped += 1
                self.paged.supply(page)
            return
        self._mind(page)
        run = self._run(page)
        yield from self._make_room(len(run))
        room = self.frames - self.resident
        if room > 0:
            first = max(run.start, min(page, run.stop - room))
            run = range(first, min(run.stop, first + room))
            if self.touched is not None and len(self.touched) < min(self.frames, MOST_PAGES):
                self.touched.update(dict.fromkeys(run))
            if write:
                self._written.update(run)
            yield from self._bring(run, page)

    def _mind(self, page: int) -> None:
        """Let pages stay longer if one is touched again as soon as it has gone: it may never have been seen."""
        if self._came[page] and self._now() - self._came[page] < 2 * self._grace:
            self._grace = min(2 * self._grace, _LONGEST_GRACE)
        else:
            self._grace = max(self._grace // 2, _SHORTEST_GRACE)

    def _run(self, page: int) -> range:
        """Return the pages to bring in with *page*: of its block, those that are absent and lie where it does.

        Where others would have to leave for them, only if pages are touched in a row.
        """
        size = self.around
        if page != self._next and self.frames - self.resident < size:
            size = 1
        first = last = page
        stored, known = self._marks[page] & STORED, self.paged.known
        while first % size and not known(first - 1) and self._marks[first - 1] & STORED == stored:
            first -= 1
        end = min(page - page % size + size, self.paged.pages) - 1
        while last < end and not known(last + 1) and self._marks[last + 1] & STORED == stored:
            last += 1
        return range(first, last + 1)

    def _bring(self, run: range, page: int = -1) -> Steps:
        """Supply *run*, whose pages are all in the store or all zeros; *page* of it is what is waited for."""
        if self._marks[run.start] & STORED:
            for part in self._place.side_by_side(run):
                if failed := (yield self._transfer("read", part)):
                    self._store_failed("read", run, failed)
                    return
            self.paged.supply(run.start, b"", len(run))
            self.counts.read += len(run)
        else:
            self.paged.supply(run.start, bytes(len(run) * FRAME_SIZE), len(run))
            self.counts.zeroed += len(run)
        self._note(run, page)
        self._next = run.stop

    def _bring_ahead(self) -> None:
        """Supply some of what will be touched, all zeros, in one crossing into the kernel."""
        some: list[range] = []
        while self._ahead and len(some) < MAX_BATCH and sum(map(len, some)) < MAX_RUN:
            some.append(self._ahead.pop(0))
        for run in some:
            self.paged.store(run.start, bytes(len(run) * FRAME_SIZE))
        for run in self.paged.supply_runs(some):
            self._note(run)
            self.counts.zeroed += len(run)
            self.counts.preloaded += len(run)

    def _note(self, run: range, page: int = -1) -> None:
        """*run* is there now."""
        now = self._now()
        for each in sorted(run, key=page.__eq__):  # what is used now comes last
            self._policy.inserted(each)
            self._came[each] = now
        self.resident += len(run)

    # ------------------------------------------------------------------------------------------------ making room

    def _make_room(self, count: int) -> Steps:
        """Let pages leave until there is room for *count*, or at least for one."""
        yield from self._sample()
        spared: set[int] = set()
        while (excess := self.resident + count - self.frames) > 0:
            victims = self._choose(excess, spared)
            for run in runs(victims):
                yield from self._leave(run)
            spared.update(victims)
            if self.resident < self.frames or len(spared) >= min(self.resident, _MOST_TRIED):
                return
            if not victims:
                oldest = min(self._came[page] for page in self._policy.victims() if page not in spared)
                yield self._pause(max(oldest + self._grace - self._now(), 0) / 1e9)

    def _choose(self, count: int, spared: set[int]) -> list[int]:
        """Return pages that may leave: none that came just now, or who waits for it may never see it."""
        old, found = self._now() - self._grace, []
        for page in dict.fromkeys(self._policy.victims()) if spared else self._policy.victims():
            if self._came[page] <= old and page not in spared and page not in found:
                found.append(page)
                if len(found) == count:
                    break
        return found

    def _leave(self, run: range) -> Steps:
        """Evict *run*; what of it was written is written to the store first."""
        for part in runs(page for page in run if self._seems_clean(page)):
            self._evict(part)  # but for what was written nevertheless
        for part in runs(page for page in run if self.paged.known(page) & _SUPPLIED):
            yield from self._save(part)

    def _seems_clean(self, page: int) -> bool:
        """Say whether to try and evict *page* as it is; one that is guarded would go with what was written."""
        is_guarded = self.paged.known(page) & _GUARDED
        return not is_guarded and page not in self._written and not self._marks[page] & NEWER

    def _save(self, run: range) -> Steps:
        """Guard *run*, write what is newer than in the store, and evict it."""
        states = self.paged.guard(run.start, len(run))
        newer = [
            page
            for page, state in zip(run, states, strict=True)
            if state & _WRITTEN or self._marks[page] & NEWER
        ]
        self._mark((page for page, state in zip(run, states, strict=True) if state & _WRITTEN), DIRTY)
        stays: set[int] = set()
        for part in chain.from_iterable(map(self._place.side_by_side, runs(newer))):
            if failed := (yield self._transfer("write", part)):
                self._store_failed("write", part, failed)
                stays.update(part)
                self.paged.supply(part.start, b"", len(part))  # it ends the guard
            else:
                self._mark(part, STORED)
                self.counts.written += len(part)
        for part in runs(page for page in run if page not in stays):
            self._evict(part)

    def _evict(self, run: range) -> None:
        """Evict what of *run* the kernel lets go."""
        self.paged.evict(run.start, len(run))
        gone = [page for page in run if not self.paged.known(page) & _SUPPLIED]
        for page in gone:
            self._policy.removed(page)
            self._marks[page] &= ~NEWER
        self._written.difference_update(gone)
        self._uses.gone(gone)
        self.resident -= len(gone)
        self.counts.evicted += len(gone)

    def _sample(self) -> Steps:
        """Look which pages were used since the last time, some at a time; where that is not shown, were written."""
        if self._policy.samples:
            for run, there in self._uses.sample(self.paged):
                self._look(run, there)
                yield self._pause(0)  # others have their turn

    def _look(self, run: range, there: list[int]) -> None:
        """Look at *run*: the kernel counts it as not written from then on, so what is *there* is marked first."""
        before = {page: self._marks[page] for page in there}
        self._mark(there, NEWER | DIRTY)
        states = self.paged.clean(run.start, len(run))
        used = self._uses.look(self.paged, run)
        for page in there:
            is_written = states[page - run.start] & _WRITTEN
            if not is_written:
                self._marks[page] = before[page]
            if is_written if used is None else page in used:
                self._policy.referenced(page)

    def _mark(self, pages: Iterable[int], bits: int) -> None:
        for page in pages:
            self._marks[page] |= bits

    def _transfer(self, what: str, run: range) -> Request:
        """Return the request to read, or write, pages that lie side by side in the store."""
        disk = self._ground.disk
        assert disk is not None
        do = disk.read if what == "read" else disk.write
        offset, at, size = (each * FRAME_SIZE for each in (self._place.slot(run.start), run.start, len(run)))
        return partial(do, self._family, offset, self.paged.view, at, size)

    def _store_failed(self, what: str, run: range, number: int) -> None:
        self.counts.failed += 1
        self._ground.log(
            f"the store fails to {what} {len(run)} pages from {run.start}: {os.strerror(number)}"
        )
