"""Physical RAM: each extent is a memory file of its own, so that nobody maps more than he was given.

The kernel never maps an extent. A holder may not change its size: growing is sealed off here, shrinking is
refused by the holder's system call filter. Shrinking is not sealed, because it is how the kernel takes
memory back: every holder's next access is then a bus error.

Memory of a ring is *sealed*: it cannot shrink either. Two environments that need not trust one another use it
without asking anybody, so nobody may be able to end the other by a bus error. What cannot be cut cannot be taken
back: when the kernel wants the frames again, it leaves the memory to who has it mapped. It is not emptied either,
for who is reading a message in it would read zeros in its place.
"""

import fcntl
import os
import re

from hwmodel.real.descriptor import RealDescriptor, lendable, own_copy
from kernel.abi.limits import FRAME_SIZE

JUNK = b"\xa5"
"""What a frame that was used before reads as, unless zeros were asked for."""
CHUNK = 1 << 20
SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
ALL_SEALS = SEALS | fcntl.F_SEAL_SHRINK
_junk = memoryview(JUNK * CHUNK)


def memory_file(name: str, size: int, seals: int) -> int:
    """Return the descriptor of a new memory file of zeros that only we may open again."""
    number = lendable(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    try:
        os.fchmod(number, 0o600)
        os.ftruncate(number, size)
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(number)
        raise
    return number


class RealBacking:
    """The memory of one extent; see `hwmodel.machine.Backing`."""

    __slots__ = ("_name", "_number", "_sealed", "_size")

    def __init__(self, first: int, count: int) -> None:
        self._name = f"exo-{first}+{count}"
        self._size = count * FRAME_SIZE
        self._sealed = False
        self._number = memory_file(self._name, self._size, SEALS)

    def descriptor(self, *, writable: bool) -> RealDescriptor:
        """Return a descriptor to map it by; without *writable* it cannot be mapped for writing."""
        return own_copy(self._number, writable=writable)

    def replace(self) -> None:
        """Copy the contents to new memory and take the old from everybody who has it mapped.

        What a holder writes during the copy may or may not be in it. If there is no memory for the copy,
        nothing has changed.
        """
        new = memory_file(self._name, self._size, SEALS)
        try:
            _copy(self._number, new, self._size)
        except BaseException:
            os.close(new)
            raise
        self.release()
        self._number = new

    def seal(self) -> None:
        """Become new, empty memory that nobody can cut; the old is taken from everybody. Raises Exhausted."""
        new = memory_file(self._name, self._size, ALL_SEALS)
        self.release()
        self._number, self._sealed = new, True

    def unseal(self) -> None:
        """Become new, empty memory that can be taken back; the sealed is left to who has it mapped."""
        self.release()  # first: its descriptor is the room for the new one
        self._number = memory_file(self._name, self._size, SEALS)

    def release(self) -> None:
        """Take the memory from everybody who has it mapped, unless it is sealed, and free it.

        Twice is harmless.
        """
        number, self._number = self._number, -1
        sealed, self._sealed = self._sealed, False
        if number < 0:
            return
        if not sealed:
            os.ftruncate(number, 0)
        os.close(number)

    def fill(self, offset: int, size: int) -> None:
        """Write junk over *size* bytes from *offset*."""
        while size > 0:
            written = os.pwrite(self._number, _junk[:size], offset)
            offset, size = offset + written, size - written

    def __del__(self) -> None:
        if getattr(self, "_number", -1) >= 0:
            self.release()


class RealMemory:
    """Physical RAM; see `hwmodel.machine.Memory`."""

    def __init__(self, frames: int) -> None:
        self._used = bytearray(frames)

    @property
    def frames(self) -> int:
        """How many there are."""
        return len(self._used)

    def carve(self, first: int, count: int, *, zero: bool) -> RealBacking:
        """Make frames *first*.. into memory of its own: zeros, or junk where a frame was used before."""
        if first < 0 or count < 1 or first + count > len(self._used):
            raise ValueError(f"no frames {first}+{count} in a RAM of {len(self._used)}")
        backing = RealBacking(first, count)
        if not zero:
            for run in re.finditer(rb"\x01+", self._used[first : first + count]):
                backing.fill(run.start() * FRAME_SIZE, (run.end() - run.start()) * FRAME_SIZE)
        self._used[first : first + count] = b"\x01" * count
        return backing


def _copy(source: int, target: int, size: int) -> None:
    """Copy what is there of *size* bytes; holes stay holes, and a holder may have cut the file short."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(source, offset, os.SEEK_DATA)
        except OSError:
            return  # no data from here on
        end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        while start < end and (data := os.pread(source, min(CHUNK, end - start), start)):
            start += os.pwrite(target, data, start)
        offset = end
