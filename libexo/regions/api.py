"""What a program asks of the pager of its regions."""

from typing import Annotated

import msgspec

from kernel.abi.limits import MAX_EXTENT_FRAMES
from libexo.extent import Extent
from libexo.nouns import ThreadId
from libexo.stub import Interface, operation
from libexo.vm.window import Advice

Page = Annotated[int, msgspec.Meta(ge=0, lt=MAX_EXTENT_FRAMES)]
Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_EXTENT_FRAMES)]
Region = Annotated[int, msgspec.Meta(ge=0, description="the first frame of its extent")]


class Statistics(msgspec.Struct, array_like=True):
    """What a pager has done since it was started."""

    regions: int = 0
    """That exist."""
    faults: int = 0
    filled: int = 0
    """Pages that came from nowhere: zeros, or what the pager's own `fill` says."""
    copied: int = 0
    """Pages that were copied for a copy of a region."""
    let: int = 0
    """Faults on a page that waited to be written only."""
    taken: int = 0
    """Regions that were taken, because memory was wanted back."""
    lost: int = 0
    """Pages that others lost by that."""


class Regions(Interface, label=0x4B, name="regions"):
    """The regions of one program, and of those that it lets in."""

    @operation(1)
    def make(self, pages: Count) -> Extent:
        """Return a region of *pages*, which is the caller's. Fails with NoRoom, NotYours."""

    @operation(2)
    def copy(self, region: Region, owner: ThreadId = 0) -> Extent:
        """Return a copy of *region* as it is now: the caller's, or that of *owner*'s program, which is let in then.

        A page is copied when one of the two is about to differ: the region is written there, or the copy touched.
        A write that is not in the copy is over only after this has returned: the copy is of one moment.
        Fails with NoSuchRegion, NoRoom, NotYours.
        """

    @operation(3)
    def written(self, region: Region, first: Page, count: Count) -> list[Page]:
        """Return which of the pages were written since they were last said to be clean.

        Fails with NoSuchRegion, NotYours.
        """

    @operation(4)
    def clean(self, region: Region, first: Page, count: Count) -> list[Page]:
        """Return the same, and say that they are clean from now on; no write falls in between."""

    @operation(5)
    def protect(self, region: Region, first: Page, count: Count) -> None:
        """Have the first write to each of the pages ask the pager. Fails with NoSuchRegion, NotYours."""

    @operation(6)
    def unprotect(self, region: Region, first: Page, count: Count) -> None:
        """Have no write to the pages ask any more. Fails with NoSuchRegion, NotYours."""

    @operation(7)
    def advise(self, region: Region, first: Page, count: Count, advice: Advice) -> None:
        """Take a hint. Fails with NoSuchRegion, NotYours."""

    @operation(8)
    def close(self, region: Region) -> None:
        """Give *region* up: a program that still maps it finds bus errors. Fails with NoSuchRegion, NotYours."""

    @operation(9)
    def share(self, region: Region, thread: ThreadId) -> None:
        """Let the program of *thread* ask for what concerns *region*, too. Fails with NoSuchRegion, NotYours."""

    @operation(11, repeatable=True)
    def lost(self, region: Region) -> list[Page]:
        """Return which pages of *region* were lost: what was in them was taken with the region it was copied from.

        They never come: an access to one is a bus error. When they are of no more use (Advice.DONT_NEED) they are
        new. Fails with RegionTaken, NoSuchRegion, NotYours.
        """

    @operation(10, repeatable=True)
    def statistics(self) -> Statistics:
        """Return what was done so far. Fails with NotYours."""
