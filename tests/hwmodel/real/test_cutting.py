"""Memory that is cut while programs store to it."""

import ctypes
import fcntl
import mmap
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hwmodel.machine import Exhausted, do
from hwmodel.real import cutting
from hwmodel.real.memory import RealBacking
from kernel.abi.limits import FRAME_SIZE

pytestmark = pytest.mark.system
CALLS = [(os, name) for name in ("memfd_create", "ftruncate", "pipe2", "splice", "pwrite", "pread", "lseek")]


@contextmanager
def filled(pages: int) -> Iterator[RealBacking]:
    """Memory each page of which begins with its number."""
    backing = RealBacking(0, pages)
    for page in range(pages):
        os.pwrite(backing._number, bytes([page % 250 + 1]), page * FRAME_SIZE)
    yield backing
    do(backing.release())


def split(backing: RealBacking, page: int) -> RealBacking:
    """Return memory of its own for what is there from *page* on."""
    other, *deeds = backing.split(page)
    for deed in deeds:
        do(deed)
    return other


def held(backing: RealBacking) -> list[int]:
    pages = range(0, os.fstat(backing._number).st_size, FRAME_SIZE)
    return [os.pread(backing._number, 1, at)[0] for at in pages]


def storing(number: int, size: int) -> tuple[int, mmap.mmap]:
    """Have another process count in the last word of a memory file until it faults; return it, and its count."""
    count = mmap.mmap(-1, FRAME_SIZE)
    memory = mmap.mmap(number, size)
    pid = os.fork()
    if not pid:
        there = ctypes.c_uint64.from_buffer(memory, size - 8)
        said = ctypes.c_uint64.from_buffer(count)
        while True:
            there.value += 1
            said.value = there.value
    memory.close()
    while not any(count[:8]):
        pass
    return pid, count


@pytest.mark.parametrize("pages", [1, 3, 600])
def test_no_store_is_lost(pages: int) -> None:
    """What another process stored last before it faulted is in the new memory, be it split off or replaced."""
    if not cutting.pages_are_small():
        pytest.skip("the host makes several pages of a memory file one")
    for way in ("split", "replace"):
        with filled(pages + 1) as backing:
            pid, count = storing(backing._number, (pages + 1) * FRAME_SIZE)
            if way == "split":
                found = split(backing, 1)
            else:
                found = backing
                do(backing.copy())
                do(backing.replace())
            status = os.waitpid(pid, 0)[1]
            last = struct.unpack("<Q", os.pread(found._number, 8, os.fstat(found._number).st_size - 8))[0]
            said = struct.unpack("<Q", count[:8])[0]
            do(found.release())

        assert (os.WTERMSIG(status), last - said in (0, 1)) == (signal.SIGBUS, True)


@pytest.mark.parametrize("pages", [[], [300], [100, 102, 104, 355, 357, 511]])
def test_holes_stay_holes(pages: list[int]) -> None:
    """What nobody stored to takes no memory of the host in new memory either."""
    backing = RealBacking(0, 512)
    for page in pages:
        os.pwrite(backing._number, b"x", page * FRAME_SIZE)
    other = split(backing, 100)
    found = [page + 100 for page, byte in enumerate(held(other)) if byte]
    backing_has, other_has = (os.fstat(each._number).st_blocks * 512 for each in (backing, other))
    do(other.release())
    do(backing.release())

    assert (found, backing_has) == (pages, 0)
    assert other_has <= len(pages) * FRAME_SIZE


@pytest.mark.parametrize(("module", "name"), [*CALLS, (fcntl, "fcntl")], ids=lambda each: str(each)[:12])
@pytest.mark.parametrize("at", range(4))
def test_a_host_that_refuses(module: object, name: str, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A split that the host refuses has changed nothing; what it does without the pipe keeps what was copied."""
    with filled(3) as backing:
        made, call = 0, getattr(module, name)

        def failing(*arguments: object, **named: object) -> object:
            nonlocal made
            made += 1
            if made > at:
                raise OSError(28, "no room")
            return call(*arguments, **named)

        found = None
        with monkeypatch.context() as patch:
            patch.setattr(module, name, failing)
            try:
                found = split(backing, 1)
            except Exhausted:
                patch.undo()
                assert held(backing) == [1, 2, 3]
            else:
                patch.undo()
                assert (held(backing), held(found)) == ([1], [2, 3])
        if found is not None:
            do(found.release())


def test_a_host_with_large_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the copy has to do."""
    monkeypatch.setattr(cutting, "pages_are_small", lambda: False)
    with filled(3) as backing:
        other = split(backing, 2)

        assert (held(backing), held(other)) == ([1, 2], [3])
        do(other.release())
