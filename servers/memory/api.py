"""What the memory server does for its callers."""

import msgspec

from libexo.extent import Extent, Ram
from libexo.ipc.message import MapItem
from libexo.nouns import FrameNumber, Frames, Pages, ThreadId
from libexo.stub import Interface, operation


class Usage(msgspec.Struct, array_like=True):
    """What one environment has of RAM, in frames."""

    thread: int
    name: str
    frames: int
    quota: int
    family: int = 0
    """The number of its family, which has the quota together; 0: none."""
    promised: int = 0
    """What it may carve by itself, and has not. It counts against the quota, and can be taken back."""


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

        A program's quota is its family's: who was started first, and all descendants, have it together.
        Fails with OutOfMemory (nothing that large is free, or left for the caller's family), QuotaExceeded,
        FrameBusy (*first* is taken).
        """

    @operation(2, repeatable=True)
    def statistics(self) -> Statistics:
        """Return who has how much."""

    @operation(3, repeatable=True)
    def set_quota(self, thread: ThreadId, frames: Frames) -> None:
        """Let *thread*'s environment have up to *frames*; where it is the first of a family, let all of that.

        Servers only. Fails with NotAllowed, for a thread that is not there as well.
        """

    @operation(4)
    def ram(self) -> Ram:
        """Return a capability to RAM, through which the caller carves by itself what it is promised.

        All that are given to one caller have one limit. With each of them goes what was carved through it, whoever
        has that, and they go with the caller: what shall outlive it is allocated.
        """

    @operation(5, repeatable=True)
    def promise(self, pages: Frames) -> None:
        """Let the caller carve *pages* frames more by itself; what it might have carved before is forgotten.

        A promise counts as taken, as an allocation would, but may be taken back while it is not used: carving is
        refused then with OVER_LIMIT, and the caller asks anew. Fails with OutOfMemory, QuotaExceeded: then nothing
        is promised.
        """

    def free(self, extent: Extent) -> None:
        """Give *extent* back. Needs no server: with its last capability its frames go back to RAM."""
        self.environment.sys.drop(extent.handle)

    def share(self, extent: Extent, *, writable: bool = False) -> MapItem:
        """Return the item of a message by which its receiver may map *extent* too. Needs no server either."""
        return MapItem(extent.handle, extent.rights if writable else extent.read_only().rights)
