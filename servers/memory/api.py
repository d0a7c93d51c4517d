"""The operations of the memory server."""

import msgspec

from libexo.extent import Extent, Ram
from libexo.ipc.message import MapItem
from libexo.nouns import FrameNumber, Frames, Pages, ThreadId
from libexo.stub import Interface, operation


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


class Memory(Interface, label=0x42, name="memory"):
    """Allocation of RAM."""

    @operation(1)
    def allocate(self, pages: Pages, first: FrameNumber = -1) -> Extent:
        """Return an extent of zeroed memory, all the caller's: *pages* frames, from frame *first* or anywhere.

        A program's quota is its family's: the first program and all its descendants share it.
        Fails with OutOfMemory (nothing that large is free, or left for the caller's family), QuotaExceeded,
        FrameBusy (*first* is taken).
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
        refused with OVER_LIMIT, and the caller asks again. Fails with OutOfMemory, QuotaExceeded: then nothing
        is promised.
        """

    def free(self, extent: Extent) -> None:
        """Give *extent* back. Needs no server: with its last capability its frames go back to RAM."""
        self.environment.sys.drop(extent.handle)

    def share(self, extent: Extent, *, writable: bool = False) -> MapItem:
        """Return the item of a message by which its receiver may map *extent* too. Needs no server either."""
        return MapItem(extent.handle, extent.rights if writable else extent.read_only().rights)
