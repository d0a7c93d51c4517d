"""The pager: swapped objects for programs, whose frames are the programs' own.

A program gives a capability to RAM with its request, and the frames are carved through that: so they count as the
program's, and when it ends they are free without the pager's help. The pager has no memory of others, can wait for
the disk and never keeps the memory server waiting, which it asks for nothing once it is up.

What it must know after a restart is in one extent of its own: an estate with the objects, one with hot sets, and a
mark for each slot of the store (`swapped`).
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.ids import show_thread
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import Kind, Rights
from libexo import attach
from libexo.errors import TrapRefused
from libexo.estate import Estate
from libexo.extent import Extent, Ram
from libexo.stub import DEFERRED, Server, publish
from servers.memory.api import LEAST_FRAMES, Memory, Pager, PagerStatistics, SwappedUsage
from servers.memory.pagers.disk import Disk
from servers.memory.pagers.hot import HotSets
from servers.memory.pagers.slots import MOST_PIECES, Piece, Place, Slots, check_left, check_quota
from servers.memory.pagers.swapped import Ground, Swapped
from servers.memory.policies import POLICIES
from servers.memory.policy import QUOTA_DIVISOR, MemoryRefused, QuotaExceeded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernel.abi.traps import Inspection
    from libexo.environment import Environment
    from libexo.kip import EnvironmentRow

MOST_OBJECTS, MOST_OF_FAMILY = 256, 64
"""Objects there may be, and those of one family."""
_ESTATE_FRAMES, _HOT_FRAMES = 32, 16
"""For so many objects, and for hot sets."""
LINES = 10
"""Of the log, a second."""
LOOK_AGAIN = 0.5
"""Seconds until the slots of what was taken are free."""
_LENT = int(Rights.READ | Rights.WRITE | Rights.TRANSFER)
"""What a program may do with its memory: only its pager supplies and evicts."""


class NoSwap(MemoryRefused):
    """There is no swap file."""


class UnknownPolicy(MemoryRefused):
    """No policy has that name."""


class NotYours(MemoryRefused):
    """The caller has no such memory."""


class NoSuchPage(MemoryRefused):
    """The memory has not that many pages."""


class PromiseTaken(MemoryRefused):
    """The frames that were promised are not any more."""


class NotCarved(MemoryRefused):
    """The frames could not be carved."""


class _Kept(msgspec.Struct, array_like=True):
    """What a successor must know of an object."""

    extent: int
    ram: int
    first: int
    pages: int
    frames: int
    policy: str
    around: int
    slots: list[Piece]
    """None: it needs none, for it has as many frames as pages."""
    thread: int
    family: int
    name: tuple[str, str]


_KEPT = msgspec.msgpack.Decoder(list[_Kept])


class PagerServer(Pager):
    """Serves `Pager`."""

    def __init__(self, environment: "Environment") -> None:
        """Go on where a predecessor ended, if there was one."""
        self.environment = environment
        self._sys = environment.sys
        self._backing = environment.host.backing()
        self._slots = Slots(self._backing.size // FRAME_SIZE if self._backing is not None else 0)
        self.server = Server(environment, self)
        self._log = _Log(environment.host.now)
        disk = None if self._backing is None else Disk(self._backing)
        self._ground = Ground(environment, disk, self.server.after, self._log)
        self._objects: list[tuple[_Kept, Swapped]] = []
        """Closed ones too, while anything is under way for them: another may have their frames by then."""
        self._looks = False
        if self._backing is not None:
            self.server.watch(self._backing, self._backing.settle)
        held = self._sys.inspections(self._sys.inventory())
        own = self._open_own(held)
        hot, marks = _ESTATE_FRAMES * FRAME_SIZE, (_ESTATE_FRAMES + _HOT_FRAMES) * FRAME_SIZE
        self._estate, self._marks = Estate(own[:hot]), own[marks:]
        self._hot = HotSets(Estate(own[hot:marks]), self._log)
        self._adopt(held)

    # -------------------------------------------------------------------------------------------- what outlives it

    def _open_own(self, held: "Mapping[int, Inspection]") -> memoryview:
        """Map the extent of a predecessor, known by lacking a right, or a new one."""
        for handle, found in held.items():
            if found.kind == Kind.EXTENT and not found.rights & Rights.TRANSFER:
                return self.environment.views.map(handle)
        pages = _ESTATE_FRAMES + _HOT_FRAMES + -(-self._slots.total // FRAME_SIZE)
        granted = Memory.connect(self.environment).allocate(pages)
        return self.environment.views.map(self._sys.derive(granted.handle, int(Rights.READ | Rights.WRITE)))

    def _adopt(self, held: "Mapping[int, Inspection]") -> None:
        """Go on with the objects of a predecessor; give up what it had not written down."""
        written = self._estate.load()
        known = [kept for kept in _KEPT.decode(written) if kept.extent in held] if written else []
        used = {handle for kept in known for handle in (kept.extent, kept.ram)}
        mine = {found.first for found in held.values() if not found.rights & Rights.TRANSFER}
        for handle, found in held.items():
            if handle not in used and found.first not in mine and found.kind in (Kind.EXTENT, Kind.RAM):
                self._sys.give_up(handle)  # it may be derived from one that is gone
        for kept in known:
            swapped = self._prepared(kept)
            try:
                swapped.inherit(Extent(kept.extent, kept.pages, kept.first), named=bool(kept.name[1]))
            except (TrapRefused, OSError) as error:
                self._log(f"memory of {show_thread(kept.thread)} is lost: {error}")
                continue
            self._slots.mark(kept.slots)
            self._enter(kept, swapped)

    def _prepared(self, kept: _Kept) -> Swapped:
        """Return an object that is about to be made, or inherited."""
        place = Place(kept.slots, self._marks, kept.pages)
        return Swapped(self._ground, kept.frames, kept.policy, kept.around, place, kept.family or kept.thread)

    def _enter(self, kept: _Kept, swapped: Swapped) -> None:
        self._objects.append((kept, swapped))
        swapped.on_released = lambda: self._released(kept, swapped)
        self._look_later()

    def _write_down(self, *more: _Kept) -> None:
        """Store what a successor needs."""
        state = msgspec.msgpack.encode(
            [kept for kept, swapped in self._objects if not swapped.closed] + [*more]
        )
        self._estate.store(state)

    # -------------------------------------------------------------------------------------------------- operations

    def create(self, ram: Extent, pages: int, frames: int, policy: str, around: int, name: str) -> Extent:
        """Carve, remember, bring in what is hot."""
        try:
            return self._create(ram, pages, min(frames, pages), policy, around, name)
        except BaseException:
            self._sys.give_up(ram.handle)
            raise

    def _create(self, ram: Extent, pages: int, frames: int, policy: str, around: int, name: str) -> Extent:
        row = self._caller()
        slots = self._room(row, pages, frames)
        try:
            kept = _Kept(
                0,
                ram.handle,
                0,
                pages,
                frames,
                _known(policy),
                around,
                slots,
                row.thread,
                row.family,
                (row.name, name),
            )
            swapped = self._prepared(kept)
            self._carve(swapped, Ram(ram.handle, frames, 0, _LENT | int(Rights.CONTROL)), pages)
            kept.extent, kept.first = swapped.paged.extent.handle, swapped.paged.extent.first
            try:
                self._write_down(kept)
            except BaseException:
                swapped.close()
                raise
        except BaseException:
            self._slots.give(slots)
            raise
        self._enter(kept, swapped)
        made = Extent(kept.extent, pages, kept.first, _LENT)
        if not name:
            return made
        swapped.touched = {}
        if not (hot := self._hot.pages(kept.name, frames, pages)):
            return made
        swapped.preload(hot, partial(self.call.answer, made))
        later: Extent = DEFERRED
        return later

    def _room(self, row: "EnvironmentRow", pages: int, frames: int) -> list[Piece]:
        """Return so many slots, taken and cleared; none, if none are needed. Raises MemoryRefused."""
        self._look()
        own = [kept for kept, _ in self._objects if kept.family == row.family]
        self._check_objects(len(own) if row.family else -1)
        if frames >= pages:
            return []
        if frames < LEAST_FRAMES:
            raise MemoryRefused(f"{frames} frames for {pages} pages: have at least {LEAST_FRAMES}")
        if self._backing is None:
            raise NoSwap(
                f"{pages} pages in {frames} frames, and no swap file: name a directory as swap in [machine] of the "
                "topology, and let this server hold it"
            )
        found = self._found(own if row.family else [], pages, is_server=not row.family)
        self._slots.mark(found)
        for start, length in found:
            self._marks[start : start + length] = bytes(length)
        return found

    def _check_objects(self, own: int) -> None:
        """Raise QuotaExceeded unless there may be one more of a family that has *own*; -1: of a server."""
        free = MOST_OBJECTS - len(self._objects)
        what = "swapped objects"
        if own >= 0:
            check_quota(what, own, 1, MOST_OF_FAMILY)
            check_left(what, own, 1, free, MOST_OBJECTS)
        elif not free:
            raise QuotaExceeded(f"there are {MOST_OBJECTS} {what}, and can be no more")

    def _found(self, own: list[_Kept], pages: int, *, is_server: bool) -> list[Piece]:
        """Return free slots for a family that has *own*. Raises MemoryRefused."""
        slots, what = self._slots, "pages of the swap file"
        had = sum(length for kept in own for _, length in kept.slots)
        if not is_server:
            check_quota(what, had, pages, slots.total // QUOTA_DIVISOR)
        found = slots.find(pages)
        if not is_server:
            check_left(what, had, pages, slots.free, slots.total)
        pieces = sum(len(kept.slots) for kept in own)
        check_quota("pieces of the swap file", pieces, len(found), MOST_PIECES // QUOTA_DIVISOR)
        check_left("pieces of the swap file", pieces, len(found), MOST_PIECES - slots.pieces, MOST_PIECES)
        return found

    def _carve(self, swapped: Swapped, ram: Ram, pages: int) -> None:
        """Make the object. Raises MemoryRefused."""
        try:
            swapped.create(ram, pages)
        except TrapRefused as refused:
            if refused.refusal == Refusal.OVER_LIMIT:
                raise PromiseTaken(f"{swapped.frames} frames: have them promised again") from refused
            raise NotCarved(str(refused)) from refused
        except OSError as error:
            raise NotCarved(str(error)) from error

    def release(self, first: int) -> None:
        """Close it."""
        self._own(first)[1].close()
        self._write_down()

    def set_policy(self, first: int, policy: str) -> None:
        """Replace it, and remember that."""
        kept, swapped = self._own(first)
        swapped.set_policy(_known(policy))
        kept.policy = policy
        self._write_down()

    def clean(self, first: int, page: int, count: int = 1) -> list[int]:
        """Ask the kernel, and the marks of what left."""
        swapped, run = self._run(first, page, count)
        return swapped.clean(run)

    def protect(self, first: int, page: int, count: int = 1) -> None:
        """Guard them."""
        swapped, run = self._run(first, page, count)
        swapped.protect(run)

    def unprotect(self, first: int, page: int, count: int = 1) -> None:
        """Supply them again."""
        swapped, run = self._run(first, page, count)
        swapped.unprotect(run)

    def statistics(self) -> PagerStatistics:
        """Count."""
        self._look()
        return PagerStatistics(self._slots.total, self._slots.free, list(self._usage()))

    def _usage(self) -> Iterator[SwappedUsage]:
        for kept, swapped in self._objects:
            done = swapped.counts
            yield SwappedUsage(
                kept.first, kept.thread, kept.pages, kept.frames, swapped.resident, swapped.policy,
                done.faults, done.zeroed, done.read, done.evicted, done.written, done.preloaded, done.failed,
                done.stopped,
            )  # fmt: skip

    # ------------------------------------------------------------------------------------------------- its callers

    def _caller(self) -> "EnvironmentRow":
        kip, sender = self.environment.kip, self.call.sender
        row = kip.environment_of(sender)
        if row is None and (thread := kip.thread(sender)) is not None:
            row = kip.environment(thread.environment)
        if row is None:
            raise NotYours("the caller has ended")
        return row

    def _own(self, first: int) -> tuple[_Kept, Swapped]:
        """Return what the caller, or its family, calls so. Raises NotYours."""
        row = self._caller()
        for kept, swapped in self._objects:
            is_kin = row.thread == kept.thread or row.family == (kept.family or -1)
            if kept.first == first and is_kin and not swapped.closed:
                return kept, swapped
        raise NotYours(f"no memory of the caller's begins with frame {first}")

    def _run(self, first: int, page: int, count: int) -> tuple[Swapped, range]:
        """Return memory of the caller's, and pages of it. Raises NotYours, NoSuchPage."""
        kept, swapped = self._own(first)
        if page + count > kept.pages:
            raise NoSuchPage(f"pages {page}+{count} of memory of {kept.pages}")
        return swapped, range(page, page + count)

    # ---------------------------------------------------------------------------------------------- what was taken

    def _look_later(self) -> None:
        if self._objects and not self._looks:
            self._looks = True
            self.server.after(LOOK_AGAIN, self._looked)

    def _looked(self) -> None:
        self._looks = False
        self._look()
        self._look_later()

    def _look(self) -> None:
        """Give up what was taken with the program it was made for."""
        living = [each for each in self._objects if not each[1].closed]
        held = self._sys.inspections([kept.extent for kept, _ in living])
        lost = [swapped for kept, swapped in living if kept.extent not in held]
        for swapped in lost:
            swapped.close()
        if lost:
            self._write_down()

    def _released(self, kept: _Kept, swapped: Swapped) -> None:
        """Nothing is under way for it any more: its slots are free."""
        self._objects.remove((kept, swapped))
        self._slots.give(kept.slots)
        if swapped.touched is not None:
            self._hot.remember(kept.name, swapped.touched, kept.frames)
        self._sys.give_up(kept.ram)


def _known(policy: str) -> str:
    """Return *policy*. Raises UnknownPolicy."""
    if policy not in POLICIES:
        raise UnknownPolicy(f"{policy!r}: there are {', '.join(POLICIES)}")
    return policy


class _Log:
    """Lines for people, some a second: a store that fails fails often."""

    def __init__(self, now: Callable[[], int]) -> None:
        """Read the time by *now*."""
        self._now = now
        self._second = self._lines = 0

    def __call__(self, text: str) -> None:
        second = self._now() // 1_000_000_000
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= LINES:
            print(text, file=sys.stderr, flush=True)
        elif self._lines == LINES + 1:
            print("more of this second is left out", file=sys.stderr, flush=True)


def main() -> None:
    """Serve until the system ends."""
    environment = attach()
    pager = PagerServer(environment)
    if environment.kip.lookup(Pager.default_name) != environment.thread.id:
        publish(environment, Pager.default_name)
    pager.server.run()
