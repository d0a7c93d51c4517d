"""Physical RAM of the simulated machine, and the kernel's own pages.

As on the real machine, frames become memory of their own when they are carved (a byte array each), so that
an old mapping in a program can never reach the frames' next owner.
"""

from collections.abc import Sequence

from hwmodel.machine import Deed, do
from hwmodel.simulated.descriptors import Ledger, MemoryTarget, SimulatedDescriptor
from hwmodel.simulated.mmu import JUNK, Region
from kernel.abi.limits import FRAME_SIZE


class SimulatedBacking:
    """The memory of one extent. Implements `hwmodel.machine.Backing`."""

    def __init__(
        self, memory: "SimulatedMemory", first: int, count: int, region: Region, stale: Sequence[int] = ()
    ) -> None:
        """Stand for *count* frames from *first*, whose bytes are in *region*; the *stale* were used before."""
        self._stale = stale
        self._copy: Region | None = None
        self._memory = memory
        self._first = first
        self._count = count
        self._region = region
        self._sealed = False
        self._released = False

    def __repr__(self) -> str:
        """Show the frames."""
        return f"<backing of {self._first}+{self._count}>"

    @property
    def data(self) -> bytearray:
        """The bytes, for devices and tests."""
        return self._region.data

    def descriptor(self, *, writable: bool) -> SimulatedDescriptor:
        """Return a descriptor by which to map it."""
        self._memory.ledger.calls.make("dup" if writable else "open")
        return SimulatedDescriptor(self._memory.ledger, MemoryTarget(self._region), writable=writable)

    def word(self, at: int) -> int | None:
        """Return the 64-bit word at byte *at*; None: it is being taken, or a call failed."""
        if self._memory.ledger.calls.ask("pread") or self._region.revoked:
            return None
        start = self._region.start + at
        return int.from_bytes(self._region.data[start : start + 8], "little")

    def fill(self) -> Deed:
        """Overwrite what frames used before still hold."""
        self._memory.ledger.calls.make("pwrite")
        yield
        for frame in self._stale:
            self._region.data[frame * FRAME_SIZE : (frame + 1) * FRAME_SIZE] = bytes([JUNK]) * FRAME_SIZE

    def copy(self) -> Deed:
        """Copy the contents to new memory."""
        self._memory.ledger.calls.make("memfd_create", "ftruncate", "pwrite")
        yield
        self._copy = self._region.copy()

    @property
    def copied(self) -> bool:
        """Whether there is a copy, for `replace`."""
        return self._copy is not None

    def forget_copy(self) -> None:
        """Free the copy."""
        self._copy = None

    def replace(self) -> Deed:
        """Become the copy, or empty, and take the old memory from all who have it mapped."""
        yield
        old = self._region
        self._region, self._copy = self._copy or old.copy(empty=True), None
        old.revoke(stays=old.size < len(old.data))

    def split(self, page: int) -> "tuple[SimulatedBacking, Deed, Deed]":
        """Return memory for the pages from *page* on, what copies them there, and what takes them from all.

        It has the frames that are behind, which are none where there are fewer than pages.
        """
        self._memory.ledger.calls.make("memfd_create", "ftruncate")
        kept = min(page, self._count)
        made = SimulatedBacking(self._memory, self._first + kept, self._count - kept, self._region)
        return made, self._copied_behind(), self._split(made, page)

    def _copied_behind(self) -> Deed:
        self._memory.ledger.calls.make("pwrite")
        yield

    def _split(self, made: "SimulatedBacking", page: int) -> Deed:
        yield
        made.take(self._region.split(page * FRAME_SIZE))
        self._count = min(page, self._count)

    def take(self, region: Region) -> None:
        """Be the memory of *region*, and have its frames."""
        self._region = region
        self._memory.assign(self._first, self._count, self)

    def seal(self) -> tuple[SimulatedDescriptor, Deed]:
        """Become new, empty memory that nobody can cut; the deed takes the old from all. Raises Exhausted."""
        self._memory.ledger.calls.make("memfd_create", "ftruncate", "dup")
        cut = self._renew(sealed=True)
        return SimulatedDescriptor(self._memory.ledger, MemoryTarget(self._region)), cut

    def unseal(self) -> None:
        """Become new, empty memory that can be taken back; sealed memory is left to those who have it mapped."""
        do(self._renew(sealed=False))

    def _renew(self, *, sealed: bool) -> Deed:
        old, was_sealed = self._region, self._sealed
        self._region, self._sealed = Region(len(old.data)), sealed
        return _leave(old, was_sealed)

    def release(self) -> Deed:
        """Take the memory from all who have it mapped, unless it is sealed, and free it."""
        yield
        if not self._released:
            self._released = True
            self._memory.free(self._first, self._count, self)
            yield from _leave(self._region, self._sealed)

    def punch(self, first: int, count: int) -> Deed:
        """Take pages from everybody who has them mapped."""
        self._memory.ledger.calls.make("fallocate")
        yield
        self._region.punch(range(first, first + count))


def _leave(region: Region, is_sealed: bool) -> Deed:  # noqa: FBT001 - as its owner has it
    yield
    if not is_sealed:
        region.revoke()


class SimulatedMemory:
    """Numbered frames. Implements `hwmodel.machine.Memory`."""

    def __init__(self, frames: int, ledger: Ledger) -> None:
        """Make RAM of *frames* frames, none used before."""
        self._frames = frames
        self._used = bytearray(frames)
        self._carved: dict[int, SimulatedBacking] = {}
        self.ledger = ledger

    @property
    def frames(self) -> int:
        """The number of frames."""
        return self._frames

    def carve(self, first: int, count: int, *, zero: bool, pages: int = 0) -> SimulatedBacking:
        """Make frames *first*.. into memory of its own: zeros, or what `fill` makes of it."""
        if first < 0 or count < 1 or first + count > self._frames:
            raise ValueError(f"frames {first}+{count} are not inside RAM")
        if not self._carved.keys().isdisjoint(range(first, first + count)):
            raise ValueError(f"frames {first}+{count} are in use: the kernel's accounts are wrong")
        self.ledger.calls.make("memfd_create", "ftruncate")
        region = Region((pages or count) * FRAME_SIZE)
        stale = [frame for frame in range(count) if self._used[first + frame]] if not zero else []
        self._used[first : first + count] = b"\1" * count
        backing = SimulatedBacking(self, first, count, region, stale)
        self.assign(first, count, backing)
        return backing

    def free(self, first: int, count: int, backing: SimulatedBacking) -> None:
        """Take frames back from *backing*."""
        for frame in range(first, first + count):
            if self._carved.pop(frame, None) is not backing:
                raise ValueError(f"frame {frame} was not {backing!r}'s")

    def assign(self, first: int, count: int, backing: SimulatedBacking) -> None:
        """Let frames be those of *backing*."""
        self._carved.update(dict.fromkeys(range(first, first + count), backing))

    def carved(self) -> int:
        """Return how many frames are in use."""
        return len(self._carved)

    def frames_in_use(self) -> list[int]:
        """Return the numbers of the frames in use."""
        return sorted(self._carved)


class SimulatedPage:
    """Memory of the kernel that programs may map. Implements `hwmodel.machine.Page`."""

    def __init__(self, name: str, size: int, ledger: Ledger) -> None:
        """Make *size* zeroed bytes. Raises Exhausted."""
        ledger.calls.make("memfd_create", "ftruncate", "mmap")
        self.name = name
        self._ledger = ledger
        self._region = Region(size)
        self._buffer = self._region.map(size, writable=True).take()

    @property
    def buffer(self) -> memoryview:
        """The bytes, writable."""
        return self._buffer

    def descriptor(self, *, writable: bool) -> SimulatedDescriptor:
        """Return a descriptor by which to map it."""
        self._ledger.calls.make("dup" if writable else "open")
        return SimulatedDescriptor(self._ledger, MemoryTarget(self._region), writable=writable)

    def close(self) -> None:
        """Free it. Those who have it mapped keep it, as with a host file that was closed."""
        self._buffer.release()
