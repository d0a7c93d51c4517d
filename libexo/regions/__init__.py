"""Regions: memory of a program that another program of its own pages, so that it can be copied on write.

    pager = regions.start(env)                    # a second program, which waits for our faults
    region = pager.make(pages=64)                 # zeros, each page from its first touch on
    array = numpy.frombuffer(region.view, "f8")   # no copy: it is the memory

    region.clean()
    array[0] = 1
    region.written()                              # [0]: the pages written since, by the host's MMU

    then = region.copy()                          # as it is now, byte for byte, however it is written after

A program that faults sleeps, with its interpreter, so its pager is another process. Only a program that was started
*paged* has regions (`exo run --paged`). A region takes frames for all of its pages when it is made, and so does a
copy: what is saved is the time to copy what neither of them touches.

A class of one's own decides what is in new pages, and is asked before protected ones are written:

    class Squares(regions.Pager):
        def fill(self, region, page):
            return str(page**2).encode()

    pager = regions.start(env, Squares)

System calls do not wait for a page, and on the simulated machine no access does: `touch` first (docs/pagers.md).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Self

from kernel.abi.limits import FRAME_SIZE
from libexo import vm
from libexo.errors import TrapRefused
from libexo.extent import Extent, GrantedExtent
from libexo.process.starting import Child
from libexo.process.starting import start as start_program
from libexo.regions.api import Regions, Statistics
from libexo.regions.server import Pager
from libexo.regions.server import pager as serve
from libexo.vm import Advice

if TYPE_CHECKING:
    from libexo.environment import Environment

__all__ = ["Advice", "Pager", "Region", "RegionPager", "Statistics", "attach", "start"]

PIECE = 64
"""Pages of a piece."""


class RegionPager:
    """The program that pages our regions."""

    def __init__(self, environment: "Environment", name: str, child: Child | None = None) -> None:
        """Stand for the one called *name*, which is *child* if we started it."""
        self.environment = environment
        self.name = name
        self.child = child
        self.ask = Regions.connect(environment, name)
        """Its operations, where there is no method."""

    def make(self, pages: int) -> "Region":
        """Return a new region of *pages*. Raises RemoteError, TrapRefused, OSError."""
        return Region(self, self.ask.make(pages))

    def statistics(self) -> Statistics:
        """Return what it has done so far."""
        return self.ask.statistics()


class Region:
    """Memory of which the pages come from its pager."""

    def __init__(self, pager: RegionPager, extent: Extent) -> None:
        """Map *extent*, which *pager* gave us; if that cannot be, give it up. Raises TrapRefused, OSError."""
        self.pager = pager
        self.extent = extent
        self.pages = extent.pages
        self._environment = pager.environment
        try:
            self.view = vm.map(self._environment, extent)
            """All of it."""
        except BaseException:
            self.drop()
            raise

    def __enter__(self) -> Self:
        """Close it at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def touch(self, offset: int = 0, size: int = 0, *, write: bool = False) -> memoryview:
        """Wait for *size* bytes from *offset* (0: all the rest), to be written if asked; return them."""
        size = size or len(self.view) - offset
        vm.touch(self._environment, self.view, offset, size, write=write)
        return self.view[offset : offset + size]

    def pieces(self, pages: int = PIECE) -> Iterator[memoryview]:
        """Yield all of it, *pages* at a time, so that a system call or the simulated machine can use them."""
        step = pages * FRAME_SIZE
        for offset in range(0, len(self.view), step):
            yield self.touch(offset, min(step, len(self.view) - offset))

    def copy(self) -> "Region":
        """Return a copy of it as it is now; each page is copied when one of the two is about to differ.

        Nothing that is written after this has returned is in it; if a write is not in it, none that came later is.
        Raises RemoteError, TrapRefused, OSError.
        """
        return Region(self.pager, self.pager.ask.copy(self.extent.first))

    def written(self, first: int = 0, count: int = 0) -> list[int]:
        """Return which of *count* pages from *first* (0: all the rest) were written since they were clean."""
        return self.pager.ask.written(self.extent.first, first, count or self.pages - first)

    def clean(self, first: int = 0, count: int = 0) -> list[int]:
        """The same, and from now on they are clean: no write between falls through."""
        return self.pager.ask.clean(self.extent.first, first, count or self.pages - first)

    def protect(self, first: int = 0, count: int = 0) -> None:
        """Have the first write to each page ask the pager's `let_write`."""
        self.pager.ask.protect(self.extent.first, first, count or self.pages - first)

    def unprotect(self, first: int = 0, count: int = 0) -> None:
        """Ask no more."""
        self.pager.ask.unprotect(self.extent.first, first, count or self.pages - first)

    def advise(self, advice: Advice, first: int = 0, count: int = 0) -> None:
        """Say what will be done with the pages."""
        self.pager.ask.advise(self.extent.first, first, count or self.pages - first, advice)

    def close(self) -> None:
        """Give it up: no view or array of it may be used after. Raises BufferError while one is."""
        vm.unmap(self._environment, self.view)
        self.drop()

    def lost(self) -> list[int]:
        """Return which pages were lost, because the region they were to be copied from was taken.

        Raises RemoteError (RegionTaken) where this one was.
        """
        return self.pager.ask.lost(self.extent.first)

    def drop(self) -> None:
        """Give it up, but for the mapping."""
        try:
            self._environment.sys.drop(self.extent.handle)
        except TrapRefused:  # it was taken, as the pager finds out: where it began another one may be by now
            return
        self.pager.ask.close(self.extent.first)

    def given(self, thread: int) -> "Given":
        """Return a copy of it as it is now, for the program of *thread*, which it is to be passed to.

        Raises RemoteError.
        """
        copy = self.pager.ask.copy(self.extent.first, thread)
        return Given(self.pager.name, GrantedExtent(copy.handle, copy.pages, copy.first, copy.rights))

    def passed(self, thread: int) -> "tuple[Callable[..., object], tuple[object, ...]]":
        """Go to the program of *thread*: it is the same memory there. Raises RemoteError."""
        self.pager.ask.share(self.extent.first, thread)
        return attach, (self.pager.name, self.extent)


class Given(NamedTuple):
    """A region for another program: passed to it, it is that program's alone."""

    pager: str
    extent: GrantedExtent

    def passed(self, thread: int) -> "tuple[Callable[..., object], tuple[object, ...]]":
        """Go there."""
        return attach, tuple(self)


def start(
    environment: "Environment", pager: type[Pager] = Pager, *, budget: Mapping[str, int] | None = None
) -> RegionPager:
    """Start a program that pages regions of ours as *pager* decides, a class at the top of its module.

    It ends after we and all it serves have ended. *budget* are limits out of our own; a region takes a handle and a
    descriptor. Raises ValueError, RemoteError.
    """
    child = start_program(environment, serve, environment.first, pager, budget=budget)
    row = environment.kip.environment_of(child.thread)
    assert row is not None
    return RegionPager(environment, row.name, child)


def attach(environment: "Environment", name: str, extent: Extent) -> Region:
    """Return the region of *extent* in a program that was passed it; its pager is called *name*."""
    return Region(RegionPager(environment, name), extent)
