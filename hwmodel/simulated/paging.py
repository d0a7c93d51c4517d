"""The page table of a simulated program, as far as the kernel pages it.

A memoryview cannot wait, so a program says what it is about to touch (`libexo.host.base.Host.touch`) and then uses
it at once: between two handovers nothing else happens in the whole machine. What the host's MMU does at an access
is done there: a page that is absent or protected is a fault, and the strand waits. A mapping that nobody watches
is not asked: touching it makes a page of zeros in the memory, for everybody, as on the host.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from hwmodel.machine import Exhausted, PageFault
from hwmodel.simulated.calls import HostCalls
from hwmodel.simulated.mmu import BusError, Mapping, Part, Region
from kernel.abi.limits import FRAME_SIZE

FIRST_ADDRESS = 1 << 32
"""Where the first mapping of a program lies; each lies behind the one before it, with a gap."""


_CUT = Region(0)
"""What lies where memory was taken."""


class Waiting:
    """A strand that faulted."""

    def __init__(self, address: int) -> None:
        """Wait for the page at *address*."""
        self.address = address
        self.woken = False


class Watched(NamedTuple):
    """A range of a mapping whose faults are the kernel's."""

    mapping: Mapping
    place: range


class SimulatedSpace:
    """The memory of one body. Implements `hwmodel.machine.AddressSpace`."""

    def __init__(self, calls: HostCalls) -> None:
        """Start with nothing mapped."""
        self.faults: deque[PageFault] = deque()
        """Those the kernel has not heard of."""
        self._calls = calls
        self._next = FIRST_ADDRESS
        self._places: list[tuple[int, Mapping]] = []
        self._watched: list[Watched] = []
        self._seen: dict[int, bool] = {}
        """The pages the program sees, by address, and whether it may write them."""
        self._unasked: set[int] = set()
        """The pages it sees where nobody watches."""
        self._poisoned: set[int] = set()
        self._waiting: list[Waiting] = []
        self._ended = False

    # ------------------------------------------------------------------------------------- the program's side

    def address(self, mapping: Mapping) -> int:
        """Return where *mapping* lies."""
        self._places = [known for known in self._places if known[1].used]
        for address, known in self._places:
            if known is mapping:
                return address
        address, self._next = self._next, self._next + mapping.size + FRAME_SIZE
        self._places.append((address, mapping))
        return address

    def touch(self, mapping: Mapping, offset: int, *, write: bool) -> Callable[[], bool] | None:
        """Access one byte; None: it is there. Otherwise return what to wait for before trying again."""
        address = (self.address(mapping) + offset) // FRAME_SIZE * FRAME_SIZE
        region, at = mapping.find(offset)
        region.check(at + 1)
        if not any(address in each.place for each in self._watched):
            region.present.add(at // FRAME_SIZE)
            region.viewers[self] = None
            self._unasked.add(address)
            return None
        if address in self._poisoned:
            raise BusError(f"the page at {address:#x} is poisoned")
        if address in self._seen and (self._seen[address] or not write):
            return None
        self.faults.append(PageFault(address, write, address in self._seen))
        waiting = Waiting(address)
        self._waiting.append(waiting)
        return lambda: waiting.woken

    def unsee(self, mapping: Mapping, offset: int, size: int) -> None:
        """See the pages only when they are touched again."""
        start = self.address(mapping) + offset
        self._unasked.difference_update(range(start, start + size, FRAME_SIZE))

    def moved(self, mapping: Mapping, part: Part | None = None) -> None:
        """Something else lies where *mapping* is, or *part* of it: nobody watches that."""
        offset, size = part or (0, mapping.size)
        for address in [start + offset for start, known in self._places if known is mapping]:
            self._watched = self._without(address, size)
            self._unsee(range(address, address + size, FRAME_SIZE))
            self._unasked.difference_update(range(address, address + size, FRAME_SIZE))

    def close(self) -> None:
        """The program ended."""
        self._ended = True
        self._unasked.clear()
        for each in list(self._watched):
            self._forget(each)
        self.faults.clear()

    # -------------------------------------------------------------------------------------- the kernel's side

    def watch(
        self, address: int, size: int, done: Callable[[bool | Exhausted], object], *, writable: bool
    ) -> None:
        """Let the faults of a mapping come to the kernel; tell *done* whether there is such a mapping."""
        try:
            done(self._watch(address, size))
        except Exhausted as full:
            done(full)

    def _watch(self, address: int, size: int) -> bool:
        self._calls.make("UFFDIO_REGISTER")
        for start, mapping in self._places:
            if start <= address and address + size <= start + mapping.size and mapping.used:
                self._watched = self._without(address, size)
                self._watched.append(Watched(mapping, range(address, address + size, FRAME_SIZE)))
                for _, region in mapping.laid():
                    region.viewers[self] = None
                return True
        return False

    def unwatch(self, address: int, size: int) -> None:
        """Let nobody watch the range."""
        self._watched = self._without(address, size)
        self._unsee(range(address, address + size, FRAME_SIZE))
        self.wake(address, size)

    def place(
        self, address: int, size: int, failed: Callable[[Exhausted | None], object], *, writable: bool
    ) -> None:
        """Show what is there, and wake who waits; *failed* is told when a page is absent."""
        try:
            is_there, full = self._place(address, size, writable=writable), None
        except Exhausted as exhausted:
            is_there, full = False, exhausted
        if not is_there:
            failed(full)

    def _place(self, address: int, size: int, *, writable: bool) -> bool:
        self._calls.make("UFFDIO_CONTINUE")
        for page in range(address, address + size, FRAME_SIZE):
            found = self._find(page)
            if found is None:
                continue
            region, number = found
            if number not in region.present or region.revoked:
                return False
            self._seen[page] = writable or self._seen.get(page, False)
            self.wake(page, FRAME_SIZE)
        return True

    def protect(self, address: int, size: int, failed: Callable[[Exhausted], object]) -> None:
        """Make writes to the pages faults."""
        try:
            self._calls.make("UFFDIO_WRITEPROTECT")
        except Exhausted as full:
            failed(full)
            return
        for page in range(address, address + size, FRAME_SIZE):
            if page in self._seen:
                self._seen[page] = False

    def age(self, address: int, size: int, told: Callable[[bytes | Exhausted], object]) -> None:
        """Take pages from the program's view that nobody else sees, not from memory."""
        try:
            self._calls.make("process_madvise")
        except Exhausted as full:
            told(full)
            return
        told(bytes(self._is_kept(page) for page in range(address, address + size, FRAME_SIZE)))

    def _is_kept(self, address: int) -> bool:
        """Take a page from the program's view; say whether that was not done."""
        if address not in self._seen or (found := self._find(address)) is None:
            return False
        region, number = found
        if any(viewer is not self and viewer.sees(region, number) for viewer in region.viewers):
            return True
        del self._seen[address]
        return False

    def poison(self, address: int, size: int, failed: Callable[[Exhausted | None], object]) -> None:
        """Make accesses bus errors; *failed* is told when a page is there."""
        try:
            self._calls.make("UFFDIO_POISON")
        except Exhausted as full:
            failed(full)
            return
        pages = range(address, address + size, FRAME_SIZE)
        if not self._seen.keys().isdisjoint(pages):
            failed(None)
            return
        self._poisoned.update(page for page in pages if self._find(page) is not None)
        self.wake(address, size)

    def wake(self, address: int, size: int) -> None:
        """Have who waits try again."""
        for waiting in self._waiting:
            waiting.woken |= address <= waiting.address < address + size
        self._waiting = [waiting for waiting in self._waiting if not waiting.woken]

    def settled(self, done: Callable[[], object]) -> None:
        """Call *done*: what is asked is done at once."""
        done()

    def told(self, pager: object) -> None:
        """Stay: to wake somebody takes no time here."""

    def _find(self, address: int) -> tuple[Region, int] | None:
        """Return the memory at *address*, and which page of it."""
        for mapping, place in self._watched:
            if address in place:
                try:
                    region, at = mapping.find(address - self.address(mapping))
                except BusError:
                    return _CUT, 0
                return region, at // FRAME_SIZE
        return None

    def punched(self, region: Region, pages: range) -> None:
        """See no more what was taken from everybody."""
        for address in [address for page in pages for address in self._addresses(region, page)]:
            self._seen.pop(address, None)
            self._unasked.discard(address)

    def sees(self, region: Region, page: int) -> bool:
        """Say whether the program sees a page."""
        return any(at in self._seen or at in self._unasked for at in self._addresses(region, page))

    def _addresses(self, region: Region, page: int) -> list[int]:
        """Return where a page lies in the program."""
        places = [(start, known) for start, known in self._places if known.used]
        return [
            start + at + page * FRAME_SIZE
            for start, known in places
            for at, each in known.laid()
            if each is region and at + page * FRAME_SIZE < known.size
        ]

    def _forget(self, watched: Watched) -> None:
        self._watched.remove(watched)
        self._unsee(watched.place)

    def _without(self, address: int, size: int) -> list[Watched]:
        """Return what is watched besides the range."""
        return [
            Watched(mapping, part)
            for mapping, place in self._watched
            for part in (
                range(place.start, min(place.stop, address), FRAME_SIZE),
                range(max(place.start, address + size), place.stop, FRAME_SIZE),
            )
            if part
        ]

    def _unsee(self, place: range) -> None:
        self._poisoned.difference_update(place)
        for page in place:
            self._seen.pop(page, None)
