"""Mappings of a real process: put in place, put anew where their memory moved, touched.

Memory that is paged is nobody's to touch before the kernel watches it: an access would find zeros that no pager
supplied. So it lies there without any right until then. Where memory moves, one strand may touch it while another
puts it there: it waits (`Renewal.denied`).
"""

import ctypes
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import cast

from kernel.abi.limits import FRAME_SIZE
from libexo.errors import ExoError
from libexo.host.base import Opened, Piece

AGAIN = 16
"""How often the same file is put where an access faults: another strand may have put one there that was older. What
faults although it was not cut would do so for ever."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.msync.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.memcpy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_DONT_NEED = 4
_SYNCHRONOUS = 4
_PROT_READ, _PROT_WRITE, _MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED = 1, 2, 1, 2, 16
_MAP_FAILED = ctypes.c_void_p(-1).value
_ADD = "_ZN9__gnu_cxx18__exchange_and_addEPVii"
"""An atomic addition, from the library that libzmq needs: what another program stores meanwhile is not undone."""

unmap = _libc.munmap

_BEYOND = 1 << 40
"""More than any file has."""
_NOTHING = 0x4022  # MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
_protected: dict[int, bytearray] = {}
"""Of mappings of which pages were protected: a byte for each page, 1 for those."""
_files: dict[int, int] = {}
"""Which file lies where, of what is paged: touching it again would help nothing while it is the same."""
_putting = threading.RLock()
"""Of the strand that puts memory that is paged: what another put in the middle of that nobody would watch."""


class _Puts:
    """How often that was done."""

    done = 0


class _Strand(threading.local):
    """How often it had been done when this strand last tried an access again."""

    puts = 0


_strand = _Strand()


def put(
    address: int | None,
    descriptor: int,
    size: int,
    *,
    writable: bool,
    opened: Opened | None = None,
    offset: int = 0,
) -> int:
    """Map *descriptor* and close it; at *offset* of the mapping at *address*, where given. Return where.

    Raises OSError, and what *opened* raises.
    """
    with _putting if opened is not None else nullcontext():
        return _put(address, descriptor, size, offset, opened, writable=writable)


def _put(
    address: int | None, descriptor: int, size: int, offset: int, opened: Opened | None, *, writable: bool
) -> int:
    rights = _PROT_READ | (_PROT_WRITE if writable else 0)
    # The host tells of faults in a read-only view of shared memory only if it is private: it stays unwritten.
    flags = _MAP_PRIVATE if opened is not None and not writable else _MAP_SHARED
    try:
        protection = 0 if opened is not None else rights
        at = None if address is None else address + offset
        mapped = _libc.mmap(
            at, size, protection, flags | (_MAP_FIXED if address is not None else 0), descriptor, 0
        )
        error = ctypes.get_errno()
        if mapped == _MAP_FAILED:
            raise OSError(error, f"cannot map {size} bytes: {os.strerror(error)}")
        file = os.fstat(descriptor).st_ino if opened is not None else 0
        if opened is not None:
            _open(int(mapped), size, rights, opened, descriptor, begins=address)
    finally:
        os.close(descriptor)
    if opened is not None:
        for covered in [known for known in _files if 0 < known - int(mapped) < size]:
            del _files[covered]
        _files[int(mapped)] = file
        _Puts.done += 1
    first = offset // FRAME_SIZE
    pages = _protected.get(int(mapped) - offset, b"")[first : first + size // FRAME_SIZE]
    for page, is_protected in enumerate(pages):
        if is_protected:
            _libc.mprotect(int(mapped) + page * FRAME_SIZE, FRAME_SIZE, _PROT_READ)
    return int(mapped)


def reserve(size: int, address: int | None = None) -> int:
    """Have *size* bytes of addresses lead nowhere, those at *address* or any; return where. Raises OSError."""
    fixed = _MAP_FIXED if address is not None else 0
    mapped = _libc.mmap(address, size, 0, _NOTHING | fixed, -1, 0)
    if mapped == _MAP_FAILED:
        raise OSError(ctypes.get_errno(), f"cannot reserve {size} bytes: {os.strerror(ctypes.get_errno())}")
    _protected.pop(int(mapped), None)
    return int(mapped)


def protect(address: int, size: int, offset: int, length: int, *, writable: bool) -> None:
    """Have a write to part of the mapping of *size* bytes at *address* end the program, or not.

    It holds for new memory that is put there, too. Raises OSError.
    """
    pages = _protected.setdefault(address, bytearray(size // FRAME_SIZE))
    first, count = offset // FRAME_SIZE, length // FRAME_SIZE
    pages[first : first + count] = bytes([not writable]) * count
    rights = _PROT_READ | (_PROT_WRITE if writable else 0)
    if _libc.mprotect(address + offset, length, rights):
        raise OSError(ctypes.get_errno(), f"cannot protect: {os.strerror(ctypes.get_errno())}")


def _open(
    address: int, size: int, rights: int, opened: Opened, descriptor: int, *, begins: int | None
) -> None:
    """Have the kernel watch a mapping that *begins* there, or at *address*, then let what is at that be touched."""
    try:
        opened(address if begins is None else begins)
    except BaseException:
        if begins is None:
            unmap(address, size)
        else:
            _take(address, size, rights, descriptor)
        raise
    if _libc.mprotect(address, size, rights):
        raise OSError(ctypes.get_errno(), "cannot give rights to what was mapped")


def _take(address: int, size: int, rights: int, descriptor: int) -> None:
    """Have an access there end as any to memory that was taken: SIGBUS, for it lies beyond the end of the file."""
    _libc.mmap(address, size, rights, _MAP_SHARED | _MAP_FIXED, descriptor, _BEYOND)


def touch(address: int, *, write: bool) -> None:
    """Access what lies at *address*, a multiple of 4; the interpreter is free meanwhile."""
    if not write:
        _libc.memcpy(ctypes.addressof(ctypes.c_ubyte()), address, 1)
        return
    _adder()(address, 0)


def forget(address: int, size: int) -> None:
    """Have pages of shared memory be looked for anew at the next access. Raises OSError."""
    if _libc.madvise(address, size, _DONT_NEED):
        raise OSError(ctypes.get_errno(), f"cannot forget pages: {os.strerror(ctypes.get_errno())}")


def sync(address: int, size: int) -> None:
    """Have what was stored in the mapping of a file be on its device. Raises OSError."""
    start = address // FRAME_SIZE * FRAME_SIZE
    if _libc.msync(start, address + size - start, _SYNCHRONOUS):
        raise OSError(ctypes.get_errno(), f"not all was written: {os.strerror(ctypes.get_errno())}")


class _Adder:
    """Looked up when it is first needed: few programs are paged."""

    function: Callable[[int, int], object] | None = None


def _adder() -> Callable[[int, int], object]:
    if _Adder.function is None:
        function = getattr(ctypes.CDLL("libstdc++.so.6"), _ADD)
        function.argtypes = (ctypes.c_void_p, ctypes.c_int)
        _Adder.function = function
    return _Adder.function


class Renewal:
    """Mends a view whose memory moved, by what is there now."""

    def __init__(self, renew: Callable[[int], Piece], opened: Opened | None = None) -> None:
        """Ask *renew* for it, each time; what is paged is *opened* again."""
        self._renew = renew
        self._opened = opened
        self._last = self._times = 0
        """The file that was put there last, and how often."""

    def __call__(self, address: int, _size: int, byte: int) -> bool:
        """Put the piece with *byte* there; False: nothing is there any more, or nothing new."""
        try:
            descriptor, writable, (offset, size) = self._renew(byte)
            file = os.fstat(cast("int", descriptor)).st_ino
            if self._opened is not None and _files.get(address + offset) == file:
                os.close(cast("int", descriptor))
                return _tries_again()
            self._last, self._times = file, self._times + 1 if file == self._last else 1
            number = cast("int", descriptor)
            put(address, number, size, writable=writable, opened=self._opened, offset=offset)
        except (ExoError, OSError):
            return False
        return self._times <= AGAIN

    def denied(self, _address: int, _size: int, _byte: int) -> bool:
        """Wait for who puts it there; False: nobody does, so it gives no access."""
        with _putting:
            return _tries_again()


def _tries_again() -> bool:
    """Say whether to repeat an access to what is there: once after each put, for it may have met what was before.

    What fails then, too, was not taken: it is to a page that nobody supplies.
    """
    before, _strand.puts = _strand.puts, _Puts.done
    return before != _strand.puts
