"""The file of a pager on a real host: nothing waits for it, errors are numbers, and all that was asked is told."""

import errno
import os
import select
import tempfile
import threading
from collections.abc import Callable, Iterator

import pytest

from hwmodel.real.descriptor import unnamed
from libexo.host.backing import RealBacking

SIZE = 1 << 16


@pytest.fixture
def number() -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        made = unnamed(folder, SIZE)
        assert os.listdir(folder) == []  # noqa: PTH208
        yield made
        os.close(made)


def asked(backing: RealBacking, ask: Callable[..., None], *arguments: object) -> int:
    """Ask, and wait to be told."""
    told: list[int] = []
    ask(*arguments, told.append)
    while not told:
        select.select([backing.fileno()], (), (), 10)
        backing.settle()
    return told[0]


def test_what_is_written_is_read(number: int) -> None:
    """Bytes of a mapping go to a place in the file and come back from there, all of them."""
    backing = RealBacking(number)
    view, back = memoryview(bytearray(os.urandom(SIZE))), memoryview(bytearray(SIZE))

    assert backing.size == SIZE
    assert asked(backing, backing.write, 4096, view, 8192, 20000) == 0
    assert asked(backing, backing.read, 4096, back, 100, 20000) == 0
    assert back[100:20100] == view[8192:28192]
    assert not any(back[20100:])


def test_what_the_host_has(number: int) -> None:
    """What was just written is read at once, or said not to be in the host's memory; what is not there is not."""
    backing = RealBacking(number)
    view, back = memoryview(bytearray(os.urandom(SIZE))), memoryview(bytearray(SIZE))
    assert asked(backing, backing.write, 4096, view, 0, 8192) == 0

    assert backing.read_now(4096, back, 0, 8192) is (back[:8192] == view[:8192])
    assert not backing.read_now(SIZE - 4096, back, 0, 8192)


def test_each_is_told(number: int) -> None:
    """Many that are asked for before anything is done are done in order, and each is told once."""
    backing = RealBacking(number)
    view, told = memoryview(bytearray(SIZE)), []
    for page in range(16):
        view[page * 4096] = page + 1
        backing.write(0, view, page * 4096, 4096, lambda number, page=page: told.append((page, number)))  # type: ignore[misc]
    while len(told) < 16:
        select.select([backing.fileno()], (), (), 10)
        backing.settle()

    assert told == [(page, 0) for page in range(16)]
    assert os.pread(number, 1, 0) == b"\x10"


def test_errors(number: int) -> None:
    """What the host refuses is its error's number; a file that is too short is an I/O error."""
    view = memoryview(bytearray(SIZE))
    backing = RealBacking(number)
    assert asked(backing, backing.read, SIZE - 4096, view, 0, 8192) == errno.EIO

    read_only = os.open(f"/proc/self/fd/{number}", os.O_RDONLY)
    backing = RealBacking(read_only)
    assert asked(backing, backing.write, 0, view, 0, 4096) == errno.EBADF
    os.close(read_only)


def test_no_room() -> None:
    """A file that the host cannot make is refused with the place, the size, and where to change it."""
    with pytest.raises(
        OSError, match=r"cannot have 1 MiB of swap there: Not a directory; see \[machine\] swap"
    ):
        unnamed(f"{__file__}/gone", 1 << 20)


def test_no_thread(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the host has no thread to wait for the disk, what was asked for fails; the next time it is done."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    backing, view, told = RealBacking(number), memoryview(bytearray(SIZE)), list[int]()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        backing.write(0, view, 0, 4096, told.append)
    assert told == [errno.EAGAIN]
    assert asked(backing, backing.write, 0, view, 0, 4096) == 0
