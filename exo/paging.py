"""What this host gives for paged memory, each tried out; docs/pagers.md has the table of hosts."""

import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from libexo.launch import paging

_PROCESS_MADVISE, _MSEAL, _PAGEOUT = 440, 462, 21
"""Numbers of the two system calls, the same everywhere; and the advice to page out."""
_SCAN, _SCAN_SIZE = 0xC0606610, 96
"""PAGEMAP_SCAN of linux/fs.h, and bytes of its argument, whose first word says how many they are."""
_NOBODY = 65534
_libc = ctypes.CDLL(None, use_errno=True)


class Given(NamedTuple):
    """One thing that a host may give."""

    name: str
    needed: bool
    """Without it no program is paged."""
    there: bool
    detail: str
    """What it is for; or why it is not there."""
    linux: str
    """From which version on."""


_FEATURES = (
    (0, "faults of writes", True, "a write to a page that was not written", "5.7"),
    (5, "absent pages", True, "the first touch of a page is its pager's", "4.11"),
    (10, "pages that are there", True, "what others put into memory is not believed", "5.14"),
    (12, "write protection", True, "which pages were written; guarded pages", "5.19"),
    (14, "poison", True, "a bus error, and not a wait for ever", "6.6"),
    (13, "protection of holes", False, "not used", "6.4"),
    (15, "unasked notes of writes", False, "not used: stores were lost to it", "6.7"),
    (16, "moving pages", False, "not used: it detaches a page from its object", "6.8"),
)
"""Of a userfaultfd: bit, name, whether needed, what for, since which Linux."""


def given() -> list[Given]:
    """Return everything, what is needed first."""
    try:
        offered, why = paging.offered(), ""
    except OSError as error:
        offered, why = 0, error.strerror or str(error)
    found = [Given("faults of user code", True, not why, why or "no system call waits for a page", "5.11")]
    for bit, name, needed, use, linux in _FEATURES:
        there = bool(offered >> bit & 1)
        detail = use if there else "needs a userfaultfd" if why else "not of this host"
        found.append(Given(name, needed, there, detail, linux))
    device = os.path.exists(paging.DEVICE)  # noqa: PTH110 - as in view
    found.append(Given("device", False, device, f"{paging.DEVICE}, where the call is refused", "6.1"))
    for name, use, linux, call in (
        ("paging out", "which pages are used; needs SYS_NICE, SYS_PTRACE", "5.10", _page_out),
        ("scanning page tables", "not used: a hint of what was written", "6.7", _scan),
        ("sealed mappings", "not used: views move", "6.10", _seal),
    ):
        found.append(_tried(name, use, linux, call))
    return found


def _tried(name: str, use: str, linux: str, call: Callable[[], object]) -> Given:
    try:
        call()
    except OSError as error:
        return Given(name, False, False, f"{use} ({errno.errorcode.get(error.errno or 0, '?')})", linux)
    return Given(name, False, True, use, linux)


def _call(number: int, *arguments: object) -> None:
    if _libc.syscall(ctypes.c_long(number), *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _seal() -> None:
    """Seal nothing."""
    _call(_MSEAL, ctypes.c_void_p(0), ctypes.c_size_t(0), ctypes.c_ulong(0))


def _scan() -> None:
    """Scan nothing."""
    argument = bytearray(_SCAN_SIZE)
    argument[:8] = _SCAN_SIZE.to_bytes(8, "little")
    with open("/proc/self/pagemap", "rb") as file:  # noqa: PTH123 - as in view
        try:
            fcntl.ioctl(file, _SCAN, argument)
        except OSError as error:
            if error.errno != errno.EINVAL:  # it knows the call, and finds nothing to do
                raise


def _page_out() -> None:
    """Page out a page of a process of another user, as the kernel would."""
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        page[0] = 1
        (reading, writing), (ready, begun) = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            os.close(writing)
            with suppress(PermissionError):
                os.setuid(_NOBODY)
            os.close(begun)
            os.read(reading, 1)
            os._exit(0)
        os.close(reading)
        os.close(begun)
        os.read(ready, 1)
        os.close(ready)
        held = ctypes.c_char.from_buffer(page)
        address = ctypes.addressof(held)
        del held
        descriptor = os.pidfd_open(child)
        try:
            piece = (ctypes.c_size_t * 2)(address, mmap.PAGESIZE)
            _call(_PROCESS_MADVISE, descriptor, piece, ctypes.c_size_t(1), _PAGEOUT, ctypes.c_uint(0))
        finally:
            os.close(descriptor)
            os.close(writing)
            with suppress(ChildProcessError):
                os.waitpid(child, 0)
