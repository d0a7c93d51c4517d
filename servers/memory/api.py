"""The operations of the memory server, and of the pager beside it."""

from typing import Annotated
from weakref import WeakKeyDictionary

import msgspec

from kernel.abi.limits import MAX_EXTENT_FRAMES, MAX_NAME, MAX_RUN
from libexo.attachment import Attachment
from libexo.errors import RemoteError, TrapRefused
from libexo.extent import Extent, Ram
from libexo.ipc.message import MapItem
from libexo.nouns import FrameNumber, Frames, Grace, Pages, ThreadId
from libexo.stub import Interface, operation

Colours = Annotated[int, msgspec.Meta(ge=1, le=MAX_EXTENT_FRAMES, description="how many colours frames have")]


class Usage(msgspec.Struct, array_like=True):
    """RAM of one environment, in frames."""

    thread: int
    name: str
    frames: int
    quota: int
    family: int = 0
    """The number of its family, which shares the quota; 0: none."""
    promised: int = 0
    """Frames it may still carve by itself. They count against the quota, and can be taken back."""


class Statistics(msgspec.Struct, array_like=True):
    """All of RAM, in frames."""

    total: int
    free: int
    users: list[Usage]


class Taken(msgspec.Struct, array_like=True):
    """An extent that was taken from its holders."""

    first: int
    pages: int
    place: int = -1
    """First frame of the extent that has its contents; -1: they are lost."""


class Pressed(msgspec.Struct, array_like=True):
    """How frames came back that were asked for."""

    frames: int
    """Those the asked have now."""
    given: int
    """Those they gave back by themselves."""
    taken: int
    """Those that were taken from them."""
    spared: int = 0
    """Of those they have, what was not taken because they had named it."""
    extents: list[Taken] = []
    """What was taken, oldest first: 64 extents at most."""


class Pressure(msgspec.Struct, array_like=True):
    """How near the end of memory is."""

    level: int
    """A `libexo.levels.Level`."""
    free: int
    """Frames that are free."""
    low: int
    """When fewer are, programs that have more than their share are asked for some; 0: they never are."""
    high: int
    """So many are to be free then."""
    reserve: int
    """Frames that programs do not get."""
    waiting: int
    """Requests that wait for others to give back."""


class Memory(Interface, label=0x42, name="memory"):
    """Allocation of RAM."""

    @operation(1)
    def allocate(self, pages: Pages, first: FrameNumber = -1) -> Extent:
        """Return an extent of zeroed memory, all the caller's: *pages* frames, from frame *first* or anywhere.

        A program's quota is its family's: the first program and all its descendants share it. For want of frames
        the request waits, seconds at most, while families that have more than their share are pressed; not where
        the caller's would have more than its own. Fails with OutOfMemory (nothing that large is free, or left for
        the caller's family), QuotaExceeded, FrameBusy (*first* is taken).
        """

    @operation(2, repeatable=True)
    def statistics(self) -> Statistics:
        """Return how much each environment has, and what is free."""

    @operation(3, repeatable=True)
    def set_quota(self, thread: ThreadId, frames: Frames) -> None:
        """Let *thread*'s environment have up to *frames*; if it is the first of a family, let the whole family.

        Servers only. Fails with NotAllowed, also for a thread that does not exist.
        """

    @operation(4)
    def ram(self) -> Ram:
        """Return a capability to RAM, through which the caller carves by itself what it is promised.

        All capabilities given to one caller share one limit. With each goes what was carved through it, also if
        others hold it, and they go with the caller: memory that shall outlive it is allocated.
        """

    @operation(5, repeatable=True)
    def promise(self, pages: Frames) -> None:
        """Let the caller carve *pages* frames more by itself; earlier promises are forgotten.

        A promise counts as taken, as an allocation would, but an unused one may be taken back: then carving is
        refused with OVER_LIMIT, and the caller asks again. Fails at once with OutOfMemory, QuotaExceeded: then
        nothing is promised.
        """

    @operation(6, repeatable=True)
    def press(self, thread: ThreadId, frames: Frames, seconds: Grace) -> Pressed:
        """Ask *thread*'s environment, or its family if it is the first of one, to have no more than *frames*.

        After *seconds* what is missing is taken, by the rules of `libexo.pressure`; then this returns. Until then
        they get no more memory. For servers and operators. Fails with NotAllowed, also for a thread that does
        not exist.
        """

    @operation(7)
    def show(self, extent: Extent) -> None:
        """Let the server look at *extent*: a page of rules (`libexo.pressure`), memory to be saved, or its place.

        It is the caller's as before, and no more is shown when it has given it up. Fails with QuotaExceeded,
        NotAllowed (nobody can map it, or another program pages it).
        """

    @operation(8, repeatable=True)
    def taken(self) -> list[Taken]:
        """Return what was taken from the caller since the server started, newest last: 64 extents at most."""

    @operation(9)
    def place(self, pages: Pages, colours: Colours, colour: Frames = 0) -> Extent:
        """Return an extent as `allocate` does, whose first frame has *colour*: its number modulo *colours*.

        Frames of one colour share sets of a cache that has so many colours. With as many colours as pages, a run of
        colour 0 is naturally aligned. Fails as `allocate` does: OutOfMemory where no such run is free.
        """

    @operation(10, repeatable=True)
    def holds(self, thread: ThreadId) -> int:
        """Return how many frames *thread*'s environment has, or its family if it is the first of one.

        It is what `press` counts: also frames that sigma0 keeps for it, and those of memory that a pager swaps
        for it. For servers and operators. Fails with NotAllowed, also for a thread that does not exist.
        """

    @operation(11, repeatable=True)
    def pressure(self) -> Pressure:
        """Return how near the end of memory is, and the marks by which that is told (`libexo.pressure.level`)."""

    @operation(12, repeatable=True)
    def claim(self, pages: Pages) -> None:
        """Promise as `promise` does, to a caller that needs the frames now: it waits as in `allocate`."""

    @operation(13)
    def try_allocate(self, pages: Pages) -> Extent:
        """Allocate as `allocate` does, for what can be done without: it fails at once, and nobody is pressed."""

    def free(self, extent: Extent) -> None:
        """Give *extent* back. Needs no server: with its last capability its frames go back to RAM."""
        self.environment.sys.drop(extent.handle)

    def share(self, extent: Extent, *, writable: bool = False) -> MapItem:
        """Return the item of a message by which its receiver may map *extent* too. Needs no server either."""
        return MapItem(extent.handle, extent.rights if writable else extent.read_only().rights)


LEAST_FRAMES = 8
"""Of a swapped object: one instruction may need as many pages at once, and each new page waits a moment to go."""
MOST_AROUND = 64
_TRIES = 4
"""How often frames are promised anew that were taken back before use."""
SwappedPages = Annotated[int, msgspec.Meta(ge=1, le=MAX_EXTENT_FRAMES, description="how many pages")]
KeptFrames = Annotated[int, msgspec.Meta(ge=1, le=MAX_EXTENT_FRAMES, description="how many frames")]
PolicyName = Annotated[str, msgspec.Meta(max_length=MAX_NAME, description="the name of a policy")]
Around = Annotated[int, msgspec.Meta(ge=1, le=MOST_AROUND, description="how many pages")]
FirstPage = Annotated[int, msgspec.Meta(ge=0, lt=MAX_EXTENT_FRAMES, description="the first page")]
PageRun = Annotated[int, msgspec.Meta(ge=1, le=MAX_RUN, description="how many pages")]
Called = Annotated[str, msgspec.Meta(max_length=MAX_NAME, description="what the caller calls it, or empty")]


class SwappedUsage(msgspec.Struct, array_like=True):
    """One swapped object, and what happened to it since it was made, or the pager was restarted."""

    first: int
    """Number of its first frame, which names it."""
    thread: int
    """The first thread of whom it was made for."""
    pages: int
    frames: int
    resident: int
    """Pages that are in memory."""
    policy: str
    faults: int
    """Pages that were waited for."""
    zeroed: int
    read: int
    """Pages that came from the swap file; with `zeroed`, all that came, what lay around included."""
    evicted: int
    written: int
    """Those of the evicted that had to be written to it."""
    preloaded: int
    """Pages that came before they were touched, since the program had touched them the last time."""
    failed: int
    """Times that the swap file, or the host, failed; each is in the log."""
    stopped: int = 0
    """Writes that waited at a page that is protected, or was about to leave."""


class PagerStatistics(msgspec.Struct, array_like=True):
    """The swap file, in pages, and what is swapped."""

    slots: int
    free: int
    objects: list[SwappedUsage]


class Pager(Interface, label=0x4A, name="pager"):
    """Memory that is larger than the frames it has: what is not in them is zeros, or in the swap file."""

    @operation(1)
    def create(
        self,
        ram: Extent,
        pages: SwappedPages,
        frames: KeptFrames,
        policy: PolicyName,
        around: Around,
        name: Called,
    ) -> Extent:
        """Return memory of *pages*, of which *frames*, carved from *ram*, are there at a time; `paged` calls this.

        *ram* is the caller's, from the memory server: the frames count as the caller's, and go with it. Fails with
        NoSwap, StoreFull, UnknownPolicy, QuotaExceeded, PromiseTaken (promise the frames again), NotCarved.
        """

    @operation(2, repeatable=True)
    def release(self, first: FrameNumber) -> None:
        """Give up the memory whose first frame is *first*. Fails with NotYours."""

    @operation(3, repeatable=True)
    def set_policy(self, first: FrameNumber, policy: PolicyName) -> None:
        """Let another policy decide from now on which page of it leaves. Fails with NotYours, UnknownPolicy."""

    @operation(4, repeatable=True)
    def statistics(self) -> PagerStatistics:
        """Return what is swapped, and how often."""

    @operation(5)
    def clean(self, first: FrameNumber, page: FirstPage, count: PageRun = 1) -> list[int]:
        """Return which of *count* pages were written since this was asked last, or never; no write falls between.

        They are counted from *page*, of the memory whose first frame is *first*. It does not matter whether they
        are in memory. Where the call fails, any may have been written. Fails with NotYours, NoSuchPage.
        """

    @operation(6, repeatable=True)
    def protect(self, first: FrameNumber, page: FirstPage, count: PageRun = 1) -> None:
        """Have the first write to each of *count* pages wait for the pager, which counts it and lets it go on.

        Of those that are in memory; what leaves memory is not protected any more. Fails with NotYours, NoSuchPage.
        """

    @operation(7, repeatable=True)
    def unprotect(self, first: FrameNumber, page: FirstPage, count: PageRun = 1) -> None:
        """Let all writes to *count* pages go on again. Fails with NotYours, NoSuchPage."""

    def paged(
        self, pages: int, frames: int, *, policy: str = "clock", around: int = 16, name: str = ""
    ) -> Extent:
        """Return memory of *pages*, all zeros, of which *frames* are there at a time; they are the caller's frames.

        For one fault up to *around* pages are brought in. What is touched first is remembered under *name* and the
        program's, and is there when that memory is made again. The program must be one that is paged.
        """
        environment, frames = self.environment, min(frames, pages)
        memory = Memory.connect(environment)
        for left in reversed(range(_TRIES)):
            memory.claim(frames)
            ram = _RAM.get(environment)
            if ram is None:
                ram = _RAM[environment] = memory.ram()
            try:
                return self.create(ram, pages, frames, policy, around, name)
            except TrapRefused:  # it was taken, and what was carved through it
                del _RAM[environment]
                if not left:
                    raise
            except RemoteError as error:
                if error.kind != "PromiseTaken" or not left:
                    raise
        raise AssertionError("a loop that returns or raises")


_RAM: "WeakKeyDictionary[Attachment, Ram]" = WeakKeyDictionary()
"""By which each program has frames carved for it: what is carved goes with it, so it is kept."""
