"""Physical RAM: ranges of frames that may be carved, and the extents carved from them.

The kernel knows which frames are free and whose extents the others are. The caller chooses which to take, or gets
those of the smallest run that has room. An extent becomes memory of its own, so a program can map exactly what it
was given. The last capability to an extent takes its frames back to RAM.
"""

from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from hwmodel.machine import Exhausted, do
from hwmodel.pieces import Pieces
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.events import Event
from kernel.abi.ids import ANY_FRAME
from kernel.abi.kip import Head, holders_shown
from kernel.abi.limits import FRAME_SIZE, MAX_EXTENT_FRAMES
from kernel.abi.messages import Label
from kernel.abi.rights import Kind, Rights
from kernel.capability import Capability, Holder, Resource, Table
from kernel.errors import Refused
from kernel.jobs import Latch
from kernel.runs import FreeRuns

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwmodel.machine import Backing, Deed, Descriptor, Machine
    from kernel.budget import Budget
    from kernel.exposure import Exposure
    from kernel.jobs import Steps

    E = TypeVar("E", bound="Extent")
    Make = Callable[..., E]


class Ram(Resource):
    """A range of frames whose holder may carve it. Extents carved from it are derived from it."""

    kind = Kind.RAM

    def __init__(self, first: int, count: int) -> None:
        """Name frames *first* .. *first* + *count* - 1."""
        self.first = first
        self.count = count

    def __repr__(self) -> str:
        """Show the range."""
        return f"<Ram {self.first}+{self.count}>"

    def describe(self) -> tuple[int, int, int, int, str]:
        """Return the range."""
        return self.first, self.count, 0, 0, ""

    def part(self, first: int, count: int) -> "Ram":
        """Return a part of the range; *count* 0 means to its end. Raises Refused."""
        first = self.first if first == ANY_FRAME else first
        count = count or self.first + self.count - first
        if first < self.first or count < 1 or first + count > self.first + self.count:
            raise Refused(Refusal.BAD_ARGUMENT, f"{first}+{count} is not inside {self.first}+{self.count}")
        return Ram(first, count)


class Extent(Resource):
    """A run of frames that was carved: memory of its own."""

    kind = Kind.EXTENT
    resident = -1
    """How many pages are supplied; -1: it is not paged."""

    def __init__(
        self, frames: "Frames", first: int, count: int, backing: "Backing", ram: Capability | None
    ) -> None:
        """Wrap *backing*, the memory of *count* of the *frames* from *first*, carved through *ram*."""
        self._frames = frames
        self._ram = ram
        self._exposure = frames.exposure
        self.first = first
        self.count = self.pages = count
        """Frames; and pages that who maps it has."""
        self.owner: Capability | None = None
        """What makes its holder the pager, if it has one."""
        self.on_lost: Callable[[], None] | None = None
        """Called when an extent that is a ring's memory is lost; nobody may map such an extent."""
        self._backing = backing
        self.pieces = Pieces(backing, self.pages)
        """Its memory: a right is to whole ones (`kernel.parts`)."""
        self._payers: list[Budget] = []
        """Those that pay for pieces behind the first."""
        self._old: Deed | None = None
        """Takes the old memory from all who have it mapped."""
        self._lock: Latch | None = None
        self._capabilities: dict[Capability, None] = {}
        self._holders: dict[Table, int] = {}
        """How many capabilities to it are in each table."""
        self._user: Table | None = None
        self._is_pristine = True
        """It was never lent and holds nothing: freeing it costs nothing."""

    def __repr__(self) -> str:
        """Show the run."""
        return f"<Extent {self.first}+{self.count}>"

    def show(self) -> None:
        """Show how much of it is there, who pages it, and who holds it."""
        held = list(islice(self._capabilities, holders_shown(self.count)))
        holders = [each.holder.number + 1 | int(each.rights) << 16 for each in held]
        pager = self.owner.holder.number + 1 if self.owner is not None else 0
        row = self.count if held else 0, self.pages, self.resident + 1, pager, len(self._capabilities)
        self._exposure.kip.show_extent(self.first, (*row, *holders))

    def describe(self) -> tuple[int, int, int, int, str]:
        """Return the run."""
        return self.first, self.count, 0, 0, ""

    @property
    def root(self) -> Capability | None:
        """The capability from which all others to it were derived; None: there is none any more."""
        return next(iter(self._capabilities), None)

    def span(self, capability: Capability) -> range:
        """Return the pages that *capability* is to."""
        return capability.span or range(self.pages)

    def descriptor(self, capability: Capability, page: int | None = None) -> "Descriptor":
        """Return the descriptor by which *capability* maps the piece with *page*, or all if that is in one."""
        span = self.span(capability)
        backing, piece = self.pieces.at(span.start + (page or 0))
        if page is None and (piece != span or self.locked):
            raise Exhausted
        descriptor = backing.descriptor(writable=bool(capability.rights & Rights.WRITE))
        capability.mapped, self._is_pristine = True, False
        return descriptor

    def word(self, capability: Capability, number: int) -> int | None:
        """Return a word of what *capability* is to; None: it is on the move. Raises Refused."""
        self.check_no_ring()
        if not capability.rights & Rights.READ:
            raise Refused(Refusal.MISSING_RIGHT, f"needs {Rights.READ!r}, has {capability.rights!r}")
        page, at = divmod(8 * number, FRAME_SIZE)
        if page >= len(span := self.span(capability)):
            raise Refused(Refusal.BAD_ARGUMENT, f"word {number} of {len(span) * FRAME_SIZE // 8}")
        backing, piece = self.pieces.at(span[page])
        return None if self.locked else backing.word((span[page] - piece.start) * FRAME_SIZE + at)

    @property
    def user(self) -> Holder | None:
        """The environment its frames are counted to."""
        return self._user.holder if self._user is not None else None

    @property
    def locked(self) -> bool:
        """Whether a job works on its memory."""
        return self._lock is not None

    def settled(self) -> "Steps[None]":
        """Wait until no job works on its memory."""
        while self._lock is not None:
            yield self._lock

    def lock(self) -> "Steps[None]":
        """Wait likewise, and keep other jobs out until `unlock`."""
        yield from self.settled()
        self._lock = Latch()

    def unlock(self) -> None:
        """Let the next job work on it."""
        assert self._lock is not None
        self.pieces.forget_copies()
        latch, self._lock = self._lock, None
        latch.open()

    # ----------------------------------------------------------------------------------- as memory of a ring

    def is_shared(self) -> bool:
        """Say whether there is, or was, more than one capability to it, or is an offer of the one there is."""
        several = len(self._capabilities) > 1 or len(self.pieces) > 1
        return several or any(held.offers() for held in self._capabilities)

    def check_no_ring(self) -> None:
        """Refuse while it is the memory of a ring."""
        if self.on_lost is not None:
            raise Refused(Refusal.RING_MEMORY, f"{self!r} is the ring of a binding")

    def become_ring(self, on_lost: "Callable[[], None]") -> "Descriptor":
        """Become zeroed memory of a binding that nobody can cut; return the descriptor by which one side maps it.

        When its capability is lost, *on_lost* is called.
        `cut` then takes the old memory from those who have it mapped. Raises Exhausted: then nothing has changed.
        """
        descriptor, self._old = self._backing.seal()
        self.on_lost = on_lost
        self._forget_mappings()
        return descriptor

    def cut(self) -> "Steps[bool]":
        """Take the old memory from all who have it mapped; return whether the host could."""
        old, self._old = self._old, None
        try:
            if old is not None and self._is_pristine:
                do(old)
            elif old is not None:
                yield old
        except Exhausted as exhausted:
            self._exposure.log(f"{self!r}: its old memory could not be taken back: {exhausted}")
            return False
        return True

    def ring_descriptor(self) -> "Descriptor":
        """Return the descriptor by which either side of the binding maps it."""
        self._is_pristine = False
        return self._backing.descriptor(writable=True)

    def end_ring(self) -> None:
        """Become an ordinary extent of zeros again. Harmless when it is no ring's."""
        if self.on_lost is not None:
            self.on_lost = None
            self._backing.unseal()
            self._forget_mappings()

    def _forget_mappings(self) -> None:
        """Note that nobody has the memory, which is new, mapped."""
        for capability in self._capabilities:
            capability.mapped = capability.leaked = False

    # ------------------------------------------------------------------------------------------- its holders

    def gained(self, capability: Capability) -> None:
        """Note the holder."""
        self._capabilities[capability] = None
        self._holders[capability.table] = self._holders.get(capability.table, 0) + 1
        self.show()

    def moved(self, capability: Capability, giver: Table) -> None:
        """Note the new holder."""
        self.gained(capability)
        self._forget(giver)

    def inherited(self, heir: Holder) -> None:
        """Make the successor the user."""
        if self.user is heir:
            self._exposure.kip.show_frames(self.first, self.count, heir)
        self.show()

    def lost(self, capability: Capability) -> "Steps[None] | None":
        """Forget the holder; after the last one, the frames go back to RAM, and the binding they served falls."""
        del self._capabilities[capability]
        if not self._capabilities:
            self.account(None)
        self._forget(capability.table)
        return None if self._capabilities else self._end()

    def _forget(self, table: Table) -> None:
        """Count one capability less in *table*; after its last, account the frames to another holder."""
        self._holders[table] -= 1
        if not self._holders[table]:
            del self._holders[table]
            if self._user is table and self._holders:
                self.account(next(iter(self._holders)).holder)
        self.show()

    def _end(self) -> "Steps[None]":
        on_lost, self.on_lost = self.on_lost, None
        yield from self.free()
        if on_lost is not None:
            on_lost()

    def free(self) -> "Steps[None]":
        """Take the memory from everybody and give the frames back to RAM."""
        yield from self.lock()
        while self._payers:
            self._payers.pop().last().release(Item.DESCRIPTORS)
        self._old = self.pieces.release()
        if (yield from self.cut()):  # otherwise the frames are never used again
            self._frames.give_back(self)
            ram, self._ram = self._ram, None
            count_carved(ram, -self.count)
        self.unlock()

    def fill(self) -> "Deed":
        """Overwrite what frames used before still hold, before anybody has them."""
        self._is_pristine = False
        return self._backing.fill()

    def split(self, page: int, least: int, payer: "Budget") -> "Steps[None]":
        """Have a piece of *least* pages or fewer begin at *page*. Raises Refused, Exhausted: then none does."""
        for at in self.pieces.cuts(page, least):
            payer.charge(Item.DESCRIPTORS)
            self._payers.append(payer)
            try:
                behind, made, copying, cutting = self.pieces.split(at)
                yield copying
            except Exhausted:
                self._payers.pop().last().release(Item.DESCRIPTORS)
                raise
            self.pieces.add(at, made)
            yield from self.take(behind, cutting)

    def copy(self, pages: range) -> "Deed":
        """Copy *pages* for `move`, while it is locked. Raises Exhausted: then nothing has changed."""
        return self.pieces.copy(pages)

    def move(self, keeper: Capability | None, pages: range) -> "Steps[None]":
        """Make copies, if there are any, the memory of *pages*, taken from all; holders but *keeper* are told."""
        return self.take(pages, self.pieces.replace(pages), keeper)

    def take(self, pages: range, old: "Deed", keeper: Capability | None = None) -> "Steps[None]":
        """Take the *old* memory of *pages* from all who have it mapped; holders but *keeper* are told."""
        self._old = old
        yield from self.cut()
        yield from self._tell_moved(pages, keeper)

    def _tell_moved(self, pages: range, keeper: Capability | None) -> "Steps[None]":
        """Tell all who have some of *pages* mapped, but *keeper*, that these have new memory."""
        for capability in list(self._capabilities):
            span = self.span(capability)
            moved = range(max(span.start, pages.start), min(span.stop, pages.stop))
            capability.leaked &= moved != span
            if capability.mapped and capability is not keeper and moved:
                capability.mapped = moved != span
                if not capability.taken:
                    words = capability.handle, moved.start - span.start, len(moved)
                    self._exposure.tell(capability.holder, Label.MOVED, words)
            yield None

    def account(self, user: Holder | None) -> None:
        """Show the frames as those of *user* from now on."""
        kip = self._exposure.kip
        for environment, sign in ((self.user, -1), (user, 1)):
            if environment is not None:
                environment.frames += sign * self.count
                environment.budget.hold(Item.DESCRIPTORS, sign)
                kip.show(environment)
        self._user = user.table if user is not None else None
        kip.show_frames(self.first, self.count, user)


class Frames:
    """All frames of the machine."""

    def __init__(self, machine: "Machine", exposure: "Exposure") -> None:
        """Start with every frame of the machine free."""
        self.exposure = exposure
        self._memory = machine.memory
        self.total = self._memory.frames
        self._runs = FreeRuns(self.total)
        self.extents: dict[int, Extent] = {}
        """By their first frames."""

    @property
    def free(self) -> int:
        """How many frames are in no extent."""
        return self._runs.free

    def carve(
        self, through: Capability, count: int, first: int, *, zero: bool, pages: int = 0, make: "Make[E]"
    ) -> "Steps[E]":
        """Have *make* make an extent of free frames of the RAM *through* is to. Raises Refused, Exhausted."""
        ram = through.resource
        assert isinstance(ram, Ram)
        if not 1 <= count <= MAX_EXTENT_FRAMES:
            raise Refused(Refusal.BAD_ARGUMENT, f"{count} frames: an extent has 1..{MAX_EXTENT_FRAMES}")
        count_carved(through, count)
        try:
            at = yield from self._choose(ram, count, first)
            count_carved(through, 0)  # a limit that was lowered meanwhile holds from when it was
            backing = self._memory.carve(at, count, zero=zero, pages=pages)
        except (Refused, Exhausted):
            count_carved(through, -count)
            raise
        self._runs.take(at, count)
        self.exposure.kip.set_head(Head.FREE_FRAMES, self.free)
        extent = self.extents[at] = make(self, at, count, backing, through)
        if not zero:
            try:
                yield extent.fill()
            except Exhausted:
                yield from extent.free()
                raise
        return extent

    def _choose(self, ram: Ram, count: int, first: int) -> "Steps[int]":
        if first != ANY_FRAME:
            ram.part(first, count)
            if not self._runs.covers(first, count):
                raise Refused(Refusal.FRAME_BUSY, f"{first}+{count}")
            return first
        low, high = ram.first, ram.first + ram.count
        while low < high:
            found, low = self._runs.find(count, low, high)
            if found is not None:
                return found
            yield None
        raise Refused(Refusal.NO_FRAMES, f"{count} frames asked for, {self.free} free in all RAM")

    def give_back(self, extent: Extent) -> None:
        """Make the frames of *extent* free again."""
        self._runs.give(extent.first, extent.count)
        del self.extents[extent.first]
        self.exposure.kip.set_head(Head.FREE_FRAMES, self.free)
        self.exposure.trace.record(Event.TOOK, 0, extent.first, Kind.EXTENT)


def count_carved(through: Capability | None, frames: int) -> None:
    """Count *frames* carved *through* a capability to all it was derived from. Raises Refused over a limit."""
    above: list[Capability] = []
    while through is not None and (through := through.parent) is not None:
        if frames >= 0 and through.carved + frames > through.limit:
            raise Refused(
                Refusal.OVER_LIMIT,
                f"{through.carved} of {through.limit} frames carved, {frames} more asked for: "
                "free some first, or ask the giver of the capability for more",
            )
        above.append(through)
    for capability in above:
        capability.carved += frames


def passed_on(given: Capability) -> None:
    """Account an extent to the one its carver gave it to, or that got it whole; sharing it on changes nothing.

    A carver manages all RAM: what others carve from their part of it, and share, stays theirs.
    """
    extent, parent = given.resource, given.parent
    if not isinstance(extent, Extent) or parent is None or given.span is not None:
        return
    whole = isinstance(parent.resource, Ram)
    if whole or (parent.origin == 0 and parent.depth == 1 and parent.parent is not None):
        extent.account(given.holder)
