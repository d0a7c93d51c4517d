"""The program that pages regions: started by their program, for it and those that it lets in.

A pager of one's own is a class:

    class Squares(Pager):
        def fill(self, region, page):
            return str(page**2).encode()
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from kernel.abi.errors import Refusal
from kernel.abi.kip import EnvironmentState
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import Rights
from libexo.environment import Environment
from libexo.errors import MemoryTaken, OperationRefused, RemoteError, TrapRefused
from libexo.extent import Extent, Ram
from libexo.pager import Fault, OnFault, PagedObject
from libexo.pressure import on_pressure
from libexo.regions.api import Regions, Statistics
from libexo.regions.segment import AHEAD, Segment, zeros
from libexo.stub import Server
from libexo.vm.window import Advice

PATIENCE = 10.0
"""Seconds a fault waits: as long as the pager is at other work, which guarding a large region is."""
LOOK_AGAIN = 0.5
"""Seconds until it is looked whether those that are served have ended."""
_TRIES = 4
"""How often frames are promised anew, while a promise is taken back before it is used."""
_REMEMBERED = 64
"""Regions that were taken, whose users are told so."""
T = TypeVar("T")
_GIVEN = int(Rights.READ | Rights.WRITE | Rights.TRANSFER)


class RegionRefused(OperationRefused):
    """The base of a region pager's refusals."""


class NoSuchRegion(RegionRefused):
    """There is no such region, or it was given up."""


class NotYours(RegionRefused):
    """The pager serves the program that started it, and those that it lets in."""


class NoRoom(RegionRefused):
    """There is no memory for it."""


class RegionTaken(RegionRefused):
    """Its memory was wanted back, and taken."""


class Pager:
    """What a pager decides: what is in pages that nobody wrote, and who may write where it is asked first."""

    ahead = AHEAD
    """Pages to be filled for one fault, at most, where faults come in a row."""
    patience = PATIENCE
    """Seconds after which a fault that was not answered ends who waits."""

    def fill(self, region: int, page: int) -> bytes:
        """Return what is in *page* of the region that was made as number *region*, from 0."""
        return b""

    def let_write(self, region: int, page: int) -> bool:
        """Say whether a protected page may be written from now on; if not, who writes ends by a bus error."""
        return True

    def lost(self, region: int, pages: list[int]) -> None:
        """Take note that *pages* of region number *region* were taken, because memory was wanted back."""


class Owned:
    """A region, and whose it is."""

    def __init__(self, number: int, segment: Segment, extent: Extent, owner: int) -> None:
        """Be region *number*, of the program whose first thread is *owner*."""
        self.number = number
        self.segment = segment
        self.extent = extent
        self.owner = owner
        """The first thread of the program with which it ends."""
        self.users = {owner}
        """Of the programs that may ask for what concerns it."""


class RegionServer(Regions):
    """Serves `Regions`."""

    def __init__(self, environment: Environment, starter: int, pager: Pager) -> None:
        """Serve the program of thread *starter*, as *pager* decides."""
        self.environment = environment
        self.server = Server(environment, self)
        self._pager = pager
        self._memory = environment.services.memory()
        self._ram: Ram | None = None
        self._regions: dict[int, Owned] = {}
        """By first frame."""
        self._given_up: list[Segment] = []
        """Those of which copies still need pages."""
        self._taken: dict[int, set[int]] = {}
        """Users of those that were taken, by first frame, the last ones."""
        self._made = 0
        self._done = Statistics()
        self._users = {self._program(starter)}
        """First threads of the programs that are served."""
        self.server.after(LOOK_AGAIN, self._look)
        on_pressure(environment, lambda *_: self._sure(self._free_some))

    # ------------------------------------------------------------------------------------------------ requests

    def make(self, pages: int) -> Extent:
        """Make it, of frames of its own."""
        owner, number = self._caller(), self._made
        made = self._new(number, pages, owner)
        self._made += 1
        return made.extent

    def copy(self, region: int, owner: int = 0) -> Extent:
        """Make the copy first, and then, by traps alone, have it be as the region is at that moment."""
        pages = self._find(region).segment.store.pages
        taker = self._program(owner or self.call.sender)
        copy = self._new(self._find(region).number, pages, taker)
        self._users.add(taker)
        try:
            self._sure(lambda: self._find(region).segment.copy(self._living(copy)))
        except TrapRefused as error:  # the host had no room to guard it all
            self._give_up(copy.extent.first)
            raise NoRoom(str(error)) from error
        except RegionRefused:
            self._give_up(copy.extent.first)
            raise
        return copy.extent

    def written(self, region: int, first: int, count: int) -> list[int]:
        """Ask the kernel."""
        return self._sure(lambda: self._part(region, first, count).written(first, count, clean=False))

    def clean(self, region: int, first: int, count: int) -> list[int]:
        """Ask the kernel."""
        return self._sure(lambda: self._part(region, first, count).written(first, count, clean=True))

    def protect(self, region: int, first: int, count: int) -> None:
        """Guard the pages."""
        self._sure(lambda: self._part(region, first, count).protect(first, count))

    def unprotect(self, region: int, first: int, count: int) -> None:
        """Do not ask any more."""
        self._sure(lambda: self._part(region, first, count).unprotect(first, count))

    def advise(self, region: int, first: int, count: int, advice: Advice) -> None:
        """Take the hint."""

        def take() -> None:
            segment = self._part(region, first, count)
            (segment.need if advice == Advice.WILL_NEED else segment.discard)(first, count)

        self._sure(take)

    def lost(self, region: int) -> list[int]:
        """Look for what was taken first."""
        self._lose()
        lost = self._find(region).segment.lost
        return [page for page, is_lost in enumerate(lost) if is_lost]

    def close(self, region: int) -> None:
        """Give it up; what copies still need of it stays until they have it."""
        if self._taken.pop(region, None) is None:
            self._find(region)
            self._give_up(region)

    def share(self, region: int, thread: int) -> None:
        """Serve its program, too."""
        user = self._program(thread)
        self._find(region).users.add(user)
        self._users.add(user)

    def statistics(self) -> Statistics:
        """Return what was counted."""
        self._caller()
        self._done.regions = len(self._regions)
        return self._done

    # ------------------------------------------------------------------------------------------------- details

    def _new(self, number: int, pages: int, owner: int) -> Owned:
        """Return a new region of which no page is there. Raises NoRoom."""
        fault: list[Callable[[Fault], None]] = []
        try:
            store = self._carve(pages, lambda _, told: fault[0](told))
        except NoRoom:
            if not self._sure(self._free_some):
                raise
            store = self._carve(pages, lambda _, told: fault[0](told))
        store.expect_loss()
        extent = store.extent
        if extent.first in self._regions:
            self._lose()  # where it begins another one was until now
        self._taken.pop(extent.first, None)
        is_plain = type(self._pager).fill is Pager.fill
        fill = zeros if is_plain else partial(self._fill, number)
        segment = Segment(store, fill, self._done, self._pager.ahead)
        made = Owned(number, segment, Extent(extent.handle, pages, extent.first, _GIVEN), owner)
        fault.append(partial(self._faulted, made))
        self._regions[extent.first] = made
        return made

    def _carve(self, pages: int, on_fault: OnFault) -> PagedObject:
        """Return a new object. Raises NoRoom."""
        why: Exception | None = None
        for _ in range(_TRIES):
            try:
                self._memory.claim(pages)
                self._ram = self._ram or self._memory.ram()
                return PagedObject(
                    self.environment, self._ram, pages, pages, on_fault, patience=self._pager.patience
                )
            except (RemoteError, OSError) as error:
                why = error
                break
            except TrapRefused as refused:
                why = refused
                if refused.refusal == Refusal.STALE_HANDLE:
                    self._ram = None  # it was taken, with all that was carved from it
                elif refused.refusal != Refusal.OVER_LIMIT:
                    break
        raise NoRoom(f"{pages} pages: {why}") from why

    def _free_some(self) -> int:
        """Have copies take what they still need of what was given up; return how much that frees."""
        needed = self._given_up
        for segment in needed:
            segment.finish()
        self._given_up = [each for each in self._given_up if each.copies]
        return len(needed) - len(self._given_up)

    # ------------------------------------------------------------------------------------- memory that was taken

    def _sure(self, do: Callable[[], T]) -> T:
        """Do it; where memory was taken meanwhile, forget what is lost, and do it again."""
        while True:
            try:
                return do()
            except (TrapRefused, MemoryTaken, ValueError):  # on the simulated machine accesses raise
                if not self._lose():
                    raise

    def _lose(self) -> bool:
        """Forget regions whose memory was taken, and tell of them; say whether there was any."""
        owned = {each.segment: each for each in self._regions.values()}
        segments = [*owned, *self._given_up]
        held = self.environment.sys.inspections([each.store.extent.handle for each in segments])
        gone = [each for each in segments if each.store.extent.handle not in held]
        for segment in gone:
            if (region := owned.pop(segment, None)) is not None:
                del self._regions[region.extent.first]
                self._remember(region)
                self._pager.lost(region.number, list(range(segment.store.pages)))
        self._given_up = [each for each in self._given_up if each not in gone]
        for segment in gone:
            for copy, pages in segment.taken().items():
                self._done.lost += len(pages)
                if copy in owned and pages:
                    self._pager.lost(owned[copy].number, pages)
        self._done.taken += len(gone)
        return bool(gone)

    def _remember(self, region: Owned) -> None:
        """Be able to tell its users what became of it."""
        self._taken[region.extent.first] = region.users
        if len(self._taken) > _REMEMBERED:
            del self._taken[next(iter(self._taken))]

    def _living(self, region: Owned) -> Segment:
        """Return the segment of *region*. Raises RegionTaken."""
        if region.segment.closed:
            raise RegionTaken(f"{region.extent.pages} pages: they were wanted back before they were used")
        return region.segment

    # --------------------------------------------------------------------------------------------- and given up

    def _give_up(self, region: int) -> None:
        if region not in self._regions:
            return  # it was taken
        segment = self._regions.pop(region).segment
        segment.close()
        self._given_up = [each for each in (*self._given_up, segment) if each.copies]

    def _fill(self, number: int, page: int, count: int) -> bytes:
        pieces = [self._pager.fill(number, at)[:FRAME_SIZE] for at in range(page, page + count)]
        return b"".join(piece.ljust(FRAME_SIZE, b"\0") for piece in pieces)

    def _faulted(self, region: Owned, fault: Fault) -> None:
        self._done.faults += 1
        self._sure(lambda: self._bring(region, fault.page))

    def _bring(self, region: Owned, page: int) -> None:
        """Have who waits for *page* go on, if it may."""
        segment = region.segment
        if not segment.there[page]:
            segment.absent(page)
        elif not segment.barrier[page] or self._pager.let_write(region.number, page):
            segment.let(page)

    def _find(self, region: int) -> Owned:
        caller, found = self._caller(), self._regions.get(region)
        if found is None and caller in self._taken.get(region, ()):
            raise RegionTaken(f"the region at frame {region} is gone: its memory was wanted back")
        if found is None:
            raise NoSuchRegion(f"none begins at frame {region}")
        if caller not in found.users:
            raise NotYours(f"the region at frame {region} is another program's, which has not shared it")
        return found

    def _part(self, region: int, first: int, count: int) -> Segment:
        segment = self._find(region).segment
        if first + count > segment.store.pages:
            raise NoSuchRegion(f"pages {first}+{count} of a region of {segment.store.pages}")
        return segment

    def _caller(self) -> int:
        """Return the first thread of the program that asks. Raises NotYours."""
        caller = self._program(self.call.sender)
        if caller not in self._users:
            raise NotYours(f"thread {caller:#x} has no regions here")
        return caller

    def _program(self, thread: int) -> int:
        """Return the first thread of the program of *thread*; 0: it has ended."""
        kip = self.environment.kip
        known = kip.thread(thread)
        row = kip.environment(known.environment) if known is not None else None
        return row.thread if row is not None else 0

    def _look(self) -> None:
        """Forget what was taken, and those that have ended, with their regions; when none is left, end."""
        self._lose()
        kip = self.environment.kip
        rows = {user: kip.environment_of(user) for user in self._users}
        self._users = {user for user, row in rows.items() if row and row.state != EnvironmentState.DEAD}
        for first, region in list(self._regions.items()):
            if region.owner not in self._users:
                self._give_up(first)
        if not self._users:
            self.server.stop()
        self.server.after(LOOK_AGAIN, self._look)


def pager(environment: Environment, starter: int, decisions: type[Pager]) -> None:
    """Serve the program of thread *starter* until it has ended, and all it let in."""
    RegionServer(environment, starter, decisions()).server.run()
