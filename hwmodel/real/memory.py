"""Physical RAM: each extent is a memory file of its own, so that a program maps exactly what it was given.

The kernel never maps an extent. A holder cannot change its size: growing is sealed off here, shrinking is
refused by the holder's system call filter. Shrinking is not sealed, because it is how the kernel takes
memory back: every holder's next access is then a bus error.

Memory of a ring is *sealed*: it cannot shrink either. Two environments that do not trust one another use it
directly, so neither may be able to end the other by a bus error. What cannot be cut cannot be taken back: when
the kernel wants the frames again, it leaves the memory to those who have it mapped. Nor is it emptied, as
a reader in the middle of a message would read zeros.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence

from hwmodel.machine import Deed, Exhausted
from hwmodel.real.cutting import CUT, data_from, drain, shorten
from hwmodel.real.descriptor import RealDescriptor, lendable, own_copy
from hwmodel.real.errors import lending
from hwmodel.real.libc import punch_hole
from hwmodel.real.loop import close_quietly
from kernel.abi.limits import FRAME_SIZE

JUNK = b"\xa5"
"""Content of a frame that was used before, unless zeros were asked for."""
WORD = 8
"""Bytes of a word."""
CHUNK = 1 << 20
"""Bytes written or copied by one host call."""
PIECE = 8 << 20
"""Bytes in one step of a deed."""
SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
ALL_SEALS = SEALS | fcntl.F_SEAL_SHRINK
_junk = memoryview(JUNK * CHUNK)
Closer = Callable[[int], object]
"""Closes a descriptor later: the last one of a large file frees its memory, which takes long."""


@lending
def memory_file(name: str, size: int, seals: int, *, lent: bool = True) -> int:
    """Return the descriptor of a new memory file of zeros that only we may open again. Raises Exhausted.

    One that is not *lent*, but the kernel's own, may use the last descriptor.
    """
    number = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    if lent:
        lendable(number)
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

    __slots__ = ("_closer", "_copied", "_name", "_number", "_sealed", "_size", "_stale")

    def __init__(
        self,
        first: int,
        count: int,
        stale: Sequence[range] = (),
        closer: Closer = close_quietly,
        pages: int = 0,
        name: str = "",
    ) -> None:
        self._name = name or f"exo-{first}+{count}"
        self._size = (pages or count) * FRAME_SIZE
        self._sealed = False
        self._copied = -1
        self._closer = closer
        self._stale = stale
        """Bytes of frames that were used before."""
        self._number = memory_file(self._name, self._size, SEALS)

    def descriptor(self, *, writable: bool) -> RealDescriptor:
        """Return a descriptor by which to map it; without *writable* it cannot be mapped for writing."""
        return own_copy(self._file(), writable=writable)

    def _file(self) -> int:
        """Return the memory file; one that became empty is made at its first use. Raises Exhausted."""
        if self._number < 0:
            self._number = memory_file(self._name, self._size, SEALS)
        return self._number

    def word(self, at: int) -> int | None:
        """Return the 64-bit word at byte *at*; None: it is being taken, or the host does not read it.

        By a call, since a mapping would be a bus error where the file was cut. The host copies an aligned word in
        one piece.
        """
        try:
            data = os.pread(self._number, WORD, at) if self._number >= 0 else bytes(WORD)
        except OSError:
            return None
        return int.from_bytes(data, "little") if len(data) == WORD else None

    def fill(self) -> Deed:
        """Overwrite what frames used before still hold. Raises Exhausted."""
        for run in self._stale:
            yield from _write_junk(self._number, run)

    def copy(self) -> Deed:
        """Copy the contents to new memory, for `replace`. Raises Exhausted: then nothing has changed.

        What holders write meanwhile may be missing from it, until `replace`.
        """
        new = memory_file(self._name, self._size, SEALS)
        try:
            yield from copy_data(self._file(), new, self._size)
            self._copied, new = new, -1
        finally:
            if new >= 0:
                os.close(new)

    @property
    def copied(self) -> bool:
        """Whether there is a copy, for `replace`."""
        return self._copied >= 0

    def forget_copy(self) -> None:
        """Free the copy, in time that grows with its size. Harmless when there is none."""
        number, self._copied = self._copied, -1
        if number >= 0:
            self._closer(number)

    def replace(self) -> Deed:
        """Become the copy, or empty, and take the old memory from all who have it mapped."""
        old, self._number, self._copied = self._number, self._copied, -1
        yield from _cut(old, self._size, self._number)

    def split(self, page: int) -> "tuple[RealBacking, Deed, Deed]":
        """Return new memory for the pages from *page* on, what copies them there, and what takes them from all.

        Raises Exhausted, as the copying does: then nothing has changed.
        """
        size, left = page * FRAME_SIZE, self._size // FRAME_SIZE - page
        whole, _, start = self._name.partition("@")
        made = RealBacking(0, left, closer=self._closer, name=f"{whole}@{int(start or 0) + page}")
        if self._number < 0:
            return made, iter(()), self._shorten(made, size)
        copying = copy_data(self._number, made._file(), self._size - size, size)
        return made, copying, self._shorten(made, size)

    def _shorten(self, made: "RealBacking", size: int) -> Deed:
        if self._number >= 0:
            yield from drain(self._number, self._size, size, made._file())  # noqa: SLF001
        self._size = size

    def seal(self) -> tuple[RealDescriptor, Deed]:
        """Become new, empty memory that nobody can cut; the deed takes the old from all. Raises Exhausted."""
        new = memory_file(self._name, self._size, ALL_SEALS)
        try:
            descriptor = own_copy(new, writable=True)
        except Exhausted:
            os.close(new)
            raise
        old, self._number, self._sealed = self._number, new, True
        return descriptor, _cut(old, self._size)

    def unseal(self) -> None:
        """Become new, empty memory that can be taken back; sealed memory is left to those who have it mapped."""
        if self._number >= 0:
            os.close(self._number)
        self._number, self._sealed = -1, False

    def release(self) -> Deed:
        """Take the memory from all who have it mapped, unless it is sealed, and free it.

        Twice is harmless.
        """
        number, self._number = self._number, -1
        sealed, self._sealed = self._sealed, False
        self.forget_copy()
        if number >= 0 and sealed:
            os.close(number)
        else:
            yield from _cut(number, self._size)

    def punch(self, first: int, count: int) -> Deed:
        """Take pages from everybody who has them mapped: they are holes again. Raises Exhausted."""
        for start, end in _pieces(range(first * FRAME_SIZE, (first + count) * FRAME_SIZE), CUT):
            if self._number >= 0:
                with lending:
                    punch_hole(self._number, start, end - start)
            yield

    def __del__(self) -> None:
        if getattr(self, "_number", -1) >= 0 or getattr(self, "_copied", -1) >= 0:
            for _ in self.release():
                pass


class RealMemory:
    """Physical RAM; see `hwmodel.machine.Memory`."""

    def __init__(self, frames: int, closer: Closer = close_quietly) -> None:
        self._used = bytearray(frames)
        self._closer = closer

    @property
    def frames(self) -> int:
        """The number of frames."""
        return len(self._used)

    def carve(self, first: int, count: int, *, zero: bool, pages: int = 0) -> RealBacking:
        """Make frames *first*.. into memory of its own: see `hwmodel.machine.Memory`. Raises Exhausted."""
        if first < 0 or count < 1 or first + count > len(self._used):
            raise ValueError(f"no frames {first}+{count} in a RAM of {len(self._used)}")
        used = re.finditer(rb"\x01+", self._used[first : first + count]) if not zero else ()
        stale = [range(run.start() * FRAME_SIZE, run.end() * FRAME_SIZE) for run in used]
        backing = RealBacking(first, count, stale, self._closer, pages)
        self._used[first : first + count] = b"\x01" * count
        return backing


def _pieces(span: range, size: int) -> Iterator[tuple[int, int]]:
    """Yield first and last byte (exclusive) of each piece of *span*."""
    return ((at, min(at + size, span.stop)) for at in range(span.start, span.stop, size))


def _write_junk(number: int, span: range) -> Deed:
    """Write junk over *span* of a memory file. Raises Exhausted."""
    for first, last in _pieces(span, PIECE):
        at = first
        with lending:
            while at < last:
                at += os.pwrite(number, _junk[: last - at], at)
        yield


def _cut(number: int, size: int, into: int = -1) -> Deed:
    """Cut a memory file to nothing, from its end, and close it. Raises Exhausted, where no host should.

    What it holds then is in the file *into*, if there is one, which is a copy of it.
    """
    if number < 0:
        return
    with contextlib.ExitStack() as closing:
        closing.callback(os.close, number)
        yield from shorten(number, size, 0) if into < 0 else drain(number, size, 0, into)


def copy_data(source: int, target: int, size: int, skip: int = 0) -> Deed:
    """Copy *size* bytes behind *skip*, or as many as are there.

    Holes stay holes, and a holder may have cut the file short.
    """
    offset, stop = skip, skip + size
    while offset < stop:
        with lending:
            if (start := data_from(source, offset)) < 0:
                return
            offset = end = min(os.lseek(source, start, os.SEEK_HOLE), stop)
        for first, last in _pieces(range(start, end), PIECE):
            at = first
            with lending:
                while at < last and (data := os.pread(source, min(CHUNK, last - at), at)):
                    at += os.pwrite(target, data, at - skip)
            yield
