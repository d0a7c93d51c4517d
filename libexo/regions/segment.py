"""The pages of one region, in its pager: which are there, where the others come from, which are its copies'.

A *copy* begins without a page. What is not there has an *origin*: the segment that holds its content, at the same
place. A page that is the origin of another is there, and guarded, so that the first write to it is a fault: before
it is let go on, whoever has yet to take the page takes it. A page that is not there when a copy is made is no
origin: the copy's has the same origin as that page. So no chain of copies is longer than one.

The memory of a segment may be taken at any time. What other segments had not yet taken of it is *lost*: such a page
never comes, for nobody knows what is in it, until it is discarded.

Source: L4 and Mach describe copy-on-write of memory objects so; here a copy takes a page when it is first touched,
for two objects share no frames.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import compress
from typing import Protocol

from kernel.abi.limits import FRAME_SIZE, MAX_RUN
from kernel.abi.traps import PageState
from libexo.errors import TrapRefused
from libexo.extent import Extent
from libexo.regions.api import Statistics

AHEAD = 16
"""Pages that are let go on, or copied, for one fault, at most."""
_WRITTEN = int(PageState.WRITTEN)


class Store(Protocol):
    """A paged object (`libexo.pager.PagedObject`)."""

    pages: int
    extent: Extent

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


class Ahead:
    """How many pages one fault is answered with: twice as many each time, as long as faults come in a row."""

    def __init__(self) -> None:
        """Begin with one."""
        self._next, self._size = -1, 1

    def run(self, page: int, most: int, pages: int, holds: Callable[[int], object]) -> range:
        """Return the pages from *page* on, of *pages* in all, as far as *holds* is true of each; *most* at most."""
        self._size = min(self._size * 2, most) if page == self._next else 1
        self._next, stop = page + 1, min(page + self._size, pages)
        while self._next < stop and holds(self._next):
            self._next += 1
        return range(page, self._next)


class Segment:
    """The pages of one region."""

    def __init__(self, store: Store, fill: Fill, done: Statistics, ahead: int = AHEAD) -> None:
        """Start with no page there: each is what *fill* says, of *ahead* for one fault at most."""
        self.store = store
        self.fill, self.ahead = fill, ahead
        self._taking, self._letting = Ahead(), Ahead()
        pages, self._all = store.pages, range(store.pages)
        self.there = bytearray(pages)
        """Which pages are supplied."""
        self.guarded = bytearray(pages)
        """At which a write is a fault."""
        self.barrier = bytearray(pages)
        """At which the program wants to be asked first."""
        self.lost = bytearray(pages)
        """Whose content was taken with an origin."""
        self.origins: dict[int, Segment] = {}
        """Where the content of absent pages is; of others it is what `fill` says."""
        self.copies: dict[Segment, int] = {}
        """Whose origin this is, and of how many pages."""
        self.closed = False
        self._done = done

    # -------------------------------------------------------------------------------------------------- faults

    def absent(self, page: int) -> None:
        """Somebody waits for a page that is not there; of what was given up, for ever."""
        if self.closed or self.lost[page]:
            return
        origin = self.origins.get(page)

        def is_like_it(at: int) -> bool:
            return not self.there[at] and not self.lost[at] and self.origins.get(at) is origin

        most = self.ahead if origin is None else AHEAD
        self.take(self._taking.run(page, most, self.store.pages, is_like_it))

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
        needed = bytes([self.origins.get(page) is origin for page in run])
        for part in _runs(needed, range(len(run))):
            self.take(run[part.start : part.stop])

    def let(self, page: int) -> None:
        """Let a guarded page be written, and those behind it: first, copies take what they have not yet."""
        run = self._letting.run(
            page, AHEAD, self.store.pages, lambda at: self.guarded[at] and not self.barrier[at]
        )
        self._let(run)
        self._done.let += 1

    # ------------------------------------------------------------------------------------------------ requests

    def copy(self, to: "Segment") -> None:
        """Let *to*, which is new, be as this is now."""
        for run in _runs(self.there, self._all):
            self._guard(run)
        to.fill, to.ahead = self.fill, self.ahead
        to.lost[:] = self.lost
        to.origins = {**self.origins, **dict.fromkeys(compress(self._all, self.there), self)}
        for origin, pages in Counter(to.origins.values()).items():
            origin.copies[to] = pages

    def protect(self, first: int, count: int) -> None:
        """Have a write to the pages ask first. All are there then: one that comes later is guarded too late."""
        self.need(first, count)
        for run in _runs(self.there, range(first, first + count)):
            self._guard(run)
            self.barrier[run.start : run.stop] = bytes([1]) * len(run)

    def unprotect(self, first: int, count: int) -> None:
        """Ask no more: writes that wait there are let go on."""
        for run in _runs(self.barrier, range(first, first + count)):
            self._let(run)

    def need(self, first: int, count: int) -> None:
        """Have all pages there that are not lost."""
        for run in _runs(self.there, range(first, first + count), 0):
            for kept in _runs(self.lost, run, 0):
                for part in self._of_one_origin(kept):
                    self.take(part)

    def discard(self, first: int, count: int) -> None:
        """Have the pages hold what a new region has there."""
        for run in _runs(self.there, range(first, first + count)):
            self._guard(run)  # who writes there from now on waits, so that nothing that a copy needs is lost
            self._settle(run)
            gone = self.store.evict(run.start, len(run)) == len(run)
            for flags in (self.there, self.guarded, self.barrier):
                flags[run.start : run.stop] = bytes(len(run))
            if not gone:  # the host had no room to take them away
                self.take(run)
        self._forget(range(first, first + count))
        self.lost[first : first + count] = bytes(count)

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
        for run in _runs(self.there, self._all):
            self._settle(run)

    def close(self) -> None:
        """Give it up, once no copy needs a page of it."""
        if not self.closed:
            self.closed = True
            self._forget(self._all)
        if not self.copies:
            self.close_store()

    def taken(self) -> "dict[Segment, list[int]]":
        """Its memory was taken; return which pages others have lost by that."""
        self.closed = True
        self._forget(self._all)
        found = dict[Segment, list[int]]()
        for copy in self.copies:
            found[copy] = [page for page, origin in copy.origins.items() if origin is self]
            for page in found[copy]:
                del copy.origins[page]
                copy.lost[page] = 1
        self.copies.clear()
        self.close_store()
        return found

    # ------------------------------------------------------------------------------------------------- details

    def close_store(self) -> None:
        """Give its memory up, which may have been taken."""
        with suppress(TrapRefused):
            self.store.close()

    def _guard(self, run: range) -> None:
        for part in _parts(run):
            self.store.guard(part.start, len(part))
        self.guarded[run.start : run.stop] = bytes([1]) * len(run)

    def _let(self, run: range) -> None:
        self._settle(run)
        for flags in (self.barrier, self.guarded):
            flags[run.start : run.stop] = bytes(len(run))
        self.store.supply(run.start, count=len(run))

    def _settle(self, run: range) -> None:
        """Have every copy take what it has not yet of *run*."""
        for copy in list(self.copies):
            copy.take_from(self, run)

    def _forget(self, run: range) -> None:
        """What is in *run* does not come from elsewhere any more."""
        for page in run if self.origins else ():
            origin = self.origins.pop(page, None)
            if origin is None:
                continue
            origin.copies[self] -= 1
            if not origin.copies[self]:
                del origin.copies[self]
                if origin.closed and not origin.copies:
                    origin.close_store()

    def _of_one_origin(self, run: range) -> Iterator[range]:
        start = run.start
        for page in run[1:]:
            if self.origins.get(page) is not self.origins.get(start):
                yield range(start, page)
                start = page
        yield range(start, run.stop)


def _runs(flags: bytes | bytearray, pages: range, flag: int = 1) -> Iterator[range]:
    """Yield the runs among *pages* that have *flag*, MAX_RUN at most; what is yielded may be changed meanwhile."""
    at, stop = pages.start, pages.stop
    while (start := flags.find(flag, at, stop)) >= 0:
        at = flags.find(1 - flag, start, min(start + MAX_RUN, stop))
        at = min(start + MAX_RUN, stop) if at < 0 else at
        yield range(start, at)


def _parts(run: range) -> Iterator[range]:
    """Yield *run* in parts that one trap takes."""
    for at in range(0, len(run), MAX_RUN):
        yield run[at : at + MAX_RUN]


def zeros(_page: int, count: int) -> bytes:
    """Fill with zeros."""
    return bytes(count * FRAME_SIZE)
