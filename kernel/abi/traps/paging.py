"""Traps on paged objects: extents whose pages appear on demand, from the pager that made them."""

from enum import IntEnum, IntFlag
from typing import Annotated

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.gate import Small, Word
from kernel.abi.ids import ANY_FRAME
from kernel.abi.limits import MAX_EXTENT_FRAMES, MAX_PATIENCE_US, MAX_RUN
from kernel.abi.rights import Kind, Rights
from kernel.abi.trap import HANDLE_REFUSALS, Frame, Trap
from kernel.abi.traps.memory import Carved

PageNumber = Annotated[int, msgspec.Meta(ge=0, lt=MAX_EXTENT_FRAMES)]
PageRun = Annotated[int, msgspec.Meta(ge=1, le=MAX_RUN)]
Patience = Annotated[int, msgspec.Meta(ge=1, le=MAX_PATIENCE_US)]

_REFUSALS = (*HANDLE_REFUSALS, Refusal.BAD_ARGUMENT, Refusal.HOST_FULL)


class PageState(IntFlag):
    """What the kernel knows of one page of an object."""

    SUPPLIED = 1
    """Its pager said what is in it; whatever else is there is not believed."""
    WRITTEN = 2
    """It was written since it was supplied, or since Protect last said CLEAN."""
    GUARDED = 4
    """A write is a fault for its pager."""
    IDLE = 8
    """No access to it was noticed since Protect last said AGE; nor was it supplied since."""


class Protection(IntEnum):
    """What Protect does."""

    LOOK = 0
    """Nothing: it only says what the pages are."""
    CLEAN = 1
    """From now on the next write is noticed, and noted as WRITTEN."""
    GUARD = 2
    """From now on a write waits for the pager, until it supplies the page again, or evicts it."""
    AGE = 3
    """From now on the next access is noticed; until then the page is IDLE.

    It is taken from the view of who maps it, and stays in memory. That works where one program maps it, its pager
    counted: what could not be taken is not IDLE. HOST_FULL: this host does not do that.
    """


class ObjectCreate(Trap, tag=0x53):
    """Carve `count` frames as Carve does, into an object of `pages` pages, all absent.

    At most as many pages as it has frames are there at a time. The caller is its pager, and whoever it is granted
    to after that: it maps the object like an extent, stores what is to be in a page, and then supplies it. `thread`
    of the caller, or its first, is told PAGE_FAULT when a page is touched that is absent or guarded. A page that is
    not supplied within `microseconds` is an access to nothing for whoever touched it: SIGBUS.
    """

    ram: Small
    count: Word
    pages: Annotated[int, msgspec.Meta(ge=1, le=MAX_EXTENT_FRAMES)]
    first: Frame = ANY_FRAME
    microseconds: Patience = 1_000_000
    thread: Word = 0
    result = Carved
    needs = (Kind.RAM, Rights.CONTROL)
    refusals = (
        *_REFUSALS,
        Refusal.NO_FRAMES,
        Refusal.FRAME_BUSY,
        Refusal.OVER_LIMIT,
        Refusal.NO_SUCH_THREAD,
        Refusal.STALE_THREAD,
        Refusal.TABLE_FULL,
        Refusal.OVER_BUDGET,
        Refusal.TOO_DEEP,
    )


class Window(Trap, tag=0x54):
    """Page `count` pages that the caller has mapped at `address`, from page `first` of the object, or part, on.

    By a capability to a part, `first` is counted from where that begins, in all of these traps.

    Without this the kernel does not know of a mapping, and an access to an absent page finds zeros that are in no
    object. With `count` 0 the windows that begin at `address` end: before their memory is unmapped. What is mapped
    there is the caller's affair: who lies sees other pages than others do, and nobody else sees a difference.
    """

    extent: Small
    address: Word
    first: PageNumber = 0
    count: Annotated[int, msgspec.Meta(ge=0, le=MAX_EXTENT_FRAMES)] = 0
    needs = (Kind.EXTENT, Rights.READ)
    refusals = (*_REFUSALS, Refusal.NOT_PAGED, Refusal.TOO_MANY_WINDOWS, Refusal.PAGER_CIRCLE)


class Supply(Trap, tag=0x55):
    """Say that `count` pages from `first` hold what their pager stored, and let go on who waits for them.

    It ends a guard. It is a bus error to touch a page that was supplied, and that nobody stored to.
    One that is `quiet` is not answered: that it was refused is counted, and an event.
    """

    extent: Small
    first: PageNumber
    count: PageRun = 1
    quiet: bool = False
    needs = (Kind.EXTENT, Rights.CONTROL)
    refusals = (*_REFUSALS, Refusal.NO_FRAMES)


class Evict(Trap, tag=0x56):
    """Make `count` pages from `first` absent, for everybody; say how many were supplied, and are not any more.

    That takes what others put into pages that are not supplied, too.

    A page that was written since it was last said to be CLEAN, and is not guarded, stays: no store is lost. So
    guard first, then save what is WRITTEN, then evict. While it is under way its pager stores nothing there; who
    touches such a page meanwhile waits, and the pager is told after.
    """

    extent: Small
    first: PageNumber
    count: PageRun = 1
    result = int
    needs = (Kind.EXTENT, Rights.CONTROL)
    refusals = _REFUSALS


class Protect(Trap, tag=0x57):
    """Say what `count` pages from `first` are, a byte each (`PageState`), as they were before this changes it."""

    extent: Small
    first: PageNumber
    count: PageRun = 1
    how: Annotated[int, msgspec.Meta(ge=0, le=int(max(Protection)))] = 0
    result = bytes
    needs = (Kind.EXTENT, Rights.CONTROL)
    refusals = _REFUSALS
