"""Guarded views on the real host: memory that is taken from under them."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from libexo.errors import ExoError
from libexo.host.base import Piece
from libexo.host.guard import _guarded, guard
from libexo.host.memory import AGAIN, Renewal, _Puts
from libexo.host.real import RealHost

ROOT = Path(__file__).parents[3]
SIZE = 1 << 16
PROGRAM = """
import os
from libexo.host.guard import guard
from libexo.host.real import RealHost
def mapped():
    number = os.memfd_create("memory")
    os.ftruncate(number, 4096)
    return number, RealHost.map(None, os.dup(number), 4096, writable=True)
(kept, guarded), (cut, bare) = mapped(), mapped()
guard(guarded)
os.ftruncate(kept, 0)
print(guarded[0], flush=True)
os.ftruncate(cut, 0)
print(bare[0], flush=True)
"""


def mapped() -> tuple[int, memoryview]:
    """A memory file, and a view of it."""
    number = os.memfd_create("memory")
    os.ftruncate(number, SIZE)
    return number, RealHost.map(RealHost.__new__(RealHost), os.dup(number), SIZE, writable=True)


def test_what_was_taken_is_zeros() -> None:
    """Reads go on and find zeros, in the middle of a copy too; writes go nowhere."""
    number, view = mapped()
    view[:] = b"x" * SIZE
    guard(view)
    os.ftruncate(number, SIZE // 2 // 4096 * 4096)
    copied = bytes(view)
    view[0] = 7
    os.ftruncate(number, 0)

    assert copied[-4096:] == bytes(4096)
    assert view[1:] == bytes(SIZE - 1)
    assert os.fstat(number).st_size == 0
    os.close(number)


def file(byte: bytes) -> int:
    """A memory file full of *byte*."""
    number = os.memfd_create("memory")
    os.write(number, byte * SIZE)
    return number


def test_what_moved_is_found_where_it_was() -> None:
    """Each time the memory is taken the access finds what took its place, and so does a slice made before."""
    number, view = mapped()
    part = view[SIZE // 2 :]
    files = [file(b"1"), file(b"2")]
    guard(view, Renewal(lambda _: Piece(os.dup(files[0]), True, (0, SIZE))))
    os.ftruncate(number, 0)
    first = bytes(part)
    os.ftruncate(files.pop(0), 0)
    view[0] = 7

    assert (first, bytes(part), view[0]) == (b"1" * (SIZE // 2), b"2" * (SIZE // 2), 7)
    os.close(number)
    os.close(files[0])


def test_what_cannot_be_mended() -> None:
    """Nothing there, by an error of ours or of the host's, and the same file again, which was not cut since."""

    def nothing(_: int) -> Piece:
        raise ExoError("taken")

    number, view = mapped()
    address = ctypes.addressof(view.obj)  # type: ignore[arg-type]  # a mapped view is of a ctypes array
    again = Renewal(lambda _: Piece(os.dup(number), True, (0, SIZE)))

    assert not Renewal(nothing)(address, SIZE, 0)
    assert not Renewal(lambda _: Piece(-1, True, (0, SIZE)))(address, SIZE, 0)
    assert [again(address, SIZE, 0) for _ in range(AGAIN + 1)] == [True] * AGAIN + [False]
    os.close(number)


def test_a_guard_goes_with_its_view() -> None:
    """Nothing is kept of a view that is gone: its addresses may be somebody else's next."""
    number, view = mapped()
    guard(view)
    address = ctypes.addressof(view.obj)  # type: ignore[arg-type]  # a mapped view is of a ctypes array
    assert address in _guarded
    view.release()
    del view

    assert address not in _guarded
    os.close(number)


def test_what_is_not_guarded_ends_as_before() -> None:
    """Another view, whose memory is taken, ends the program by SIGBUS, after a guarded one did not."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )

    assert (done.stdout, done.returncode) == ("0\n", -signal.SIGBUS)


def test_other_memory_is_left_alone() -> None:
    """A view that is no mapping, as on the simulated machine, needs no guard."""
    before = dict(_guarded)
    guard(memoryview(bytearray(16)))

    assert _guarded == before


DENIED = """
import threading
from libexo.host import memory
renewal = memory.Renewal(lambda _: 1 / 0, opened=lambda _: None)
number, view = mapped()
guard(view, denied=renewal.denied)
address, libc = RealHost.address(RealHost.__new__(RealHost), view), memory._libc
libc.mprotect(address, 4096, 0)
def puts():
    with memory._putting:
        begun.set()
        libc.mprotect(address, 4096, 3)
        memory._Puts.done += 1
begun = threading.Event()
threading.Thread(target=puts).start()
begun.wait()
print(view[0], flush=True)
libc.mprotect(address, 4096, 0)
print(view[0], flush=True)
"""


def test_what_is_put_there_just_now_is_waited_for() -> None:
    """An access to what another strand puts there finds it; where nobody does, it ends as before."""
    program = PROGRAM.partition("(kept, guarded)")[0] + DENIED
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )

    assert (run.stdout, run.returncode) == ("0\n", -signal.SIGSEGV)


def test_an_access_is_tried_again_once_after_each_put() -> None:
    """Of memory that is paged, and the same file: it may have met what was there before, and then it has not."""
    number, view = mapped()
    address = ctypes.addressof(view.obj)  # type: ignore[arg-type]  # a mapped view is of a ctypes array
    again = Renewal(lambda _: Piece(os.dup(number), True, (0, SIZE)), opened=lambda _: None)
    first = again(address, SIZE, 0)
    found = [again(address, SIZE, 0) for _ in range(3)]
    _Puts.done += 1

    assert (first, found) == (True, [True, False, False])
    assert [again(address, SIZE, 0) for _ in range(2)] == [True, False]
    os.close(number)
