"""The pages of one region, in its pager: which are there, where the others come from, which are its copies'.

A *copy* begins without a page. What is not there has an *origin*: the segment that holds its content, at the same
place. A page that is the origin of another is there, and guarded, so that the first write to it is a fault: before
it is let go on, whoever has yet to take the page takes it. A page that is not there when a copy is made is no
origin: the copy's has the same origin as that page. So no chain of copies is longer than one.

Source: L4 and Mach describe copy-on-write of memory objects so; here a copy takes a page when it is first touched,
for two objects share no frames.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from kernel.abi.limits import FRAME_SIZE, MAX_RUN
from kernel.abi.traps import PageState
from libexo.regions.api import Statistics

AROUND = 16
"""Pages that are let go on, or copied, for one fault, at most."""
_WRITTEN = int(PageState.WRITTEN)


class Store(Protocol):
    """A paged object (`libexo.pager.PagedObject`)."""

    pages: int

    def supply(self, page: int, data: bytes | memoryview = b"", count: int = 1) -> None:
        """Store *data* from *page* on, and show *count* pages."""

    def load(self, page: int, count: int = 1) -> bytes:
        """Return what is in pages that are there."""

    def guard(self, page: int, count: int = 1) -> list[PageState]:
        """Have a write wait."""

    def clean(self, page: int, count: int = 1) -> list[PageState]:
        """Have the next write noted; return what the pages were."""

    def states(self, page: int = 0, count: int = 1) -> list[PageState]:
        """Return what pages are."""

    def evict(self, page: int, count: int = 1) -> int:
        """Make pages absent."""

    def close(self) -> None:
        """Give it up."""


Fill = Callable[[int, int], bytes]
"""From a page and a count to what is there where nobody wrote."""


class Segment:
    """The pages of one region."""

    def __init__(self, store: Store, fill: Fill, done: Statistics, around: int = AROUND) -> None:
        """Start with no page there: each is what *fill* says, of *around* for one fault at most."""
        self.store = store
        self.fill, self.around = fill, around
        pages = store.pages
        self.there = bytearray(pages)
        """Which pages are supplied."""
        self.guarded = bytearray(pages)
        """At which a write is a fault."""
        self.barrier = bytearray(pages)
        """At which the program wants to be asked first."""
        self.origins: dict[int, Segment] = {}
        """Where the content of absent pages is; of others it is what `fill` says."""
        self.copies: dict[Segment, int] = {}
        """Whose origin this is, and of how many pages."""
        self.closed = False
        self._done = done

    # -------------------------------------------------------------------------------------------------- faults

    def absent(self, page: int) -> None:
        """Somebody waits for a page that is not there; of what was given up, for ever."""
        if self.closed:
            return
        origin = self.origins.get(page)
        around = AROUND if origin is not None else self.around
        run = _around(
            page, around, self.store.pages, lambda at: not self.there[at] and self.origins.get(at) is origin
        )
        self.take(run)

    def take(self, run: range) -> None:
        """Have *run* there: absent pages of one origin."""
        origin, count = self.origins.get(run.start), len(run)
        if origin is None:
            self.store.supply(run.start, self.fill(run.start, count), count)
            self._done.filled += count
        else:
            self.store.supply(run.start, origin.store.load(run.start, count), count)
            self._done.copied += count
        self.there[run.start : run.stop] = bytes([1]) * count
        self._forget(run)

    def take_from(self, origin: "Segment", run: range) -> None:
        """Have all pages of *run* there whose content is in *origin*."""
        for part in self._runs(lambda at: self.origins.get(at) is origin, run.start, run.stop):
            self.take(part)

    def let(self, page: int) -> None:
        """Let a guarded page be written, and those around: first, copies take what they have not yet."""
        pages = self.store.pages
        run = _around(page, AROUND, pages, lambda at: bool(self.guarded[at] and not self.barrier[at]))
        self._settle(run)
        self.barrier[page] = 0
        self.guarded[run.start : run.stop] = bytes(len(run))
        self.store.supply(run.start, count=len(run))
        self._done.let += 1

    # ------------------------------------------------------------------------------------------------ requests

    def copy(self, to: "Segment") -> None:
        """Let *to*, which is new, be as this is now."""
        for run in self._runs(lambda at: self.there[at]):
            self._guard(run)
        to.fill, to.around = self.fill, self.around
        for page, is_there in enumerate(self.there):
            origin = self if is_there else self.origins.get(page)
            if origin is not None:
                to.origins[page] = origin
                origin.copies[to] = origin.copies.get(to, 0) + 1

    def protect(self, first: int, count: int) -> None:
        """Have a write to the pages ask first. All are there then: one that comes later is guarded too late."""
        self.need(first, count)
        self._guard(range(first, first + count))
        self.barrier[first : first + count] = bytes([1]) * count

    def unprotect(self, first: int, count: int) -> None:
        """Ask no more: the next fault there is let go on."""
        self.barrier[first : first + count] = bytes(count)

    def need(self, first: int, count: int) -> None:
        """Have all pages there."""
        absent = self._runs(lambda at: not self.there[at], first, first + count)
        for run in absent:
            for part in self._of_one_origin(run):
                self.take(part)

    def discard(self, first: int, count: int) -> None:
        """Have the pages hold what a new region has there."""
        for run in self._runs(lambda at: self.there[at], first, first + count):
            self._guard(run)  # who writes there from now on waits, so that nothing that a copy needs is lost
            self._settle(run)
            gone = self.store.evict(run.start, len(run)) == len(run)
            for flags in (self.there, self.guarded, self.barrier):
                flags[run.start : run.stop] = bytes(len(run))
            if not gone:  # the host had no room to take them away
                self.take(run)
        self._forget(range(first, first + count))

    def written(self, first: int, count: int, *, clean: bool) -> list[int]:
        """Return which pages were written since they were said to be clean."""
        ask = self.store.clean if clean else self.store.states
        found: list[int] = []
        for part in _parts(range(first, first + count)):
            states = ask(part.start, len(part))
            found += [page for page, state in zip(part, states, strict=True) if state & _WRITTEN]
        return found

    def finish(self) -> None:
        """Have every copy take what it needs: then what was given up is gone."""
        for run in self._runs(lambda at: self.there[at]):
            self._settle(run)

    def close(self) -> None:
        """Give it up, once no copy needs a page of it."""
        if not self.closed:
            self.closed = True
            self._forget(range(self.store.pages))
        if not self.copies:
            self.store.close()

    # ------------------------------------------------------------------------------------------------- details

    def _guard(self, run: range) -> None:
        for part in _parts(run):
            self.store.guard(part.start, len(part))
        self.guarded[run.start : run.stop] = bytes([1]) * len(run)

    def _settle(self, run: range) -> None:
        """Have every copy take what it has not yet of *run*."""
        for copy in list(self.copies):
            copy.take_from(self, run)

    def _forget(self, run: range) -> None:
        """What is in *run* does not come from elsewhere any more."""
        for page in run:
            origin = self.origins.pop(page, None)
            if origin is None:
                continue
            origin.copies[self] -= 1
            if not origin.copies[self]:
                del origin.copies[self]
                if origin.closed and not origin.copies:
                    origin.store.close()

    def _runs(self, holds: Callable[[int], object], first: int = 0, stop: int = -1) -> Iterator[range]:
        """Yield the runs of pages of which *holds* is true, MAX_RUN at most."""
        stop = self.store.pages if stop < 0 else stop
        start = first
        for page in range(first, stop + 1):
            if page < stop and holds(page) and page - start < MAX_RUN:
                continue
            if page > start:
                yield range(start, page)
            start = page if page < stop and holds(page) else page + 1

    def _of_one_origin(self, run: range) -> Iterator[range]:
        start = run.start
        for page in run[1:]:
            if self.origins.get(page) is not self.origins.get(start):
                yield range(start, page)
                start = page
        yield range(start, run.stop)


def _around(page: int, size: int, pages: int, holds: Callable[[int], bool]) -> range:
    """Return the pages around *page*, of the *size* it is one of, of which *holds* is true without a gap."""
    low = page - page % size
    high = min(low + size, pages)
    first, last = page, page + 1
    while first > low and holds(first - 1):
        first -= 1
    while last < high and holds(last):
        last += 1
    return range(first, last)


def _parts(run: range) -> Iterator[range]:
    """Yield *run* in parts that one trap takes."""
    for at in range(0, len(run), MAX_RUN):
        yield run[at : at + MAX_RUN]


def zeros(_page: int, count: int) -> bytes:
    """Fill with zeros."""
    return bytes(count * FRAME_SIZE)
