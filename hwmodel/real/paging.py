"""The page faults of one host process: a userfaultfd of its own, which its launcher made and the kernel holds.

It takes faults of user code only, so no system call of the program ever waits for a page: it fails instead, and
the process can be stopped and ended at any time. A page is shown by `UFFDIO_CONTINUE`, which maps what is in the
memory file; nothing here copies. What the host says of a mapping is about that program's mapping, and about nothing
else: it maps there what it likes.

Each call takes a lock of the program's memory, which the program holds while it changes its mappings: who changes
very large ones keeps us waiting, and with many threads as long as it likes. So all calls are made in a lane of the
program's own (`hwmodel.real.lane`): nobody waits for them but who shares what it maps, and who keeps those waiting
for too long is ended (`hwmodel.real.patience`).
"""

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from hwmodel.errors import exhausted
from hwmodel.machine import Body, Exhausted, PageFault
from hwmodel.real.descriptor import RealDescriptor
from hwmodel.real.lane import Lane
from hwmodel.real.libc import control, page_out
from hwmodel.real.loop import Loop
from hwmodel.real.meeting import Meeting, Party, Talk
from kernel.abi.limits import FRAME_SIZE

T = TypeVar("T")

# linux/userfaultfd.h
_MESSAGE = struct.Struct("<B7xQQI4x")
_PAGEFAULT = 0x12
_FLAG_WRITE, _FLAG_WP = 1, 2
_READ, _READ_WRITE = 2 << 30, 3 << 30
_TYPE = 0xAA << 8
_RANGE, _PROTECT, _REGISTER, _PLACE = (struct.Struct(form) for form in ("<QQ", "<QQQ", "<QQQQ", "<QQQq"))
REGISTER, UNREGISTER, WAKE, WRITEPROTECT, CONTINUE, POISON = (
    direction | form.size << 16 | _TYPE | number
    for direction, form, number in (
        (_READ_WRITE, _REGISTER, 0),
        (_READ, _RANGE, 1),
        (_READ, _RANGE, 2),
        (_READ_WRITE, _PROTECT, 6),
        (_READ_WRITE, _PLACE, 7),
        (_READ_WRITE, _PLACE, 8),
    )
)
MISSING, WP, MINOR = 1, 2, 4
"""Modes of REGISTER."""
_PLACE_PROTECTED = 2
_PROTECT_ON, _UNPROTECT_ASLEEP = 1, 2
"""Modes of WRITEPROTECT; the second wakes nobody."""
_NOT_ADVISED = (errno.ENOMEM, errno.EBADF)
"""How it says the same where it is to page out."""
_ENTRY = 8
"""Bytes of an entry of /proc/PID/pagemap, little-endian; the highest bit says that the page is seen."""

_FAULTS = 8
"""Messages taken in a turn of the loop: so many threads of one program are heard before others are."""
_NO_MAPPING = (errno.EINVAL, errno.EPERM, errno.EBUSY, errno.ENOENT)
"""How the host says that nothing is mapped there that could be paged."""
_CHANGED = (errno.ENOENT, errno.ESRCH, errno.EINVAL)
"""How it says that the program unmapped it, or ended."""


class RealSpace:
    """The memory of one host process; see `hwmodel.machine.AddressSpace`.

    Its public methods run in the loop; what makes calls, in the lane.
    """

    def __init__(self, faults: RealDescriptor, loop: Loop, lane: Lane, meeting: Meeting) -> None:
        """Page the process whose userfaultfd is *faults*, by calls in *lane*, which is its own.

        It talks to its pagers in *meeting*.
        """
        self._faults = faults
        self._number = faults.number
        self._loop = loop
        self._lane = lane
        self._talk = Talk(lane.number)
        self.told: Callable[[Body], None] = partial(meeting.told, self._talk)
        """The fault that was just heard goes to that pager."""
        self._memory = ctypes.create_string_buffer(_PLACE.size)
        """Of calls, one after another."""
        self._protectable: list[tuple[int, int]] = []
        """Begin and end of the watched ranges that are writable. The lane's."""
        self._closed = False
        self._faulted: Callable[[PageFault], object] = bool

    def open(self, body: Party, faulted: Callable[[PageFault], object]) -> None:
        """Tell *faulted* of each fault of *body* from now on. Raises Exhausted."""
        self._talk.asker = body
        self._faulted = faulted
        self._loop.watch(self._number, self._ready)

    def _ready(self, _events: int) -> None:
        """Take in some faults."""
        try:
            messages = os.read(self._number, _FAULTS * _MESSAGE.size)
        except BlockingIOError:  # its thread was woken by something else
            return
        talk = self._talk
        for kind, flags, address, talk.thread in _MESSAGE.iter_unpack(messages):
            if kind == _PAGEFAULT:
                page = address - address % FRAME_SIZE
                self._faulted(PageFault(page, bool(flags & _FLAG_WRITE), bool(flags & _FLAG_WP)))

    def close(self) -> None:
        """Give it up, when the process has ended: until then, its launcher holds another. Twice is harmless."""
        if not self._closed:
            self._loop.unwatch(self._number)
            self._post(self._faults.close)
            self._lane.close()
            self._closed = True

    def _post(self, work: Callable[[], object]) -> None:
        if not self._closed:
            self._lane.post(work)

    def settled(self, done: Callable[[], object]) -> None:
        """Call *done* when all that was asked until now has been done, or its program has ended."""
        if self._closed:
            done()
        else:
            self._lane.when_done(done)

    # ------------------------------------------------------------------------------------------- what is asked

    def watch(
        self, address: int, size: int, done: Callable[[bool | Exhausted], object], *, writable: bool
    ) -> None:
        """Let the faults of a mapping come to the kernel; tell *done* whether there is such a mapping."""
        if self._closed:
            done(exhausted(errno.EAGAIN))
        else:
            self._post(lambda: self._tell(done, self._register(address, size, writable=writable)))

    def unwatch(self, address: int, size: int) -> None:
        """Let the host answer the faults of the range again, and wake who waits there."""
        self._post(partial(self._unregister, address, size))

    def place(
        self, address: int, size: int, failed: Callable[[Exhausted | None], object], *, writable: bool
    ) -> None:
        """Show the program what is in the memory mapped there, and wake it."""
        self._post(partial(self._place, address, address + size, failed, writable=writable))

    def protect(self, address: int, size: int, failed: Callable[[Exhausted], object]) -> None:
        """Make a write to pages the program sees a fault."""
        self._post(partial(self._protect, address, size, failed))

    def age(self, address: int, size: int, told: Callable[[bytes | Exhausted], object]) -> None:
        """Take pages from the program's view, not from memory."""
        party = self._talk.asker
        if self._closed or party is None:
            return
        try:
            process = os.pidfd_open(party.pid)  # its number is its own until `close`
        except OSError as error:
            if error.errno != errno.ESRCH:
                told(exhausted(error.errno or 0))
            return
        self._post(partial(self._age, RealDescriptor(process), party.pid, address, size, told))

    def poison(self, address: int, size: int, failed: Callable[[Exhausted | None], object]) -> None:
        """Make every access to absent pages end in SIGBUS, and wake who waits."""
        self._post(partial(self._poison, address, size, failed))

    def wake(self, address: int, size: int) -> None:
        """Have who waits there try again."""
        self._post(partial(self._wake, address, size))

    # --------------------------------------------------------------------------------------------- in the lane

    def _tell(self, told: Callable[[T], object], what: T) -> None:
        self._lane.tell(partial(told, what))

    def _register(self, address: int, size: int, *, writable: bool) -> bool | Exhausted:
        mode = MISSING | MINOR | (WP if writable else 0)
        failed = self._do(REGISTER, _REGISTER, address, size, mode, 0)[0]
        if failed in _NO_MAPPING:
            return False
        if full := _full(failed):
            return full
        self._forget(address, address + size)
        if writable:
            self._protectable.append((address, address + size))
        return True

    def _unregister(self, address: int, size: int) -> None:
        self._forget(address, address + size)
        self._do(UNREGISTER, _RANGE, address, size)

    def _place(
        self, address: int, end: int, told: Callable[[Exhausted | None], object], *, writable: bool
    ) -> None:
        """Show what can be shown of what lies from *address* to *end*."""
        protectable = self._is_protectable(address)
        mode = _PLACE_PROTECTED if protectable and not writable else 0
        while address < end:
            failed, (_, _, _, done) = self._do(CONTINUE, _PLACE, address, end - address, mode, 0)
            if not failed:
                break
            if failed == errno.EAGAIN and done > 0:
                address += done
            elif failed == errno.EEXIST:
                self._show_again(address, writable=writable and protectable)
                address += FRAME_SIZE
            elif failed == errno.EFAULT:
                self._tell(told, None)
                break
            else:
                if full := _full(failed):
                    self._tell(told, full)
                else:
                    self._wake(address, end - address)
                break

    def _show_again(self, address: int, *, writable: bool) -> None:
        """Have who waits for a page that the program sees try again, and succeed in a write if it is *writable*."""
        if writable:
            self._do(WRITEPROTECT, _PROTECT, address, FRAME_SIZE, 0)
        else:
            self._wake(address, FRAME_SIZE)

    def _protect(self, address: int, size: int, told: Callable[[Exhausted], object]) -> None:
        if self._is_protectable(address):
            failed = self._do(WRITEPROTECT, _PROTECT, address, size, _PROTECT_ON)[0]
            if full := _full(failed):
                self._tell(told, full)

    def _age(
        self,
        process: RealDescriptor,
        pid: int,
        address: int,
        size: int,
        told: Callable[[bytes | Exhausted], object],
    ) -> None:
        """Page out, and look what is seen nevertheless: the host says of no page that it spared it."""
        try:
            failed = page_out(process.number, address, size)
            if failed not in _NOT_ADVISED and (full := _full(failed)):
                self._tell(told, full)
            else:
                self._tell(told, _seen(pid, address, size))
        finally:
            process.close()

    def _poison(self, address: int, size: int, told: Callable[[Exhausted | None], object]) -> None:
        """Poison; the mark of a protected page outlives it, and is something: it goes first."""
        protectable = self._is_protectable(address)
        failed = self._do(POISON, _PLACE, address, size, 0, 0)[0]
        if failed == errno.EEXIST and protectable:
            self._do(WRITEPROTECT, _PROTECT, address, size, _UNPROTECT_ASLEEP)
            failed = self._do(POISON, _PLACE, address, size, 0, 0)[0]
            if failed == errno.EEXIST:
                self._do(WRITEPROTECT, _PROTECT, address, size, _PROTECT_ON)
        if failed in (errno.EEXIST, errno.EFAULT):
            # There is something; or the memory was cut, so every access ends like that.
            self._wake(address, size)
        full = _full(failed) if failed not in (errno.EEXIST, errno.EFAULT) else None
        if full or failed == errno.EEXIST:
            self._tell(told, full)

    def _wake(self, address: int, size: int) -> None:
        self._do(WAKE, _RANGE, address, size)

    def _forget(self, low: int, high: int) -> None:
        """What lies there is none of the writable ranges any more."""
        parts = [((start, min(end, low)), (max(start, high), end)) for start, end in self._protectable]
        self._protectable = [part for both in parts for part in both if part[0] < part[1]]

    def _is_protectable(self, address: int) -> bool:
        for start, end in self._protectable:  # noqa: SIM110 - a generator takes as long as the call it is for
            if start <= address < end:
                return True
        return False

    def _do(self, call: int, form: struct.Struct, *fields: int) -> tuple[int, tuple[int, ...]]:
        """Make a call; return the error, 0 for none, and the fields as the host left them."""
        memory = self._memory
        form.pack_into(memory, 0, *fields)
        return control(self._number, call, memory), form.unpack_from(memory)


def _seen(pid: int, address: int, size: int) -> bytes:
    """Say of each page whether process *pid* sees it, by a byte: 1 for all, where the host does not say."""
    count = size // FRAME_SIZE
    try:
        with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as table:
            entries = os.pread(table.fileno(), count * _ENTRY, address // FRAME_SIZE * _ENTRY)
    except OSError:
        entries = b""
    return bytes(entry >> 7 for entry in entries[_ENTRY - 1 :: _ENTRY]).ljust(count, b"\1")


def _full(failed: int) -> Exhausted | None:
    """Return what an error is that is the host's, and not of a program that went or unmapped."""
    return exhausted(failed) if failed and failed not in _CHANGED else None
