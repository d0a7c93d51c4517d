"""Paged objects: extents whose pages appear when they are touched, from their pager.

What the kernel knows of a page is in its own records (`PageState`), and never what the memory holds: whoever maps
an object without telling makes pages of zeros in it. A page that is not *supplied* is a message to the pager, be
there something or not. What is supplied is shown to who touches it, write-protected, so that the first write is
noticed.

A *window* is a mapping the kernel knows: faults in it are its own to answer. A window whose capability was lost is
*closed*: it stays watched, so that its program finds a bus error there and never zeros.

The pager is whoever holds the capability that the object was made with.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hwmodel.machine import Exhausted
from hwmodel.pieces import Pieces
from kernel.abi.errors import Refusal
from kernel.abi.events import Event
from kernel.abi.ids import show_thread
from kernel.abi.kip import EXTENT_WORDS, ExtentWord
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.traps import PageState, Protection
from kernel.capability import Capability
from kernel.errors import Refused
from kernel.frames import Extent

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from hwmodel.machine import AddressSpace, Backing, Deed
    from kernel.abi.ids import ThreadId
    from kernel.capability import Holder, Table
    from kernel.environment import Environment
    from kernel.frames import Frames
    from kernel.jobs import Steps

SUPPLIED, WRITTEN, GUARDED, IDLE = (int(state) for state in PageState)
_AFTER = {
    Protection.CLEAN: bytes(state & ~WRITTEN for state in range(256)),
    Protection.GUARD: bytes(state | GUARDED if state & SUPPLIED else state for state in range(256)),
    Protection.AGE: bytes(state | IDLE if state & SUPPLIED else state for state in range(256)),
}
"""What each state is after Protect said that."""
_SHOWN = bytes(state & ~(GUARDED | IDLE) | SUPPLIED for state in range(256))
"""What each state is after Supply."""
_THERE = bytes(state for state in range(256) if state & SUPPLIED)


@dataclass(slots=True, eq=False)
class Window:
    """Pages of an object, from *first* on, as a program has them mapped at *address*, by a right (*capability*)."""

    object: "Object | None"
    """None: it is closed."""
    capability: Capability
    environment: "Environment"
    space: "AddressSpace"
    address: int
    first: int
    count: int
    closed: "dict[Window, None]" = field(default_factory=dict)
    """Then it is among these, until the memory is cut."""
    pager: str = ""
    """By whom it was paged."""
    moves: bool = False
    """That is about to happen: an access waits for it."""
    waits: dict[int, None] = field(default_factory=dict)
    """Pages of the object that are waited for in it."""

    def __contains__(self, page: int) -> bool:
        """Say whether *page* of the object is in it."""
        return self.first <= page < self.first + self.count

    def span(self, first: int, count: int) -> tuple[int, int]:
        """Return address and size of what is in it of a run of pages; the size may be 0."""
        low, high = max(first, self.first), min(first + count, self.first + self.count)
        return self.address + (low - self.first) * FRAME_SIZE, max(high - low, 0) * FRAME_SIZE

    def at(self, page: int) -> int:
        """Return the address at which *page* of the object lies, or lay before it was made two."""
        return self.address + (page - self.first) * FRAME_SIZE

    def page(self, address: int) -> int:
        """Return which page of the object lies at *address*."""
        return self.first + (address - self.address) // FRAME_SIZE

    @property
    def whole(self) -> tuple[int, int]:
        """Address and size."""
        return self.address, self.count * FRAME_SIZE


class Waits(Protocol):
    """The page faults that wait, as objects see them."""

    def review(self, thing: "Object", gone: "Container[int] | None" = None) -> None:
        """Whatever faults of *thing* wait for may have changed: look at each again.

        The pager is told anew of pages that are *gone*; None: of all.
        """

    def fail(self, thing: "Object", closed: "dict[Window, None]") -> None:
        """Nobody will answer the faults of *thing* in these windows."""

    def divide(self, window: Window, page: int) -> None:
        """Make two of *window*, the second from *page* on."""

    def end(self, window: Window) -> None:
        """The memory of *window* is cut: nobody needs to watch it."""

    def before(self, pager: "Holder") -> "Container[Holder]":
        """Return for whom *pager* may wait, itself included; all, where those are many."""

    def settled(self, windows: "Iterable[Window]") -> "Steps[None]":
        """Wait until all is done that was asked of the address spaces of *windows*."""

    def appoint(self, thing: "Object", before: "Holder | None", after: "Holder | None") -> None:
        """The pager of *thing* is another one."""


class Terms(NamedTuple):
    """What an object is made with."""

    pages: int
    patience: int
    """How many ns a fault waits for the pager."""
    thread: "ThreadId"
    """Which thread of the pager is told."""


class Object(Extent):
    """A paged object."""

    def __init__(
        self,
        frames: "Frames",
        first: int,
        count: int,
        backing: "Backing",
        ram: Capability | None,
        *,
        terms: Terms,
        waits: Waits,
    ) -> None:
        """Start with every page absent."""
        super().__init__(frames, first, count, backing, ram)
        self.pages = terms.pages
        self.pieces = Pieces(backing, terms.pages)
        self.states = bytearray(terms.pages)
        self.patience = terms.patience
        self.thread = terms.thread
        self.resident = 0
        self.leaving = range(0)
        """Pages that are being evicted."""
        self.windows: dict[Window, None] = {}
        self._closed: dict[Window, None] = {}
        """Those that await that the memory is cut."""
        self.pager: Holder | None = None
        """Who is told of faults."""
        self.pager_name = ""
        """Who that is, or was last."""
        self._waits = waits

    def __repr__(self) -> str:
        """Show run and pages."""
        return f"<Object {self.first}+{self.count} of {self.pages} pages>"

    def own(self, capability: Capability | None) -> None:
        """Let the holder of *capability* be its pager."""
        before, self.owner = self.pager, capability
        self.pager = after = capability.holder if capability is not None else None
        if after is not None:
            self.pager_name = f"{after.name} ({show_thread(after.thread)})"
        self.show()
        self._waits.appoint(self, before, after)

    def is_shared(self) -> bool:
        """Say yes: what is paged cannot be memory of a ring."""
        return True

    # ---------------------------------------------------------------------------------------------- its pages

    def supply(self, first: int, count: int) -> None:
        """Believe what is in the pages. Raises Refused when they are more than it has frames."""
        before = self.states[first : first + count]
        new = len(before.translate(None, _THERE))
        if self.resident + new > self.count:
            said = f"{self.resident} pages and {new} more for {self.count} frames: evict some"
            raise Refused(Refusal.NO_FRAMES, said)
        self.states[first : first + count] = before.translate(_SHOWN)
        self.resident += new
        self._note(Event.SUPPLIED, first, count)

    def _note(self, event: Event, first: int, count: int) -> None:
        """Show how many pages are supplied now, and the *event* that changed it."""
        self._exposure.kip.extents[self.first * EXTENT_WORDS + ExtentWord.RESIDENT] = self.resident + 1
        pager = self.pager.number if self.pager else 0
        self._exposure.trace.record(event, pager, first | count << 32, self.first)

    def protect(self, first: int, count: int, how: int) -> "Steps[bytes]":
        """Do what `traps.Protect` says. Raises Exhausted: then pages are what they were.

        What is said of a page changes first: an access that is noticed before all windows are protected counts.
        """
        if how == Protection.LOOK:
            return bytes(self.states[first : first + count])
        yield from self.lock()
        before = bytes(self.states[first : first + count])
        self.states[first : first + count] = before.translate(_AFTER[Protection(how)])
        failed: list[Exhausted] = []
        for window in list(self.windows):
            address, size = window.span(first, count)
            if size and window.object is self:
                if how == Protection.AGE:
                    window.space.age(address, size, partial(self._aged, window.page(address), failed))
                else:
                    window.space.protect(address, size, failed.append)
                yield None
        yield from self._waits.settled(self.windows)
        self.unlock()
        if failed:
            for page, state in enumerate(before, first):
                self.states[page] = state & ~IDLE | self.states[page] & WRITTEN
            self._waits.review(self, ())
            raise failed[0]
        return before

    def _aged(self, first: int, failed: list[Exhausted], seen: bytes | Exhausted) -> None:
        """Count pages that a program sees still as used: who goes on using them is not noticed."""
        if isinstance(seen, Exhausted):
            failed.append(seen)
            return
        for page, is_seen in enumerate(seen, first):
            self.states[page] &= ~(IDLE * is_seen)

    def evict(self, first: int, count: int) -> "Steps[int]":
        """Make pages absent; return how many, fewer where the host does no more. Raises Exhausted: then none."""
        yield from self.lock()
        self.leaving = range(first, first + count)
        gone, run = set[int](), range(first, first)
        try:
            while run := self._evictable(run.stop):
                run, deed = self.pieces.punch(run)
                kept = self.states[run.start : run.stop]
                there = sum([state & SUPPLIED for state in kept])
                self.states[run.start : run.stop] = bytes(len(run))
                self.resident -= there
                # So that nobody is shown what comes there after.
                yield from self._waits.settled((*self.windows, *self._closed))
                try:
                    yield deed
                except Exhausted:
                    self.states[run.start : run.stop] = kept
                    self.resident += there
                    if not gone:
                        raise
                    break
                gone.update([page for page, state in zip(run, kept, strict=True) if state])
                self._note(Event.EVICTED, run.start, len(run))
        finally:
            self.leaving = range(0)
            self.unlock()
            self._waits.review(self, gone)
        return len(gone)

    def _evictable(self, start: int) -> range:
        """Return the next run of the leaving whose content nobody can have changed since its pager looked.

        To be asked again after each: while one was punched, another may have been written. What is absent is
        punched as well: whoever maps it without a window made pages there.
        """
        found = range(start, start)
        for page in range(start, self.leaving.stop):
            state = self.states[page]
            if state & (WRITTEN | GUARDED) != WRITTEN:
                found = range(found.start if found else page, page + 1)
            elif found:
                break
        return found

    # -------------------------------------------------------------------------------------------- its holders

    def moved(self, capability: Capability, giver: "Table") -> None:
        """The holder is another one; the new pager is told of what waits."""
        super().moved(capability, giver)
        if capability is self.owner:
            self._succeed(capability)

    def inherited(self, heir: "Holder") -> None:
        """The successor is the user now; if it is the pager, it is told of what waits."""
        super().inherited(heir)
        if self.owner is not None and self.owner.holder is heir:
            self._succeed(self.owner)

    def _succeed(self, owner: Capability) -> None:
        """Tell the new pager what is waited for; who it may wait for itself is left out: no circle is closed."""
        circle = self._waits.before(owner.holder)
        self.close([window for window in self.windows if window.environment in circle])
        self.own(owner)
        self.thread = owner.holder.thread
        self._waits.review(self)

    def lost(self, capability: Capability) -> "Steps[None] | None":
        """Close the windows of *capability*, and all when it was the pager's."""
        if capability is self.owner:
            self.own(None)
        self.close([each for each in self.windows if self.owner is None or each.capability is capability])
        return super().lost(capability)

    def close(self, windows: "Iterable[Window]", *, moves: bool = False) -> None:
        """Close these *windows*: who waits there, and comes there, finds a bus error."""
        closed = dict.fromkeys(windows)
        for window in closed:
            del self.windows[window]
            window.object, window.closed, window.moves = None, self._closed, moves
            window.pager = self.pager_name
        self._closed.update(closed)
        self._waits.fail(self, closed)

    def _onto(self, windows: dict[Window, None], pages: range) -> list[Window]:
        """Return those of *windows* that are onto *pages*; one that is onto others, too, is made two."""
        for page in (pages.start, pages.stop):
            for window in [window for window in windows if page in window and page != window.first]:
                self._waits.divide(window, page)
        return [window for window in windows if window.first in pages]

    def move(self, keeper: Capability | None, pages: range) -> "Steps[None]":
        """Let the copy be the memory of *pages*; where the host had no room, the pager is asked for them again."""
        for run in self.pieces.uncopied(pages):
            self.states[run.start : run.stop] = bytes(len(run))
        self.resident = self.pages - self.states.count(0)
        return super().move(keeper, pages)

    def take(self, pages: range, old: "Deed", keeper: Capability | None = None) -> "Steps[None]":
        """Take it likewise; no window shows that, and an access waits until it is done."""
        self.close(self._onto(self.windows, pages), moves=True)
        yield from super().take(pages, old, keeper)
        yield from self._release(pages)

    def free(self) -> "Steps[None]":
        """Take the memory from everybody and give the frames back to RAM."""
        self.close(list(self.windows))
        yield from super().free()
        yield from self._release(range(self.pages))

    def _release(self, pages: range) -> "Steps[None]":
        """The memory of *pages* is cut: nobody needs to watch it."""
        for window in self._onto(self._closed, pages):
            self._closed.pop(window, None)
            self._waits.end(window)
            yield None
