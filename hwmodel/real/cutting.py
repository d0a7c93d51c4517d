"""Memory files that are cut, so that no store to them is lost.

A copy that is made before the cut lacks what running programs store meanwhile. What ends their stores is the cut
itself. So each run of pages is put into a pipe, cut off the file, and read from the pipe: the pipe holds the very
pages, which nobody can reach any more. That is so where each page of a memory file is by itself; of a larger one
the host clears what is cut off, so there the copy has to do.
"""

import contextlib
import errno
import fcntl
import functools
import os
import re
from pathlib import Path

from hwmodel.machine import Deed
from hwmodel.real.errors import lending

CUT = 64 << 20
"""Bytes cut off in one step of a deed."""
ROOM = 1 << 20
"""Bytes that a pipe is to hold."""
_HUGE = Path("/sys/kernel/mm/transparent_hugepage")
_SMALL = {"never", "deny", "inherit"}


def shorten(number: int, size: int, to: int) -> Deed:
    """Cut the end of a memory file of *size* bytes off. Raises Exhausted, where no host should."""
    for left in reversed(range(to, size, CUT)):
        with lending:
            os.ftruncate(number, left)
        yield


def drain(number: int, size: int, to: int, target: int) -> Deed:
    """Cut the end of a memory file off, likewise; what it holds then is in the file *target*, a copy of it.

    Raises Exhausted, where no host should.
    """
    if not pages_are_small():
        yield from shorten(number, size, to)
        return
    with contextlib.ExitStack() as closing:
        reading, writing, room = -1, -1, CUT
        with contextlib.suppress(OSError):  # where it lends no pipe, or none so large, the copy has to do
            reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            closing.callback(os.close, reading)
            closing.callback(os.close, writing)
            room = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, ROOM)
        for at in reversed(range(to, size, room)):
            held = _hold(number, at, min(at + room, size), writing) if room < CUT else []
            with lending:
                os.ftruncate(number, at)
            for run in held:
                _store(target, run.start - to, reading, len(run))
            yield


def _hold(number: int, at: int, end: int, writing: int) -> list[range]:
    """Put the pages there into a pipe; return where those that it holds lie. Holes stay holes."""
    held: list[range] = []
    with contextlib.suppress(OSError):  # what it does not hold is as it was copied
        while 0 <= (at := data_from(number, at)) < end:
            stop = min(os.lseek(number, at, os.SEEK_HOLE), end)
            while at < stop:
                moved = os.splice(number, writing, stop - at, offset_src=at)
                held.append(range(at, at + moved))
                at += moved or end
    return held


def _store(target: int, offset: int, reading: int, size: int) -> None:
    """Write what a pipe holds, over the copy of it. Where the host has no room for more, the copy has to do."""
    while size > 0 and (data := os.read(reading, size)):
        with contextlib.suppress(OSError):
            os.pwrite(target, data, offset)
        offset, size = offset + len(data), size - len(data)


def data_from(number: int, offset: int) -> int:
    """Return the offset of the next data in a file, from *offset* on; -1: there is none."""
    try:
        return os.lseek(number, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return -1


@functools.cache
def pages_are_small() -> bool:
    """Say whether the host never makes several pages of a memory file one: else a cut may clear part of it."""
    chosen = [
        re.findall(r"\[(\w+)\]", path.read_text(encoding="ascii"))
        for path in (_HUGE / "shmem_enabled", *_HUGE.glob("hugepages-*/shmem_enabled"))
        if path.exists()
    ]
    return all(word in _SMALL for words in chosen for word in words)
